//! Whether an output is the expected one, by ONNX's own rule.
//!
//! Floats may differ by 1e-7 and a thousandth of the expected value where a test does not say otherwise, NaN being equal to NaN and an infinity to
//! itself, as in numpy's `allclose`; 16-bit floats are compared as f32. Everything else must be equal: dtype,
//! shape, whole numbers, truth values, text.
//!
//! That rule has no mercy with a float near 0 beside large ones, such as those of a Fourier transform. What fails
//! it, but by no more than rounding does to the largest value of the tensor, is told apart from what is wrong.

use half::{bf16, f16};
use infer_core::Dtype;

use crate::conformance::value::{Element, elements_of};
use crate::conformance::{Output, Value};

/// How far a float may be from the expected one.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Tolerance {
    /// As a part of the expected value.
    pub relative: f64,
    /// Beside that.
    pub absolute: f64,
}

impl Default for Tolerance {
    /// Those of ONNX's runner.
    fn default() -> Tolerance {
        Tolerance {
            relative: 1e-3,
            absolute: 1e-7,
        }
    }
}

/// How much of an output is expected.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Expectation {
    /// All of it.
    Values(Tolerance),
    /// Its dtype and shape: the values are random.
    Shape,
}

/// How an output is not the expected one, and where first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Difference {
    /// By rounding.
    Rounded(String),
    /// By more.
    Wrong(String),
}

/// Holds an output against the expected one.
///
/// # Errors
/// The first difference.
pub fn compare(expected: &Value, got: &Output, expectation: Expectation) -> Result<(), Difference> {
    if let Some(dtype) = got.dtype.filter(|dtype| *dtype != expected.dtype) {
        let message = format!("expected dtype {}, got {dtype}", expected.dtype);
        return Err(Difference::Wrong(message));
    }
    if let Some(shape) = got.shape.as_ref().filter(|shape| **shape != expected.shape) {
        let message = format!("expected shape {:?}, got {shape:?}", expected.shape);
        return Err(Difference::Wrong(message));
    }
    let Expectation::Values(tolerance) = expectation else {
        return lengths(expected, got).map_err(Difference::Wrong);
    };
    match expected.dtype {
        Dtype::F16 => floats(expected, got, f16::to_f64, tolerance),
        Dtype::BF16 => floats(expected, got, bf16::to_f64, tolerance),
        Dtype::F32 => floats::<f32>(expected, got, f64::from, tolerance),
        Dtype::F64 => floats::<f64>(expected, got, f64::from, tolerance),
        _ if expected.bytes == got.bytes => Ok(()),
        _ => Err(Difference::Wrong(first_byte(expected, got))),
    }
}

fn lengths(expected: &Value, got: &Output) -> Result<(), String> {
    let (expected, got) = (expected.bytes.len(), got.bytes.len());
    match expected == got {
        true => Ok(()),
        false => Err(format!("expected {expected} bytes, got {got}")),
    }
}

fn floats<T: Element>(
    expected: &Value,
    got: &Output,
    wide: fn(T) -> f64,
    tolerance: Tolerance,
) -> Result<(), Difference> {
    lengths(expected, got).map_err(Difference::Wrong)?;
    let dtype = expected.dtype;
    let wide = |bytes: &[u8]| elements_of(bytes).into_iter().map(wide).collect::<Vec<_>>();
    let (expected, got) = (wide(&expected.bytes), wide(&got.bytes));
    let far = |place: &usize| !tolerance.allows(expected[*place], got[*place]);
    let places: Vec<usize> = (0..expected.len()).filter(far).collect();
    let Some(&first) = places.first() else {
        return Ok(());
    };
    let message = format!(
        "{} of {} elements differ, first element {first}: expected {}, got {}",
        places.len(),
        expected.len(),
        expected[first],
        got[first]
    );
    let finite = expected.iter().filter(|value| value.is_finite());
    let largest = finite.fold(0.0f64, |largest, value| largest.max(value.abs()));
    let rounding = rounding(dtype) * largest;
    match places
        .iter()
        .all(|&place| (got[place] - expected[place]).abs() <= rounding)
    {
        true => Err(Difference::Rounded(message)),
        false => Err(Difference::Wrong(message)),
    }
}

/// What rounding may do to the largest value of a tensor, as a part of it: two units in the last place of a
/// 16-bit float, and about a hundred of an f32, since many are added up.
fn rounding(dtype: Dtype) -> f64 {
    match dtype {
        Dtype::F16 => 2e-3,
        Dtype::BF16 => 1.6e-2,
        _ => 1e-5,
    }
}

impl Tolerance {
    fn allows(self, expected: f64, got: f64) -> bool {
        if expected.is_nan() || got.is_nan() {
            return expected.is_nan() && got.is_nan();
        }
        if expected.is_infinite() || got.is_infinite() {
            return expected == got;
        }
        (got - expected).abs() <= self.absolute + self.relative * expected.abs()
    }
}

fn first_byte(expected: &Value, got: &Output) -> String {
    if let Err(difference) = lengths(expected, got) {
        return difference;
    }
    let size = expected.dtype.size().unwrap_or(1);
    let pairs = expected.bytes.chunks(size).zip(got.bytes.chunks(size));
    let mut different = pairs
        .enumerate()
        .filter(|(_, (expected, got))| expected != got);
    let Some((first, (one, other))) = different.next() else {
        return "equal".to_owned();
    };
    format!(
        "{} of {} elements differ, first element {first}: expected bytes {one:?}, got {other:?}",
        1 + different.count(),
        expected.bytes.len() / size
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    const VALUES: Expectation = Expectation::Values(Tolerance {
        relative: 1e-3,
        absolute: 1e-7,
    });

    fn result(expected: &[f32], got: &[f32]) -> Result<(), Difference> {
        let value = |elements: &[f32]| Value::of(vec![elements.len()], elements);
        compare(&value(expected), &value(got).into(), VALUES)
    }

    #[test]
    fn floats_are_compared_as_numpy_does() {
        let (nan, infinity) = (f32::NAN, f32::INFINITY);
        let close: [(&[f32], &[f32]); 5] = [
            (&[1000.0, 0.0], &[1000.9, 5e-8]),
            (&[nan], &[nan]),
            (&[infinity, -infinity], &[infinity, -infinity]),
            (&[], &[]),
            (&[0.0], &[-0.0]),
        ];
        for (expected, got) in close {
            assert_eq!(result(expected, got), Ok(()), "{expected:?} {got:?}");
        }
        let far: [(&[f32], &[f32]); 6] = [
            (&[1000.0], &[1001.1]),
            (&[0.0], &[2e-7]),
            (&[nan], &[0.0]),
            (&[1.0], &[nan]),
            (&[infinity], &[f32::MAX]),
            (&[infinity], &[-infinity]),
        ];
        for (expected, got) in far {
            assert!(result(expected, got).is_err(), "{expected:?} {got:?}");
        }
    }

    #[test]
    fn rounding_is_told_apart() {
        let verdict = |got: f32| result(&[450.0, 0.0], &[450.0, got]);
        assert!(matches!(verdict(1e-4), Err(Difference::Rounded(_))));
        assert!(matches!(verdict(1e-2), Err(Difference::Wrong(_))));
        assert!(matches!(verdict(f32::NAN), Err(Difference::Wrong(_))));
    }

    #[test]
    fn everything_else_must_be_equal() {
        let expected = Value::of(vec![2], &[1i32, 2]);
        let cases = [
            (
                Value::of(vec![2], &[1i32, 3]),
                "first element 1: expected bytes [2, 0, 0, 0], got [3, 0, 0, 0]",
            ),
            (
                Value::of(vec![1, 2], &[1i32, 2]),
                "expected shape [2], got [1, 2]",
            ),
            (
                Value::of(vec![2], &[1u32, 2]),
                "expected dtype i32, got u32",
            ),
        ];
        for (got, message) in cases {
            let error = compare(&expected, &got.into(), VALUES).expect_err(message);
            assert!(
                matches!(&error, Difference::Wrong(text) if text.ends_with(message)),
                "{error:?}"
            );
        }
        let random = Value::of(vec![2], &[7i32, 8]).into();
        assert_eq!(compare(&expected, &random, Expectation::Shape), Ok(()));
        let texts = |texts: &[&str]| Value::of_texts(vec![texts.len()], texts);
        assert_eq!(
            compare(&texts(&["a", ""]), &texts(&["a", ""]).into(), VALUES),
            Ok(())
        );
        assert!(compare(&texts(&["a"]), &texts(&["b"]).into(), VALUES).is_err());
    }
}
