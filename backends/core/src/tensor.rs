//! Tensors in host memory: a dtype, a shape and little-endian elements in row-major order.
//!
//! Elements of dtype string are each a length in bytes, as a little-endian number of 4 bytes, and so many
//! bytes: the form that the Open Inference Protocol has for them.

use std::fmt;

use bytes::{Buf, Bytes};

use crate::{Dtype, Error, ErrorKind, Result};

/// The alignment of a new tensor's first byte, in bytes: a cache line, and the widest vector register.
const ALIGNMENT: usize = 64;

/// The size of a string's length, in bytes.
const STRING_LENGTH: usize = 4;

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
    /// or if that overflows, and for strings that are not as many or of the lengths that they say.
    pub fn new(dtype: Dtype, shape: Vec<usize>, bytes: Bytes) -> Result<Tensor> {
        check_length(dtype, &shape, &bytes)?;
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
        check_length(dtype, &shape, bytes)?;
        Ok(Tensor {
            dtype,
            shape,
            storage: Storage::Host(aligned_copy(bytes)),
        })
    }

    /// A tensor of strings.
    ///
    /// # Errors
    /// `InvalidArgument` if there are not as many as the shape says, `TooLarge` for one of 4 GiB.
    pub fn of_strings<T: AsRef<[u8]>>(shape: Vec<usize>, strings: &[T]) -> Result<Tensor> {
        let mut bytes = Vec::new();
        for string in strings {
            let string = string.as_ref();
            let length = u32::try_from(string.len()).map_err(|_| {
                let message = format!("a string has {} bytes: expected fewer", string.len());
                Error::new(ErrorKind::TooLarge, message)
            })?;
            bytes.extend_from_slice(&length.to_le_bytes());
            bytes.extend_from_slice(string);
        }
        Tensor::new(Dtype::String, shape, bytes.into())
    }

    /// The elements of a tensor of strings, each in bytes.
    ///
    /// # Errors
    /// `InvalidArgument` for another dtype, and those of [`Tensor::host`].
    pub fn strings(&self) -> Result<Vec<Bytes>> {
        if self.dtype != Dtype::String {
            let message = format!("expected a tensor of strings, got {}", self.dtype);
            return Err(Error::new(ErrorKind::InvalidArgument, message));
        }
        let mut rest = self.host()?;
        let mut strings = Vec::new();
        while let Some(length) = first_string(&rest) {
            rest = rest.slice(STRING_LENGTH..);
            strings.push(rest.split_to(length));
        }
        Ok(strings)
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

    /// The rows `from` to `to` (left out) of all `rows` rows. They share this tensor's elements where they are half of
    /// them or more; fewer are copied, so that nobody keeps much more in memory than what is theirs.
    ///
    /// # Errors
    /// `UnsupportedOperation` where the tensor has no such rows.
    pub fn rows(&self, from: usize, to: usize, rows: usize) -> Result<Tensor> {
        let whole = self.host()?;
        if self.shape.first() != Some(&rows) || rows == 0 || self.dtype == Dtype::String {
            let shape = display_shape(&self.shape);
            let message = format!(
                "expected {rows} rows in a batch, got {} {shape}",
                self.dtype
            );
            return Err(Error::new(ErrorKind::UnsupportedOperation, message));
        }
        let row = whole.len() / rows;
        let mut shape = self.shape.clone();
        shape[0] = to - from;
        let part = whole.slice(from * row..to * row);
        match part.len() >= whole.len() / 2 {
            true => Tensor::new(self.dtype, shape, part),
            false => Tensor::copied_from(self.dtype, shape, &part),
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

fn check_length(dtype: Dtype, shape: &[usize], bytes: &[u8]) -> Result<()> {
    let invalid = |message| Err(Error::new(ErrorKind::InvalidArgument, message));
    // Said only of what does not fit: making a text costs more than the check.
    let shown = || display_shape(shape);
    let got = bytes.len();
    if dtype == Dtype::String {
        // No string is shorter than its length, so no more than these can be there.
        return match (byte_length(Dtype::U32, shape), count_strings(bytes)) {
            (Some(least), Some(strings)) if least / STRING_LENGTH == strings => Ok(()),
            (Some(least), Some(strings)) => invalid(format!(
                "a tensor of string {} has {} strings, got {strings}",
                shown(),
                least / STRING_LENGTH
            )),
            (Some(_), None) => invalid(format!(
                "the {got} bytes are no strings: expected a length of 4 bytes before each"
            )),
            (None, _) => invalid(format!("the dimensions {} of {dtype} overflow", shown())),
        };
    }
    match byte_length(dtype, shape) {
        Some(expected) if expected == got => check_bools(dtype, bytes),
        Some(expected) => invalid(format!(
            "a tensor of {dtype} {} has {expected} bytes, got {got}",
            shown()
        )),
        None => invalid(format!("the dimensions {} of {dtype} overflow", shown())),
    }
}

/// Engines take other bytes for neither true nor false.
fn check_bools(dtype: Dtype, bytes: &[u8]) -> Result<()> {
    if dtype != Dtype::Bool {
        return Ok(());
    }
    match bytes.iter().find(|&&byte| byte > 1) {
        None => Ok(()),
        Some(byte) => {
            let message = format!("expected 0 or 1 in a tensor of bool, got {byte}");
            Err(Error::new(ErrorKind::InvalidArgument, message))
        }
    }
}

/// How many strings the bytes are; `None` if the last is cut off.
fn count_strings(mut bytes: &[u8]) -> Option<usize> {
    let mut count = 0;
    while !bytes.is_empty() {
        bytes = &bytes[STRING_LENGTH + first_string(bytes)?..];
        count += 1;
    }
    Some(count)
}

/// The length of the first string, if it is there whole.
fn first_string(bytes: &[u8]) -> Option<usize> {
    let (length, rest) = bytes.split_first_chunk()?;
    let length = u32::from_le_bytes(*length) as usize;
    (length <= rest.len()).then_some(length)
}

/// A tensor that is put together from parts, in aligned memory.
pub(crate) struct Builder {
    dtype: Dtype,
    shape: Vec<usize>,
    buffer: Vec<u8>,
    start: usize,
}

impl Builder {
    /// Reserves the memory of a tensor of a dtype of fixed size.
    ///
    /// # Errors
    /// `TooLarge` where the size overflows or cannot be had.
    pub(crate) fn new(dtype: Dtype, shape: Vec<usize>) -> Result<Builder> {
        let (mut buffer, length) = (Vec::new(), byte_length(dtype, &shape));
        let reserved = length
            .and_then(|length| length.checked_add(ALIGNMENT - 1))
            .is_some_and(|length| buffer.try_reserve_exact(length).is_ok());
        if !reserved {
            let message = format!("a tensor of {dtype} {} is too large", display_shape(&shape));
            return Err(Error::new(ErrorKind::TooLarge, message));
        }
        let start = align(&mut buffer);
        Ok(Builder {
            dtype,
            shape,
            buffer,
            start,
        })
    }

    pub(crate) fn append(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    /// # Errors
    /// As [`Tensor::new`].
    pub(crate) fn finish(self) -> Result<Tensor> {
        let bytes = from_start(self.buffer, self.start);
        Tensor::new(self.dtype, self.shape, bytes)
    }
}

/// Copies into a buffer whose first byte is aligned, by leaving out the first bytes of a larger one.
fn aligned_copy(bytes: &[u8]) -> Bytes {
    let mut buffer: Vec<u8> = Vec::with_capacity(bytes.len() + ALIGNMENT - 1);
    let start = align(&mut buffer);
    buffer.extend_from_slice(bytes);
    from_start(buffer, start)
}

/// A buffer without its first bytes.
fn from_start(buffer: Vec<u8>, start: usize) -> Bytes {
    let mut bytes = Bytes::from(buffer);
    bytes.advance(start);
    bytes
}

/// Fills an empty buffer up to the first aligned byte of its memory; says where that is.
fn align(buffer: &mut Vec<u8>) -> usize {
    let start = buffer.as_ptr().align_offset(ALIGNMENT);
    buffer.resize(start, 0);
    start
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_are_checked() {
        let cases: [(Dtype, &[usize], usize, Option<&str>); 10] = [
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
            (Dtype::String, &[1], 1, Some("no strings")),
            (Dtype::String, &[1], 4, None),
            (Dtype::String, &[3], 8, Some("has 3 strings, got 2")),
            (Dtype::String, &[usize::MAX, 2], 8, Some("overflow")),
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

    #[test]
    fn strings_come_back_as_they_were() {
        let strings: [&[u8]; 3] = [b"", b"caf\xc3\xa9", b"\xff\0"];
        let tensor = Tensor::of_strings(vec![1, 3], &strings).expect("valid");
        assert_eq!(tensor.byte_length(), 3 * 4 + 5 + 2);
        assert_eq!(tensor.strings().expect("strings"), strings);
        assert!(Tensor::of_strings(vec![2], &strings).is_err());
        let cut = [3, 0, 0, 0, b'a'];
        assert!(Tensor::copied_from(Dtype::String, vec![1], &cut).is_err());
    }
}
