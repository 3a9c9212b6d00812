//! Tensors: what goes in ([`Tensor`]), what comes out ([`Output`]), and the element types of both.
//!
//! Elements lie in row-major order, the last dimension varying fastest. A scalar has rank 0, `[]`, and one
//! element; a dimension of 0 makes an empty tensor. Numbers cross the boundary little-endian, which is also how
//! WebAssembly stores them, so nothing is converted.

use crate::error::{Error, Result};
use std::borrow::Cow;
use std::fmt;

/// The type of a tensor's elements.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum DType {
    /// IEEE half precision, [`F16`].
    F16,
    /// IEEE single precision.
    F32,
    /// IEEE double precision.
    F64,
    /// bfloat16, [`Bf16`]. In preview1 it is an extension (type number 6) that other hosts refuse.
    Bf16,
    /// Unsigned byte.
    U8,
    /// Signed 32-bit integer.
    I32,
    /// Signed 64-bit integer.
    I64,
}

impl DType {
    /// Every element type, in the component ABI's order.
    pub const ALL: [DType; 7] = [
        DType::F16,
        DType::F32,
        DType::F64,
        DType::Bf16,
        DType::U8,
        DType::I32,
        DType::I64,
    ];

    /// Bytes per element.
    pub fn size(self) -> usize {
        match self {
            DType::U8 => 1,
            DType::F16 | DType::Bf16 => 2,
            DType::F32 | DType::I32 => 4,
            DType::F64 | DType::I64 => 8,
        }
    }

    /// The name that wasi-nn gives it, such as `FP32`.
    pub fn name(self) -> &'static str {
        match self {
            DType::F16 => "FP16",
            DType::F32 => "FP32",
            DType::F64 => "FP64",
            DType::Bf16 => "BF16",
            DType::U8 => "U8",
            DType::I32 => "I32",
            DType::I64 => "I64",
        }
    }

    /// The type of this wasi-nn name; `None` for one that wasi-nn cannot carry, such as `BOOL`.
    pub fn from_name(name: &str) -> Option<DType> {
        DType::ALL.into_iter().find(|dtype| dtype.name() == name)
    }
}

impl fmt::Display for DType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A half-precision number by its bits; convert with the crate `half` where its value matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, bytemuck::Pod, bytemuck::Zeroable)]
#[repr(transparent)]
pub struct F16(pub u16);

/// A bfloat16 number by its bits: the upper half of an `f32`'s.
#[derive(Clone, Copy, Debug, PartialEq, Eq, bytemuck::Pod, bytemuck::Zeroable)]
#[repr(transparent)]
pub struct Bf16(pub u16);

/// A Rust type that can be an element of a tensor: `f32`, `f64`, `u8`, `i32`, `i64`, [`F16`], [`Bf16`].
pub trait Element: bytemuck::Pod + sealed::Sealed {
    /// The element type that it stands for.
    const DTYPE: DType;
}

mod sealed {
    pub trait Sealed {}
}

macro_rules! elements {
    ($($rust:ty => $dtype:ident),*) => {$(
        impl sealed::Sealed for $rust {}
        impl Element for $rust {
            const DTYPE: DType = DType::$dtype;
        }
    )*};
}
elements!(F16 => F16, f32 => F32, f64 => F64, Bf16 => Bf16, u8 => U8, i32 => I32, i64 => I64);

/// Values of any element type, kept as they were given and seen as bytes.
trait Storage {
    fn bytes(&self) -> &[u8];
}

impl<T: Element> Storage for Vec<T> {
    fn bytes(&self) -> &[u8] {
        bytemuck::cast_slice(self)
    }
}

/// An input: element type, dimensions and values that fit each other.
///
/// One tensor can be sent any number of times; each run copies it once, into the host.
pub struct Tensor {
    dtype: DType,
    dimensions: Vec<u32>,
    storage: Box<dyn Storage>,
}

impl Tensor {
    /// A tensor of these dimensions, whose product is the number of values.
    ///
    /// # Errors
    /// [`InvalidArgument`](crate::Code::InvalidArgument) when the number of values is another.
    pub fn new<T: Element>(dimensions: &[u32], values: Vec<T>) -> Result<Tensor> {
        Tensor::checked(T::DTYPE, dimensions, values)
    }

    /// A tensor from its bytes, such as those of another model's output.
    ///
    /// # Errors
    /// [`InvalidArgument`](crate::Code::InvalidArgument) when the number of bytes does not fit.
    pub fn from_bytes(dtype: DType, dimensions: &[u32], bytes: Vec<u8>) -> Result<Tensor> {
        Tensor::checked(dtype, dimensions, bytes)
    }

    /// A tensor in which every bit is 0, which is the number 0 in every element type.
    ///
    /// # Errors
    /// [`TooLarge`](crate::Code::TooLarge) when the guest's address space cannot hold it.
    pub fn zeros(dtype: DType, dimensions: &[u32]) -> Result<Tensor> {
        let length = byte_length(dtype, dimensions).ok_or_else(|| {
            Error::new(
                crate::Code::TooLarge,
                format!("a {dtype} tensor of {dimensions:?} is over 4 GiB"),
            )
        })?;
        Ok(Tensor {
            dtype,
            dimensions: dimensions.to_vec(),
            storage: Box::new(vec![0u8; length]),
        })
    }

    fn checked(
        dtype: DType,
        dimensions: &[u32],
        storage: impl Storage + 'static,
    ) -> Result<Tensor> {
        let got = storage.bytes().len();
        if byte_length(dtype, dimensions) != Some(got) {
            return Err(Error::invalid(format!(
                "expected the elements of {dtype} {dimensions:?}, got {}",
                got / dtype.size()
            )));
        }
        Ok(Tensor {
            dtype,
            dimensions: dimensions.to_vec(),
            storage: Box::new(storage),
        })
    }

    /// The element type.
    pub fn dtype(&self) -> DType {
        self.dtype
    }

    /// The size of each dimension, in elements; `[]` for a scalar.
    pub fn dimensions(&self) -> &[u32] {
        &self.dimensions
    }

    /// The values as little-endian bytes.
    pub fn bytes(&self) -> &[u8] {
        self.storage.bytes()
    }
}

impl fmt::Debug for Tensor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Tensor({} {:?})", self.dtype, self.dimensions)
    }
}

/// The bytes that a tensor of these dimensions takes; `None` when no `usize` holds the number.
fn byte_length(dtype: DType, dimensions: &[u32]) -> Option<usize> {
    dimensions.iter().try_fold(dtype.size(), |bytes, size| {
        bytes.checked_mul(*size as usize)
    })
}

/// An output of a run.
///
/// The component ABI says an output's element type and dimensions. Preview1 gives bytes only; there they are
/// known where the host describes the model ([`Model::info`](crate::Model::info)), and the caller must know
/// them where it does not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Output {
    pub(crate) dtype: Option<DType>,
    pub(crate) dimensions: Option<Vec<u32>>,
    pub(crate) bytes: Vec<u8>,
}

impl Output {
    /// The element type, where the host says it.
    pub fn dtype(&self) -> Option<DType> {
        self.dtype
    }

    /// The size of each dimension in elements, where the host says it.
    pub fn dimensions(&self) -> Option<&[u32]> {
        self.dimensions.as_deref()
    }

    /// The values as little-endian bytes.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The values, without a copy where the bytes are aligned for `T`.
    ///
    /// # Errors
    /// [`InvalidArgument`](crate::Code::InvalidArgument) when the elements are of another type, or, where the
    /// host does not say their type, when the bytes are no whole number of them.
    pub fn values<T: Element>(&self) -> Result<Cow<'_, [T]>> {
        if let Some(dtype) = self.dtype.filter(|dtype| *dtype != T::DTYPE) {
            return Err(Error::invalid(format!(
                "expected an output of {}, got {dtype}",
                T::DTYPE
            )));
        }
        if !self.bytes.len().is_multiple_of(T::DTYPE.size()) {
            return Err(Error::invalid(format!(
                "expected a whole number of {} elements, got {} bytes",
                T::DTYPE,
                self.bytes.len()
            )));
        }
        Ok(match bytemuck::try_cast_slice(&self.bytes) {
            Ok(values) => Cow::Borrowed(values),
            Err(_) => Cow::Owned(bytemuck::allocation::pod_collect_to_vec(&self.bytes)),
        })
    }

    /// The output as an input of the next run, for state that is carried and models in a row.
    ///
    /// # Errors
    /// [`InvalidArgument`](crate::Code::InvalidArgument) when the host did not say its type and dimensions; use
    /// [`Tensor::from_bytes`] then.
    pub fn into_tensor(self) -> Result<Tensor> {
        match (self.dtype, self.dimensions) {
            (Some(dtype), Some(dimensions)) => Tensor::from_bytes(dtype, &dimensions, self.bytes),
            _ => Err(Error::invalid(
                "this host does not say the output's type and dimensions",
            )),
        }
    }
}

/// Fills in the one dimension that is unknown from the number of bytes; `None` when that cannot be done.
pub(crate) fn known_dimensions(
    dtype: DType,
    dimensions: &[Option<u32>],
    bytes: usize,
) -> Option<Vec<u32>> {
    let fixed: Vec<u32> = dimensions.iter().flatten().copied().collect();
    let block = byte_length(dtype, &fixed)?;
    let missing = match dimensions.len() - fixed.len() {
        0 => return (block == bytes).then_some(fixed),
        1 if block > 0 && bytes.is_multiple_of(block) => u32::try_from(bytes / block).ok()?,
        _ => return None,
    };
    Some(
        dimensions
            .iter()
            .map(|size| size.unwrap_or(missing))
            .collect(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_must_fit_the_dimensions() {
        assert!(Tensor::new(&[2, 3], vec![0.0f32; 6]).is_ok());
        assert!(Tensor::new(&[], vec![7i64]).is_ok());
        assert!(Tensor::new::<u8>(&[0, 4], vec![]).is_ok());
        let error = Tensor::new(&[2, 3], vec![0u8; 5]).expect_err("five of six");
        assert_eq!(error.message(), "expected the elements of U8 [2, 3], got 5");
        assert!(Tensor::new(&[u32::MAX, u32::MAX, u32::MAX], vec![0u8]).is_err());
        assert!(Tensor::zeros(DType::F32, &[u32::MAX, u32::MAX, 2]).is_err());
    }

    #[test]
    fn outputs_are_read_as_what_they_are() {
        let output = |dtype| Output {
            dtype,
            dimensions: None,
            bytes: vec![0, 0, 128, 63, 0, 0, 0, 64],
        };
        assert_eq!(
            output(Some(DType::F32))
                .values::<f32>()
                .expect("f32")
                .as_ref(),
            [1.0, 2.0]
        );
        assert_eq!(
            output(None).values::<f32>().expect("unknown").as_ref(),
            [1.0, 2.0]
        );
        assert!(output(Some(DType::I32)).values::<f32>().is_err());
        assert!(output(Some(DType::I32)).into_tensor().is_err());
    }

    #[test]
    fn one_unknown_dimension_follows_from_the_bytes() {
        let known =
            |dimensions: &[Option<u32>], bytes| known_dimensions(DType::F32, dimensions, bytes);
        assert_eq!(known(&[None, Some(214)], 3 * 214 * 4), Some(vec![3, 214]));
        assert_eq!(known(&[Some(1), Some(10)], 40), Some(vec![1, 10]));
        assert_eq!(known(&[Some(1), Some(10)], 44), None);
        assert_eq!(known(&[None, None], 16), None);
        assert_eq!(known(&[None, Some(0)], 0), None);
        assert_eq!(known(&[], 4), Some(vec![]));
    }
}
