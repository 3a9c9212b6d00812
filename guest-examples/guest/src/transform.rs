//! A guest as a model: it takes named tensors and gives named tensors, and runs models of the host's in between.
//!
//! [`Transform`] is what such a guest implements and [`export_model!`](crate::export_model) what makes a component of
//! it; `infer serve` then serves it like any other model. There are components of this kind only: on `wasm32-wasip1`
//! there is no such module.
//!
//! ```no_run
//! use infer_guest::transform::{DataType, Failure, HostTensor, ModelInfo, Tensors, Transform};
//!
//! /// Says how many bytes each string has.
//! struct Lengths;
//!
//! impl Transform for Lengths {
//!     fn describe() -> Result<ModelInfo, Failure> {
//!         Ok(ModelInfo::new()
//!             .input("texts", DataType::String, &[None])
//!             .output("lengths", DataType::I64, &[None]))
//!     }
//!
//!     fn transform(mut inputs: Tensors) -> Result<Tensors, Failure> {
//!         let texts = inputs.take("texts")?.strings()?;
//!         let lengths: Vec<i64> = texts.iter().map(|text| text.len() as i64).collect();
//!         let lengths = HostTensor::new(&[lengths.len() as u32], lengths)?;
//!         Ok(Tensors::new().with("lengths", lengths))
//!     }
//! }
//!
//! infer_guest::export_model!(Lengths);
//! # fn main() {}
//! ```
//!
//! Tensors stay with the host: [`HostTensor::values`], [`HostTensor::fetch`] and [`HostTensor::strings`] copy one into
//! the guest, and nothing else does. What one model gave goes into the next ([`Model::run_on_host`]), or out, as it is.

use crate::abi::{Remote, View};
use crate::error::{Code, Error, Result};
use crate::model::Model;
use crate::tensor::{DType, Element, Output, Tensor};
use std::fmt;

/// Why a call or a description fails: any error, or a text (`"expected a picture".into()`).
pub type Failure = Box<dyn std::error::Error>;

/// A guest that is a model. It lives for one call.
pub trait Transform {
    /// What it takes and gives. It is asked when the server loads it, not for each call.
    ///
    /// # Errors
    /// Why the model cannot be used, for the operator to read.
    fn describe() -> std::result::Result<ModelInfo, Failure>;

    /// Makes outputs of inputs, which are there as [`Transform::describe`] said; the outputs must be, too.
    ///
    /// # Errors
    /// What is wrong with the inputs, for the caller to read.
    fn transform(inputs: Tensors) -> std::result::Result<Tensors, Failure>;
}

/// Makes a component of a [`Transform`]: `infer_guest::export_model!(Classify);`, once in a crate of the type `cdylib`.
/// Does nothing on other targets than `wasm32-wasip2`.
#[cfg(target_arch = "wasm32")]
#[macro_export]
macro_rules! export_model {
    ($transform:ident) => {
        $crate::abi::component::bindings::export!($transform with_types_in $crate::abi::component::bindings);
    };
}

/// Makes a component of a [`Transform`]: `infer_guest::export_model!(Classify);`, once in a crate of the type `cdylib`.
/// Does nothing on other targets than `wasm32-wasip2`.
#[cfg(not(target_arch = "wasm32"))]
#[macro_export]
macro_rules! export_model {
    ($transform:ident) => {
        const _: fn() = || {
            fn is_a_transform<T: $crate::transform::Transform>() {}
            is_a_transform::<$transform>();
        };
    };
}

/// What a model takes and gives, in the order in which it is said.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ModelInfo {
    pub(crate) inputs: Vec<TensorInfo>,
    pub(crate) outputs: Vec<TensorInfo>,
}

/// An input or an output.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct TensorInfo {
    pub(crate) name: String,
    pub(crate) data_type: DataType,
    pub(crate) dimensions: Vec<Option<u32>>,
}

impl ModelInfo {
    /// Nothing yet.
    pub fn new() -> ModelInfo {
        ModelInfo::default()
    }

    /// One more input; a dimension of `None` may be any.
    #[must_use]
    pub fn input(mut self, name: &str, data_type: DataType, dimensions: &[Option<u32>]) -> Self {
        self.inputs
            .push(TensorInfo::new(name, data_type, dimensions));
        self
    }

    /// One more output; a dimension of `None` may be any.
    #[must_use]
    pub fn output(mut self, name: &str, data_type: DataType, dimensions: &[Option<u32>]) -> Self {
        self.outputs
            .push(TensorInfo::new(name, data_type, dimensions));
        self
    }
}

impl TensorInfo {
    fn new(name: &str, data_type: DataType, dimensions: &[Option<u32>]) -> TensorInfo {
        TensorInfo {
            name: name.to_owned(),
            data_type,
            dimensions: dimensions.to_vec(),
        }
    }
}

/// The type of a tensor's elements: wasi-nn's own ([`DType`]), and those that infer adds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum DataType {
    /// IEEE half precision.
    F16,
    /// IEEE single precision.
    F32,
    /// IEEE double precision.
    F64,
    /// bfloat16.
    Bf16,
    /// Unsigned byte.
    U8,
    /// Signed 32-bit integer.
    I32,
    /// Signed 64-bit integer.
    I64,
    /// One byte, 0 or 1.
    Bool,
    /// Signed byte.
    I8,
    /// Signed 16-bit integer.
    I16,
    /// Unsigned 16-bit integer.
    U16,
    /// Unsigned 32-bit integer.
    U32,
    /// Unsigned 64-bit integer.
    U64,
    /// Bytes, as many as each element has: a text, or a file. The protocol's `BYTES`.
    String,
}

impl DataType {
    /// The same type as wasi-nn names it; `None` for one that it does not.
    pub fn dtype(self) -> Option<DType> {
        Some(match self {
            DataType::F16 => DType::F16,
            DataType::F32 => DType::F32,
            DataType::F64 => DType::F64,
            DataType::Bf16 => DType::Bf16,
            DataType::U8 => DType::U8,
            DataType::I32 => DType::I32,
            DataType::I64 => DType::I64,
            _ => return None,
        })
    }
}

impl From<DType> for DataType {
    fn from(dtype: DType) -> DataType {
        match dtype {
            DType::F16 => DataType::F16,
            DType::F32 => DataType::F32,
            DType::F64 => DataType::F64,
            DType::Bf16 => DataType::Bf16,
            DType::U8 => DataType::U8,
            DType::I32 => DataType::I32,
            DType::I64 => DataType::I64,
        }
    }
}

/// A tensor that the host holds. Only what is asked for is copied into the guest.
pub struct HostTensor(pub(crate) Remote);

impl HostTensor {
    /// Hands the host a tensor of these dimensions, whose product is the number of values: one copy.
    ///
    /// # Errors
    /// [`InvalidArgument`](Code::InvalidArgument) when the number of values is another.
    pub fn new<T: Element>(dimensions: &[u32], values: Vec<T>) -> Result<HostTensor> {
        HostTensor::of(&Tensor::new(dimensions, values)?)
    }

    /// Hands the host a tensor: one copy.
    ///
    /// # Errors
    /// None where there is a host; a limit of the host's is answered when the tensor is used.
    pub fn of(tensor: &Tensor) -> Result<HostTensor> {
        Remote::send(&View {
            dtype: tensor.dtype(),
            dimensions: tensor.dimensions(),
            data: tensor.bytes(),
        })
        .map(HostTensor)
    }

    /// Hands the host a tensor of strings, in one dimension.
    ///
    /// # Errors
    /// [`TooLarge`](Code::TooLarge) when there are more than 4 GiB of them.
    pub fn of_strings<S: AsRef<[u8]>>(strings: &[S]) -> Result<HostTensor> {
        let count = u32::try_from(strings.len()).map_err(|_| too_many())?;
        let mut data = Vec::new();
        for string in strings {
            let string = string.as_ref();
            let length = u32::try_from(string.len()).map_err(|_| too_many())?;
            data.extend_from_slice(&length.to_le_bytes());
            data.extend_from_slice(string);
        }
        Remote::send_strings(&[count], &data).map(HostTensor)
    }

    /// The type of the elements.
    pub fn data_type(&self) -> DataType {
        self.0.data_type()
    }

    /// The size of each dimension, in elements; `[]` for a scalar.
    pub fn dimensions(&self) -> Vec<u32> {
        self.0.dimensions()
    }

    /// Copies it here: dimensions and values, of a type that wasi-nn names.
    ///
    /// # Errors
    /// [`UnsupportedOperation`](Code::UnsupportedOperation) for another type.
    pub fn fetch(&self) -> Result<Output> {
        let data_type = self.data_type();
        let Some(dtype) = data_type.dtype() else {
            let message = format!("expected elements of a type of wasi-nn's, got {data_type:?}");
            return Err(Error::new(Code::UnsupportedOperation, message));
        };
        Ok(Output {
            dtype: Some(dtype),
            dimensions: Some(self.dimensions()),
            bytes: self.0.data(),
        })
    }

    /// Copies its values here.
    ///
    /// # Errors
    /// [`InvalidArgument`](Code::InvalidArgument) when the elements are of another type.
    pub fn values<T: Element>(&self) -> Result<Vec<T>> {
        Ok(self.fetch()?.values::<T>()?.into_owned())
    }

    /// Copies its strings here.
    ///
    /// # Errors
    /// [`InvalidArgument`](Code::InvalidArgument) when the elements are of another type.
    pub fn strings(&self) -> Result<Strings> {
        match self.data_type() {
            DataType::String => Strings::of(self.0.data()),
            other => {
                let message = format!("expected a tensor of strings, got {other:?}");
                Err(Error::new(Code::InvalidArgument, message))
            }
        }
    }
}

impl fmt::Debug for HostTensor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "HostTensor({:?} {:?})",
            self.data_type(),
            self.dimensions()
        )
    }
}

fn too_many() -> Error {
    Error::new(Code::TooLarge, "expected strings of less than 4 GiB")
}

/// The elements of a tensor of strings, one after another in one buffer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Strings(Vec<u8>);

impl Strings {
    /// Each is its length as a little-endian number of 4 bytes, and so many bytes.
    fn of(bytes: Vec<u8>) -> Result<Strings> {
        let mut rest = &bytes[..];
        while !rest.is_empty() {
            (_, rest) = split(rest).ok_or_else(|| {
                Error::new(Code::InvalidArgument, "a tensor of strings is cut off")
            })?;
        }
        Ok(Strings(bytes))
    }

    /// The strings in the tensor's order.
    pub fn iter(&self) -> impl Iterator<Item = &[u8]> {
        let mut rest = &self.0[..];
        std::iter::from_fn(move || {
            let (first, others) = split(rest)?;
            rest = others;
            Some(first)
        })
    }

    /// The first string; there is one unless the tensor is empty.
    ///
    /// # Errors
    /// [`InvalidArgument`](Code::InvalidArgument) when there is none.
    pub fn first(&self) -> Result<&[u8]> {
        self.iter()
            .next()
            .ok_or_else(|| Error::new(Code::InvalidArgument, "expected a string, got none"))
    }
}

/// The first string, and what comes after it.
fn split(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (length, rest) = bytes.split_first_chunk()?;
    rest.split_at_checked(u32::from_le_bytes(*length) as usize)
}

/// Tensors by name: the inputs or outputs of a call.
#[derive(Debug, Default)]
pub struct Tensors(pub(crate) Vec<(String, HostTensor)>);

impl Tensors {
    /// None yet.
    pub fn new() -> Tensors {
        Tensors::default()
    }

    /// One more.
    #[must_use]
    pub fn with(mut self, name: &str, tensor: HostTensor) -> Tensors {
        self.0.push((name.to_owned(), tensor));
        self
    }

    /// Takes one out, by its name.
    ///
    /// # Errors
    /// [`NotFound`](Code::NotFound) when it is not there.
    pub fn take(&mut self, name: &str) -> Result<HostTensor> {
        let place = self.0.iter().position(|(known, _)| known == name);
        let taken = place.and_then(|place| self.0.drain(place..=place).next());
        taken
            .map(|(_, tensor)| tensor)
            .ok_or_else(|| Error::new(Code::NotFound, format!("no tensor is named `{name}`")))
    }
}

impl Model {
    /// Runs the model on tensors that the host holds, which are used up; what it gives stays there, too.
    ///
    /// # Errors
    /// Those of [`Model::run`].
    pub fn run_on_host(&mut self, inputs: Tensors) -> Result<Tensors> {
        let inputs = inputs.0.into_iter();
        let inputs = inputs.map(|(name, tensor)| (name, tensor.0)).collect();
        let outputs = self.context.compute_remote(inputs)?.into_iter();
        Ok(Tensors(
            outputs
                .map(|(name, tensor)| (name, HostTensor(tensor)))
                .collect(),
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strings_are_lengths_and_bytes() {
        let strings = Strings::of(vec![2, 0, 0, 0, b'h', b'i', 0, 0, 0, 0]).expect("two");
        assert_eq!(strings.iter().collect::<Vec<_>>(), [b"hi".as_slice(), b""]);
        assert_eq!(strings.first().expect("the first"), b"hi");
        assert!(Strings::of(vec![3, 0, 0, 0, b'h', b'i']).is_err());
        assert!(Strings::of(vec![3, 0]).is_err());
        assert!(Strings::of(vec![]).expect("none").first().is_err());
    }

    #[test]
    fn a_description_keeps_its_order() {
        let info = ModelInfo::new()
            .input("a", DataType::String, &[Some(1)])
            .input("b", DataType::F32, &[None]);
        let names: Vec<&str> = info
            .inputs
            .iter()
            .map(|input| input.name.as_str())
            .collect();
        assert_eq!(names, ["a", "b"]);
    }

    #[test]
    fn a_native_build_has_no_host() {
        let error = HostTensor::of_strings(&["a"]).expect_err("no host");
        assert_eq!(error.code(), Code::UnsupportedOperation);
    }
}
