//! How large the whole numbers are that a model brings along.

use infer_onnx::{Node, Tensor};

use crate::operators::{INT32, INT64, UINT32, UINT64, is_whole};

/// f32 has every whole number up to this one.
const MOST_IN_F32: i128 = 1 << 24;

/// Whether a constant has whole numbers that need more than 32 bits.
pub(crate) fn is_wide(tensor: &Tensor) -> bool {
    any_number(tensor, |number| i32::try_from(number).is_err())
}

/// Whether a node makes a constant that has such numbers.
pub(crate) fn makes_wide(node: &Node) -> bool {
    makes(node, is_wide, |number| i32::try_from(number).is_err())
}

/// Whether a constant has, or may have, whole numbers that f32 has to round.
pub(crate) fn is_large(tensor: &Tensor) -> bool {
    const EXTERNAL: i32 = 1;
    let elsewhere = tensor.location == EXTERNAL && is_whole(tensor.dtype);
    elsewhere || any_number(tensor, is_rounded)
}

/// Whether a node makes a constant that has such numbers.
pub(crate) fn makes_large(node: &Node) -> bool {
    makes(node, is_large, |number| is_rounded(number.into()))
}

fn is_rounded(number: i128) -> bool {
    !(-MOST_IN_F32..=MOST_IN_F32).contains(&number)
}

fn makes(node: &Node, of_tensor: fn(&Tensor) -> bool, of_number: fn(i64) -> bool) -> bool {
    matches!(node.operator.as_str(), "Constant" | "ConstantOfShape")
        && node.attributes.iter().any(|attribute| {
            attribute.tensor.as_ref().is_some_and(of_tensor)
                || of_number(attribute.int)
                || attribute.ints.iter().any(|number| of_number(*number))
        })
}

/// Whether any of the elements is so; none is of a dtype that is not of 32 or 64 bits.
fn any_number(tensor: &Tensor, is_so: impl Fn(i128) -> bool) -> bool {
    let (raw4, raw8) = (tensor.raw.as_chunks().0, tensor.raw.as_chunks().0);
    match tensor.dtype {
        INT32 => {
            let raw = raw4.iter().map(|number| i32::from_le_bytes(*number));
            let mut all = raw.chain(tensor.narrow_integers.iter().copied());
            all.any(|number| is_so(number.into()))
        }
        INT64 => {
            let raw = raw8.iter().map(|number| i64::from_le_bytes(*number));
            let mut all = raw.chain(tensor.integers.iter().copied());
            all.any(|number| is_so(number.into()))
        }
        UINT32 => {
            let raw = raw4.iter().map(|number| u32::from_le_bytes(*number).into());
            let mut all = raw.chain(tensor.unsigned.iter().copied());
            all.any(|number: u64| is_so(number.into()))
        }
        UINT64 => {
            let raw = raw8.iter().map(|number| u64::from_le_bytes(*number));
            let mut all = raw.chain(tensor.unsigned.iter().copied());
            all.any(|number| is_so(number.into()))
        }
        _ => false,
    }
}
