//! The values of options, from their texts: what neither clap nor the library (`infer::values`) reads.

use std::num::NonZeroUsize;
use std::str::FromStr;

use tracing_subscriber::EnvFilter;

/// Numbers of callers.
#[derive(Clone, Debug)]
pub(crate) struct Levels(pub(crate) Vec<NonZeroUsize>);

pub(crate) fn parse_count(text: &str) -> Result<NonZeroUsize, String> {
    let count = text.trim().parse();
    count.map_err(|_| "expected a number above 0".to_owned())
}

/// A number that may be 0.
pub(crate) fn parse_number<T: FromStr>(text: &str) -> Result<T, String> {
    let number = text.trim().parse();
    number.map_err(|_| "expected a number".to_owned())
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

pub(crate) fn parse_filter(text: &str) -> Result<EnvFilter, String> {
    let filter = EnvFilter::builder().parse(text);
    filter.map_err(|error| format!("{error}: expected, say, `debug` or `infer=debug,warn`"))
}

pub(crate) fn parse_env(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        _ => Err("expected KEY=VALUE".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
}
