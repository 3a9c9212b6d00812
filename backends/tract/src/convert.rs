//! Tensors and dtypes, ours to tract's and back.

use std::sync::Arc;

use bytes::Bytes;
use infer_core::{Dtype, Error, ErrorKind, Result, Tensor};
use tract_onnx::prelude::{
    DatumType, IntoArcTensor, TValue, Tensor as TractTensor, TractError, tensor1,
};

/// The alignment that tract's kernels like, in bytes.
const ALIGNMENT: usize = 64;

/// Our name for tract's dtype. Dimensions that tract keeps symbolic are ONNX's int64.
pub(crate) fn dtype_of(datum: DatumType) -> Option<Dtype> {
    Some(match datum.unquantized() {
        DatumType::F16 => Dtype::F16,
        DatumType::F32 => Dtype::F32,
        DatumType::F64 => Dtype::F64,
        DatumType::Bool => Dtype::Bool,
        DatumType::U8 => Dtype::U8,
        DatumType::U16 => Dtype::U16,
        DatumType::U32 => Dtype::U32,
        DatumType::U64 => Dtype::U64,
        DatumType::I8 => Dtype::I8,
        DatumType::I16 => Dtype::I16,
        DatumType::I32 => Dtype::I32,
        DatumType::I64 | DatumType::TDim => Dtype::I64,
        DatumType::String => Dtype::String,
        _ => return None,
    })
}

/// tract's dtype of elements that have a fixed size.
fn datum_of(dtype: Dtype) -> Option<DatumType> {
    Some(match dtype {
        Dtype::Bool => DatumType::Bool,
        Dtype::F16 => DatumType::F16,
        Dtype::F32 => DatumType::F32,
        Dtype::F64 => DatumType::F64,
        Dtype::U8 => DatumType::U8,
        Dtype::U16 => DatumType::U16,
        Dtype::U32 => DatumType::U32,
        Dtype::U64 => DatumType::U64,
        Dtype::I8 => DatumType::I8,
        Dtype::I16 => DatumType::I16,
        Dtype::I32 => DatumType::I32,
        Dtype::I64 => DatumType::I64,
        Dtype::BF16 | Dtype::String => return None,
    })
}

/// tract's copy of a tensor.
#[allow(
    unsafe_code,
    reason = "tract makes tensors from bytes by an unsafe function"
)]
pub(crate) fn to_tract(tensor: &Tensor) -> Result<TractTensor> {
    if tensor.dtype() == Dtype::String {
        return strings_to_tract(tensor);
    }
    let datum = datum_of(tensor.dtype()).ok_or_else(|| {
        let message = format!("tract has no input tensors of dtype {}", tensor.dtype());
        Error::new(ErrorKind::UnsupportedOperation, message)
    })?;
    let bytes = tensor.host()?;
    // SAFETY: every bit pattern is a value of the numeric dtypes that `datum_of` gives, the bytes of a
    // `Tensor` of bool are 0 and 1, and a `Tensor`'s byte length is that of its shape.
    unsafe { TractTensor::from_raw_dt_align(datum, tensor.shape(), &bytes, ALIGNMENT) }
        .map_err(refused)
}

/// tract has text where ONNX has bytes.
fn strings_to_tract(tensor: &Tensor) -> Result<TractTensor> {
    let strings = tensor.strings()?;
    let strings: Vec<String> = strings
        .iter()
        .map(|bytes| std::str::from_utf8(bytes).map(str::to_owned))
        .collect::<std::result::Result<_, _>>()
        .map_err(|e| {
            let message = "tract has no strings that are not UTF-8";
            Error::new(ErrorKind::UnsupportedOperation, message).with_source(e)
        })?;
    tensor1(&strings)
        .into_shape(tensor.shape())
        .map_err(refused)
}

fn refused(error: TractError) -> Error {
    Error::new(ErrorKind::RuntimeError, "tract refused a tensor")
        .with_source(crate::load::flat(error))
}

/// Our view of a tensor that tract computed: its own buffer, not a copy, but for strings.
pub(crate) fn from_tract(value: TValue) -> Result<Tensor> {
    let failed = |e| {
        Error::new(ErrorKind::RuntimeError, "tract gave no plain tensor")
            .with_source(crate::load::flat(e))
    };
    let tensor = value.into_arc_tensor();
    let dtype = dtype_of(tensor.datum_type()).ok_or_else(|| {
        let message = format!(
            "an output has dtype {:?}, which is not supported",
            tensor.datum_type()
        );
        Error::new(ErrorKind::UnsupportedOperation, message)
    })?;
    let plain = tensor.try_as_plain_ram().map_err(failed)?;
    let shape = tensor.shape().to_vec();
    if dtype == Dtype::String {
        let strings = plain.as_slice::<String>().map_err(failed)?;
        return Tensor::of_strings(shape, strings);
    }
    Tensor::new(dtype, shape, Bytes::from_owner(Elements(tensor)))
}

/// Keeps tract's buffer alive while somebody reads it.
struct Elements(Arc<TractTensor>);

impl AsRef<[u8]> for Elements {
    fn as_ref(&self) -> &[u8] {
        self.0.as_bytes()
    }
}
