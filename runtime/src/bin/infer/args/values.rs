//! The values of options, from their texts: what clap has no type for.

use std::num::NonZeroUsize;
use std::time::Duration;

use infer::{DeviceChoice, DirGrant};
use infer_core::{Device, Performance, Precision};
use tracing_subscriber::EnvFilter;

/// Numbers of callers.
#[derive(Clone, Debug)]
pub(crate) struct Levels(pub(crate) Vec<NonZeroUsize>);

pub(crate) fn parse_precision(text: &str) -> Result<Precision, String> {
    Ok(match text {
        "f32" => Precision::F32,
        "f16" => Precision::F16,
        "bf16" => Precision::BF16,
        "auto" => Precision::Auto,
        _ => return Err("expected f32, f16, bf16 or auto".to_owned()),
    })
}

pub(crate) fn parse_count(text: &str) -> Result<NonZeroUsize, String> {
    let count = text.trim().parse();
    count.map_err(|_| "expected a number above 0".to_owned())
}

/// The most numbers of callers, and callers.
const MOST_CALLERS: usize = 4096;

pub(crate) fn parse_levels(text: &str) -> Result<Levels, String> {
    let wrong =
        || format!("expected numbers from 1 to {MOST_CALLERS}: 4, or 1,2,4, or 1:8, or 1:8:2");
    let number = |text: &str| {
        let number = text.trim().parse().ok().and_then(NonZeroUsize::new);
        number
            .filter(|number| number.get() <= MOST_CALLERS)
            .ok_or_else(wrong)
    };
    let parts: Vec<&str> = text.split(':').collect();
    let (first, last, step) = match parts[..] {
        [_] => {
            let numbers = text.split(',').map(number);
            return Ok(Levels(numbers.collect::<Result<_, _>>()?));
        }
        [first, last] => (number(first)?, number(last)?, NonZeroUsize::MIN),
        [first, last, step] => (number(first)?, number(last)?, number(step)?),
        _ => return Err(wrong()),
    };
    if first > last {
        return Err(wrong());
    }
    let numbers = (first.get()..=last.get()).step_by(step.get());
    Ok(Levels(numbers.filter_map(NonZeroUsize::new).collect()))
}

pub(crate) fn parse_shape(text: &str) -> Result<(String, Vec<usize>), String> {
    let wrong = || "expected INPUT=DIMENSIONS, such as x=1,3,224,224".to_owned();
    let (name, dimensions) = text.rsplit_once('=').ok_or_else(wrong)?;
    let dimensions: Result<Vec<usize>, _> = match dimensions {
        "" => Ok(Vec::new()),
        some => some
            .split(',')
            .map(|number| number.trim().parse())
            .collect(),
    };
    match (name, dimensions) {
        ("", _) | (_, Err(_)) => Err(wrong()),
        (name, Ok(dimensions)) => Ok((name.to_owned(), dimensions)),
    }
}

pub(crate) fn parse_performance(text: &str) -> Result<Performance, String> {
    match text {
        "latency" => Ok(Performance::Latency),
        "throughput" => Ok(Performance::Throughput),
        _ => Err("expected latency or throughput".to_owned()),
    }
}

pub(crate) fn parse_filter(text: &str) -> Result<EnvFilter, String> {
    let filter = EnvFilter::builder().parse(text);
    filter.map_err(|error| format!("{error}: expected, say, `debug` or `infer=debug,warn`"))
}

/// A device by our name, or by OpenVINO's (`CPU`, `GPU`, `GPU.1`, `NPU`).
pub(crate) fn parse_device(text: &str) -> Result<DeviceChoice, String> {
    let gpu = |index: &str| {
        index
            .parse()
            .map(Device::Gpu)
            .map(DeviceChoice::Exactly)
            .ok()
    };
    let device = match text {
        "auto" => Some(DeviceChoice::Auto),
        "cpu" | "CPU" => Some(DeviceChoice::Exactly(Device::Cpu)),
        "gpu" | "GPU" => Some(DeviceChoice::Exactly(Device::Gpu(0))),
        "npu" | "NPU" => Some(DeviceChoice::Exactly(Device::Npu)),
        _ => text
            .strip_prefix("gpu:")
            .or_else(|| text.strip_prefix("GPU."))
            .and_then(gpu),
    };
    device.ok_or_else(|| "expected auto, cpu, gpu, gpu:N or npu".to_owned())
}

pub(crate) fn parse_dir(text: &str) -> Result<DirGrant, String> {
    let (paths, read_only) = match text.strip_suffix(":ro") {
        Some(paths) => (paths, true),
        None => (text, false),
    };
    let (host, guest) = paths.split_once("::").unwrap_or((paths, paths));
    if host.is_empty() || guest.is_empty() {
        return Err("expected HOST[::GUEST][:ro] with a path on each side".to_owned());
    }
    Ok(DirGrant {
        host: host.into(),
        guest: guest.to_owned(),
        read_only,
    })
}

pub(crate) fn parse_env(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        _ => Err("expected KEY=VALUE".to_owned()),
    }
}

/// A time: a number with `ms`, `s`, `m` or `h`, or of seconds.
pub(crate) fn parse_duration(text: &str) -> Result<Duration, String> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let seconds = match &text[digits.len()..] {
        "us" => 0.000_001,
        "ms" => 0.001,
        "" | "s" => 1.0,
        "m" => 60.0,
        "h" => 3600.0,
        _ => return Err("expected a time such as 500ms, 10s or 2m".to_owned()),
    };
    let number: f64 = digits
        .parse()
        .map_err(|_| "expected a time such as 500ms, 10s or 2m".to_owned())?;
    match Duration::try_from_secs_f64(number * seconds) {
        Ok(time) if !time.is_zero() => Ok(time),
        _ => Err("expected a time above 0, such as 500ms, 10s or 2m".to_owned()),
    }
}

/// A size in bytes: a number, with KiB, MiB, GiB (or K, M, G) or kB, MB, GB.
pub(crate) fn parse_size(text: &str) -> Result<u64, String> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let unit: u64 = match text[digits.len()..].to_ascii_lowercase().as_str() {
        "" | "b" => 1,
        "k" | "kib" => 1 << 10,
        "m" | "mib" => 1 << 20,
        "g" | "gib" => 1 << 30,
        "kb" => 1_000,
        "mb" => 1_000_000,
        "gb" => 1_000_000_000,
        _ => return Err("expected a size such as 4096, 512MiB or 1GiB".to_owned()),
    };
    let number: u64 = digits
        .parse()
        .map_err(|_| "expected a size such as 4096, 512MiB or 1GiB".to_owned())?;
    number
        .checked_mul(unit)
        .ok_or_else(|| "the size is too large".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn devices() {
        assert_eq!(parse_device("auto"), Ok(DeviceChoice::Auto));
        assert_eq!(
            parse_device("gpu"),
            Ok(DeviceChoice::Exactly(Device::Gpu(0)))
        );
        assert_eq!(
            parse_device("gpu:3"),
            Ok(DeviceChoice::Exactly(Device::Gpu(3)))
        );
        for (engines, ours) in [
            ("CPU", "cpu"),
            ("GPU", "gpu:0"),
            ("GPU.1", "gpu:1"),
            ("NPU", "npu"),
        ] {
            assert_eq!(parse_device(engines), parse_device(ours), "{engines}");
            assert!(parse_device(engines).is_ok(), "{engines}");
        }
        for wrong in [
            "", "Gpu", "gpu:", "gpu:-1", "gpu:x", "gpu.0", "GPU:0", "GPU.", "NPU.0", "AUTO", "tpu",
            "cuda",
        ] {
            assert!(parse_device(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn folders() {
        let grant = |host: &str, guest: &str, read_only| {
            Ok(DirGrant {
                host: host.into(),
                guest: guest.to_owned(),
                read_only,
            })
        };
        assert_eq!(parse_dir("photos"), grant("photos", "photos", false));
        assert_eq!(parse_dir("/a b::/data:ro"), grant("/a b", "/data", true));
        assert_eq!(parse_dir("c:d"), grant("c:d", "c:d", false));
        for wrong in ["", "::", "a::", "::b", ":ro"] {
            assert!(parse_dir(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn shapes() {
        let shape = |name: &str, shape: &[usize]| Ok((name.to_owned(), shape.to_vec()));
        assert_eq!(parse_shape("x=1,3, 224"), shape("x", &[1, 3, 224]));
        assert_eq!(parse_shape("a=b:0=7"), shape("a=b:0", &[7]));
        assert_eq!(parse_shape("scalar="), shape("scalar", &[]));
        for wrong in ["", "x", "=1", "x=1,", "x=-1", "x=?"] {
            assert!(parse_shape(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn numbers_of_callers() {
        let levels = |text: &str| -> Option<Vec<usize>> {
            let levels = parse_levels(text).ok()?.0;
            Some(levels.into_iter().map(usize::from).collect())
        };
        assert_eq!(levels("4"), Some(vec![4]));
        assert_eq!(levels("1, 2,8"), Some(vec![1, 2, 8]));
        assert_eq!(levels("1:4"), Some(vec![1, 2, 3, 4]));
        assert_eq!(levels("2:9:3"), Some(vec![2, 5, 8]));
        for wrong in [
            "", "0", "1:", "4:1", "1:2:0", "1:2:3:4", "x", "1,", "4097", "-1",
        ] {
            assert_eq!(levels(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn times_and_sizes() {
        assert_eq!(parse_duration("500ms"), Ok(Duration::from_millis(500)));
        assert_eq!(parse_duration("1.5"), Ok(Duration::from_millis(1500)));
        assert_eq!(parse_duration("2m"), Ok(Duration::from_secs(120)));
        for wrong in ["", "0", "-1s", "1d", "nan", "inf", "1e400", "s"] {
            assert!(parse_duration(wrong).is_err(), "{wrong}");
        }
        assert_eq!(parse_size("512MiB"), Ok(512 << 20));
        assert_eq!(parse_size("1g"), Ok(1 << 30));
        assert_eq!(parse_size("2kB"), Ok(2000));
        for wrong in ["", "-1", "1.5G", "x", "99999999999GiB", "1TBs"] {
            assert!(parse_size(wrong).is_err(), "{wrong}");
        }
    }
}
