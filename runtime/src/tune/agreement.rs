//! How far outputs are from those of a reference.

use half::{bf16, f16};
use infer_core::{Dtype, Result, Tensor};

/// The largest distance of outputs in f32 that are taken for the same: engines add up in different orders.
const NEAR: f64 = 1e-3;

/// How outputs compare with the reference's.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Agreement {
    /// The distance to the reference by its own length, `|got - reference| / |reference|`: the largest of all outputs.
    /// Infinite for another shape or dtype, and where only one of the two has a number.
    pub relative_l2: f64,
    /// Whether each output's largest element is at the same place: the same top class.
    pub same_top: bool,
}

impl Agreement {
    /// Compares outputs, in the signature's order.
    ///
    /// # Errors
    /// Those of [`Tensor::host`].
    pub fn of(got: &[Tensor], reference: &[Tensor]) -> Result<Agreement> {
        let same_number = got.len() == reference.len();
        let mut agreement = Agreement {
            relative_l2: if same_number { 0.0 } else { f64::INFINITY },
            same_top: same_number,
        };
        for (got, reference) in got.iter().zip(reference) {
            let one = compare(got, reference)?;
            agreement.relative_l2 = agreement.relative_l2.max(one.relative_l2);
            agreement.same_top &= one.same_top;
        }
        Ok(agreement)
    }

    /// Whether a tensor has a number other than 0: else it agrees with nearly anything.
    pub(crate) fn says_something(tensor: &Tensor) -> Result<bool> {
        let numbers = elements(tensor)?;
        Ok(numbers
            .iter()
            .any(|number| number.is_finite() && *number != 0.0))
    }

    /// Whether the outputs are those of a right f32 run.
    pub fn is_near(&self) -> bool {
        self.relative_l2 <= NEAR
    }
}

fn compare(got: &Tensor, reference: &Tensor) -> Result<Agreement> {
    if got.dtype() == Dtype::String || (got.dtype(), got.shape()) != of(reference) {
        let same = of(got) == of(reference) && got.host()? == reference.host()?;
        return Ok(Agreement {
            relative_l2: if same { 0.0 } else { f64::INFINITY },
            same_top: same,
        });
    }
    let (got, reference) = (elements(got)?, elements(reference)?);
    Ok(Agreement {
        relative_l2: relative_l2(&got, &reference),
        same_top: top(&got) == top(&reference),
    })
}

fn of(tensor: &Tensor) -> (Dtype, &[usize]) {
    (tensor.dtype(), tensor.shape())
}

fn relative_l2(got: &[f64], reference: &[f64]) -> f64 {
    let (mut distance, mut length) = (0.0, 0.0);
    for (&got, &reference) in got.iter().zip(reference) {
        if got == reference || got.is_nan() && reference.is_nan() {
            length += if reference.is_finite() {
                reference * reference
            } else {
                0.0
            };
            continue;
        }
        if !got.is_finite() || !reference.is_finite() {
            return f64::INFINITY;
        }
        distance += (got - reference) * (got - reference);
        length += reference * reference;
    }
    match distance == 0.0 {
        true => 0.0,
        false => (distance / length).sqrt(),
    }
}

/// The place of the largest element, the first of several.
fn top(elements: &[f64]) -> Option<usize> {
    let mut best: Option<(usize, f64)> = None;
    for (place, &element) in elements.iter().enumerate() {
        if !element.is_nan() && best.is_none_or(|(_, largest)| element > largest) {
            best = Some((place, element));
        }
    }
    best.map(|(place, _)| place)
}

/// The elements as numbers; none for strings.
fn elements(tensor: &Tensor) -> Result<Vec<f64>> {
    let bytes = tensor.host()?;
    macro_rules! numbers {
        ($type:ty, $number:expr) => {
            bytes
                .as_chunks()
                .0
                .iter()
                .map(|bytes| $number(<$type>::from_le_bytes(*bytes)))
                .collect()
        };
    }
    Ok(match tensor.dtype() {
        Dtype::F16 => numbers!(f16, f64::from),
        Dtype::BF16 => numbers!(bf16, f64::from),
        Dtype::F32 => numbers!(f32, f64::from),
        Dtype::F64 => numbers!(f64, f64::from),
        Dtype::I8 => numbers!(i8, f64::from),
        Dtype::I16 => numbers!(i16, f64::from),
        Dtype::I32 => numbers!(i32, f64::from),
        Dtype::I64 => numbers!(i64, |number| number as f64),
        Dtype::U8 | Dtype::Bool => numbers!(u8, f64::from),
        Dtype::U16 => numbers!(u16, f64::from),
        Dtype::U32 => numbers!(u32, f64::from),
        Dtype::U64 => numbers!(u64, |number| number as f64),
        Dtype::String => Vec::new(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn floats(values: &[f32]) -> Tensor {
        let bytes: Vec<u8> = values.iter().flat_map(|v| v.to_le_bytes()).collect();
        Tensor::copied_from(Dtype::F32, vec![values.len()], &bytes).expect("valid")
    }

    #[test]
    fn distances_and_tops() {
        let (nan, inf) = (f32::NAN, f32::INFINITY);
        let cases: [(&[f32], &[f32], f64, bool); 9] = [
            (&[3.0, 4.0], &[3.0, 4.0], 0.0, true),
            (&[3.0, 4.5], &[3.0, 4.0], 0.1, true),
            (&[4.0, 3.0], &[3.0, 4.0], 0.08_f64.sqrt(), false),
            (&[nan, 4.0], &[nan, 4.0], 0.0, true),
            (&[nan, 4.0], &[3.0, 4.0], f64::INFINITY, true),
            (&[3.0, inf], &[3.0, inf], 0.0, true),
            (&[3.0, 4.0], &[3.0, inf], f64::INFINITY, true),
            (&[0.0, 1.0], &[0.0, 0.0], f64::INFINITY, false),
            (&[1.0], &[1.0, 1.0], f64::INFINITY, false),
        ];
        for (got, reference, relative_l2, same_top) in cases {
            let agreement = Agreement::of(&[floats(got)], &[floats(reference)]).expect("here");
            let difference = (agreement.relative_l2 - relative_l2).abs();
            let same = agreement.relative_l2 == relative_l2 || difference < 1e-9;
            assert!(same, "{got:?} {reference:?}: {agreement:?}");
            assert_eq!(agreement.same_top, same_top, "{got:?} {reference:?}");
        }
    }

    #[test]
    fn the_worst_output_counts() {
        let (one, two) = (floats(&[1.0, 0.0]), floats(&[1.5, 0.0]));
        let agreement = Agreement::of(&[one.clone(), two], &[one.clone(), one.clone()]);
        assert_eq!(agreement.expect("here").relative_l2, 0.5);
        let fewer = Agreement::of(std::slice::from_ref(&one), &[one.clone(), one.clone()]);
        assert!(!fewer.expect("here").is_near());
    }

    #[test]
    fn every_dtype_is_read() {
        let cases: [(Dtype, &[u8], f64); 13] = [
            (Dtype::F16, &[0x00, 0xc0], -2.0),
            (Dtype::BF16, &[0x00, 0xc0], -2.0),
            (Dtype::F32, &(-2.5f32).to_le_bytes(), -2.5),
            (Dtype::F64, &(-2.5f64).to_le_bytes(), -2.5),
            (Dtype::I8, &[0xff], -1.0),
            (Dtype::I16, &[0xff, 0xff], -1.0),
            (Dtype::I32, &(-3i32).to_le_bytes(), -3.0),
            (Dtype::I64, &(-3i64).to_le_bytes(), -3.0),
            (Dtype::U8, &[0xff], 255.0),
            (Dtype::Bool, &[1], 1.0),
            (Dtype::U16, &[0xff, 0xff], 65535.0),
            (Dtype::U32, &[0, 0, 0, 1], 16_777_216.0),
            (Dtype::U64, &[0, 0, 0, 0, 1, 0, 0, 0], 4_294_967_296.0),
        ];
        for (dtype, bytes, expected) in cases {
            let tensor = Tensor::copied_from(dtype, vec![1], bytes).expect("valid");
            assert_eq!(elements(&tensor).expect("here"), [expected], "{dtype}");
        }
        let text = |text: &str| Tensor::of_strings(vec![1], &[text]).expect("valid");
        assert!(compare(&text("a"), &text("a")).expect("here").is_near());
        assert!(!compare(&text("a"), &text("b")).expect("here").is_near());
    }
}
