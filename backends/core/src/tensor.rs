//! Tensors in host memory: a dtype, a shape and little-endian elements in row-major order.

use std::fmt;

use bytes::Bytes;

use crate::{Dtype, Error, ErrorKind, Result};

/// The alignment of a new tensor's first byte, in bytes: a cache line, and the widest vector register.
const ALIGNMENT: usize = 64;

/// A tensor. Clones share the elements.
#[derive(Clone)]
pub struct Tensor {
    dtype: Dtype,
    shape: Vec<usize>,
    storage: Storage,
}

/// Where the elements are. Private, so that elements which stay on a device can be added.
#[derive(Clone)]
enum Storage {
    Host(Bytes),
}

impl Tensor {
    /// A tensor of elements that are already in a buffer, without a copy.
    ///
    /// # Errors
    /// `InvalidArgument` if the buffer's length is not the shape's number of elements times their size,
    /// or if that overflows; `UnsupportedOperation` for a dtype without a fixed size.
    pub fn new(dtype: Dtype, shape: Vec<usize>, bytes: Bytes) -> Result<Tensor> {
        check_length(dtype, &shape, bytes.len())?;
        Ok(Tensor {
            dtype,
            shape,
            storage: Storage::Host(bytes),
        })
    }

    /// A tensor of a copy of `bytes`; the copy is aligned to 64 bytes.
    ///
    /// # Errors
    /// As [`Tensor::new`], before anything is copied.
    pub fn copied_from(dtype: Dtype, shape: Vec<usize>, bytes: &[u8]) -> Result<Tensor> {
        check_length(dtype, &shape, bytes.len())?;
        Ok(Tensor {
            dtype,
            shape,
            storage: Storage::Host(aligned_copy(bytes)),
        })
    }

    /// The type of the elements.
    pub fn dtype(&self) -> Dtype {
        self.dtype
    }

    /// The dimensions, in elements; empty for a scalar.
    pub fn shape(&self) -> &[usize] {
        &self.shape
    }

    /// The size of all elements, in bytes.
    pub fn byte_length(&self) -> usize {
        match &self.storage {
            Storage::Host(bytes) => bytes.len(),
        }
    }

    /// The elements in host memory, shared with this tensor.
    ///
    /// # Errors
    /// Those of the engine, where the elements have to come from a device first.
    pub fn host(&self) -> Result<Bytes> {
        match &self.storage {
            Storage::Host(bytes) => Ok(bytes.clone()),
        }
    }
}

impl fmt::Debug for Tensor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Tensor({} {})", self.dtype, display_shape(&self.shape))
    }
}

/// The size in bytes of a tensor of this dtype and shape; `None` if it overflows or has no fixed size.
pub fn byte_length(dtype: Dtype, shape: &[usize]) -> Option<usize> {
    let elements = shape
        .iter()
        .try_fold(1usize, |product, &dimension| product.checked_mul(dimension))?;
    // The largest object that Rust can hold.
    elements
        .checked_mul(dtype.size()?)
        .filter(|&length| length <= isize::MAX as usize)
}

/// A shape as messages show it: `[1, 3, 224, 224]`.
pub fn display_shape(shape: &[usize]) -> String {
    format!("{shape:?}")
}

fn check_length(dtype: Dtype, shape: &[usize], got: usize) -> Result<()> {
    if dtype.size().is_none() {
        return Err(Error::new(
            ErrorKind::UnsupportedOperation,
            format!("tensors of dtype {dtype} are not supported"),
        ));
    }
    match byte_length(dtype, shape) {
        Some(expected) if expected == got => Ok(()),
        Some(expected) => Err(Error::new(
            ErrorKind::InvalidArgument,
            format!(
                "a tensor of {dtype} {} has {expected} bytes, got {got}",
                display_shape(shape)
            ),
        )),
        None => Err(Error::new(
            ErrorKind::InvalidArgument,
            format!(
                "the dimensions {} of {dtype} overflow",
                display_shape(shape)
            ),
        )),
    }
}

/// Copies into a buffer whose first byte is aligned, by leaving out the first bytes of a larger one.
fn aligned_copy(bytes: &[u8]) -> Bytes {
    let mut buffer: Vec<u8> = Vec::with_capacity(bytes.len() + ALIGNMENT - 1);
    let skipped = buffer.as_ptr().align_offset(ALIGNMENT);
    buffer.resize(skipped, 0);
    buffer.extend_from_slice(bytes);
    Bytes::from(buffer).slice(skipped..)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_are_checked() {
        let cases: [(Dtype, &[usize], usize, Option<&str>); 7] = [
            (Dtype::F32, &[2, 3], 24, None),
            (Dtype::F32, &[], 4, None),
            (Dtype::BF16, &[0, 7], 0, None),
            (
                Dtype::F32,
                &[2, 3],
                23,
                Some("a tensor of f32 [2, 3] has 24 bytes, got 23"),
            ),
            (Dtype::U8, &[usize::MAX, 2], 2, Some("overflow")),
            (Dtype::I64, &[1 << 61], 0, Some("overflow")),
            (Dtype::String, &[1], 1, Some("dtype string")),
        ];
        for (dtype, shape, length, fault) in cases {
            let made = Tensor::new(dtype, shape.to_vec(), Bytes::from(vec![0; length]));
            match (made, fault) {
                (Ok(tensor), None) => assert_eq!(tensor.byte_length(), length),
                (Err(error), Some(text)) => assert!(error.to_string().contains(text), "{error}"),
                (made, _) => panic!("{dtype} {shape:?}: {made:?}"),
            }
        }
    }

    #[test]
    fn copies_are_aligned_and_equal() {
        for length in [0, 1, 63, 64, 1000, 602_112] {
            let bytes: Vec<u8> = (0..length).map(|i| i as u8).collect();
            let tensor = Tensor::copied_from(Dtype::U8, vec![length], &bytes).expect("valid");
            let host = tensor.host().expect("in host memory");
            assert_eq!(host, bytes);
            assert!(length == 0 || (host.as_ptr() as usize).is_multiple_of(ALIGNMENT));
        }
    }
}
