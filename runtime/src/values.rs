//! Values as people write them, on a command line and in a file: times, sizes, devices, folders, hosts.
//!
//! What is wrong is said as what was expected, for a parser of options or of a file to put its own words before.

use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::time::Duration;

use infer_core::{Device, Performance, Precision};

use crate::config::{DeviceChoice, DirGrant, HostGrant};

type Parsed<T> = std::result::Result<T, String>;

/// What is computed in: f32, f16, bf16, auto.
///
/// # Errors
/// What was expected.
pub fn parse_precision(text: &str) -> Parsed<Precision> {
    Ok(match text {
        "f32" => Precision::F32,
        "f16" => Precision::F16,
        "bf16" => Precision::BF16,
        "auto" => Precision::Auto,
        _ => return Err("expected f32, f16, bf16 or auto".to_owned()),
    })
}

/// What matters more: latency or throughput.
///
/// # Errors
/// What was expected.
pub fn parse_performance(text: &str) -> Parsed<Performance> {
    match text {
        "latency" => Ok(Performance::Latency),
        "throughput" => Ok(Performance::Throughput),
        _ => Err("expected latency or throughput".to_owned()),
    }
}

/// A device by our name (auto, cpu, gpu, gpu:N, npu), or by OpenVINO's (`CPU`, `GPU`, `GPU.1`, `NPU`).
///
/// # Errors
/// What was expected.
pub fn parse_device(text: &str) -> Parsed<DeviceChoice> {
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

/// What people write for a folder's mode elsewhere, or by mistake.
const MODES: [&str; 6] = ["ro", "rw", "r", "w", "wo", "r0"];

/// A folder: `HOST[::GUEST][:ro]`.
///
/// # Errors
/// What was expected.
pub fn parse_dir(text: &str) -> Parsed<DirGrant> {
    let (paths, read_only) = match text.strip_suffix(":ro") {
        Some(paths) => (paths, true),
        None => (text, false),
    };
    let (host, guest) = paths.split_once("::").unwrap_or((paths, paths));
    let mode = guest.rsplit_once(':').map(|(_, mode)| mode);
    let meant = |mode: &str| MODES.iter().any(|known| mode.eq_ignore_ascii_case(known));
    if mode.is_some_and(meant) {
        return Err(
            "expected HOST[::GUEST][:ro]: `:ro`, or nothing for reading and writing".to_owned(),
        );
    }
    if host.is_empty() || guest.is_empty() {
        return Err("expected HOST[::GUEST][:ro] with a path on each side".to_owned());
    }
    Ok(DirGrant {
        host: host.into(),
        guest: guest.to_owned(),
        read_only,
    })
}

/// A time above 0: a number with `us`, `ms`, `s`, `m` or `h`, or of seconds.
///
/// # Errors
/// What was expected.
pub fn parse_duration(text: &str) -> Parsed<Duration> {
    match parse_any_duration(text)? {
        Duration::ZERO => Err("expected a time above 0, such as 500ms, 10s or 2m".to_owned()),
        time => Ok(time),
    }
}

/// The same, or 0.
///
/// # Errors
/// What was expected.
pub fn parse_any_duration(text: &str) -> Parsed<Duration> {
    const EXPECTED: &str = "expected a time such as 500ms, 10s or 2m";
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let seconds = match &text[digits.len()..] {
        "us" => 0.000_001,
        "ms" => 0.001,
        "" | "s" => 1.0,
        "m" => 60.0,
        "h" => 3600.0,
        _ => return Err(EXPECTED.to_owned()),
    };
    let number: f64 = digits.parse().map_err(|_| EXPECTED.to_owned())?;
    let time = Duration::try_from_secs_f64(number * seconds);
    time.map_err(|_| EXPECTED.to_owned())
}

/// A size in bytes: a number, with KiB, MiB, GiB (or K, M, G) or kB, MB, GB.
///
/// # Errors
/// What was expected.
pub fn parse_size(text: &str) -> Parsed<u64> {
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

/// The most threads of one run. Some engines start more without an end, and wait for them.
const MOST_THREADS: usize = 1024;

/// A number of threads: 1 to 1024.
///
/// # Errors
/// What was expected.
pub fn parse_threads(text: &str) -> Parsed<NonZeroUsize> {
    let number = text.parse().ok();
    number
        .filter(|number: &NonZeroUsize| number.get() <= MOST_THREADS)
        .ok_or_else(|| format!("expected a number from 1 to {MOST_THREADS}"))
}

/// Where to listen: an address and a port, `localhost` being 127.0.0.1.
///
/// # Errors
/// What was expected.
pub fn parse_address(text: &str) -> Parsed<SocketAddr> {
    let port = text
        .strip_prefix("localhost:")
        .and_then(|port| port.parse().ok());
    port.map(|port: u16| SocketAddr::from(([127, 0, 0, 1], port)))
        .or_else(|| text.parse().ok())
        .ok_or_else(|| {
            "expected an address and a port, such as 127.0.0.1:8000, 0.0.0.0:8000 or [::1]:8000"
                .to_owned()
        })
}

/// A host: `NAME`, `NAME:PORT`, or an address of version 6 in brackets.
///
/// # Errors
/// What was expected.
pub fn parse_host(text: &str) -> Parsed<HostGrant> {
    let authority: http::uri::Authority = text
        .parse()
        .map_err(|_| "expected HOST or HOST:PORT".to_owned())?;
    let whole = authority.port_u16().is_some() || text == authority.host();
    if text.contains('@') || authority.host().is_empty() || !whole {
        return Err("expected HOST or HOST:PORT".to_owned());
    }
    if text.contains('*') {
        return Err("expected each HOST by its whole name: `*` stands for none".to_owned());
    }
    Ok(HostGrant {
        host: authority.host().to_ascii_lowercase(),
        port: authority.port_u16(),
    })
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
    fn addresses() {
        let local = |port| Ok(SocketAddr::from(([127, 0, 0, 1], port)));
        assert_eq!(parse_address("127.0.0.1:8000"), local(8000));
        assert_eq!(parse_address("localhost:0"), local(0));
        assert!(parse_address("[::1]:80").is_ok_and(|address| address.is_ipv6()));
        for wrong in [
            "",
            "8000",
            ":8000",
            "localhost",
            "localhost:65536",
            "::1:80",
            "a:1",
        ] {
            assert!(parse_address(wrong).is_err(), "{wrong}");
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
        assert_eq!(parse_dir("data::w"), grant("data", "w", false));
        for wrong in [
            "",
            "::",
            "a::",
            "::b",
            ":ro",
            "a::b:rw",
            "a:r0",
            "a::b:ro:ro",
            "a:RO",
        ] {
            assert!(parse_dir(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn times_and_sizes() {
        assert_eq!(parse_duration("500ms"), Ok(Duration::from_millis(500)));
        assert_eq!(parse_duration("1.5"), Ok(Duration::from_millis(1500)));
        assert_eq!(parse_duration("2m"), Ok(Duration::from_secs(120)));
        for wrong in ["", "0", "-1s", "1d", "nan", "inf", "1e400", "s"] {
            assert!(parse_duration(wrong).is_err(), "{wrong}");
            let nothing = wrong == "0";
            assert_eq!(parse_any_duration(wrong).is_ok(), nothing, "{wrong}");
        }
        assert_eq!(parse_any_duration("0s"), Ok(Duration::ZERO));
        assert_eq!(parse_size("512MiB"), Ok(512 << 20));
        assert_eq!(parse_size("1g"), Ok(1 << 30));
        assert_eq!(parse_size("2kB"), Ok(2000));
        for wrong in ["", "-1", "1.5G", "x", "99999999999GiB", "1TBs"] {
            assert!(parse_size(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn hosts() {
        let grant = |host: &str, port| {
            Ok(HostGrant {
                host: host.to_owned(),
                port,
            })
        };
        assert_eq!(parse_host("API.example"), grant("api.example", None));
        assert_eq!(parse_host("[::1]:80"), grant("[::1]", Some(80)));
        for wrong in ["", "https://a", "a/b", "u@a", ":80", "a:x"] {
            assert!(parse_host(wrong).is_err(), "{wrong}");
        }
    }
}
