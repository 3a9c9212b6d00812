//! Tensors across the border to the engine, without a copy: inputs are the host's own buffers, outputs the
//! engine's. Strings are copied, since the engine keeps them in objects of its own.
#![allow(unsafe_code, reason = "a C library is called")]

use std::ptr::{self, NonNull};
use std::sync::{Arc, LazyLock};

use bytes::Bytes;
use infer_core::{Dtype, Error, ErrorKind, Result, Tensor, byte_length};
use ort::memory::{Allocator, MemoryInfo};
use ort::value::TensorElementType;
use ort::{AsPointer, sys};

use crate::api::{Few, done, failed, handed, status};

/// Every dtype and the engine's name for it.
const DTYPES: [(Dtype, TensorElementType); 14] = [
    (Dtype::F16, TensorElementType::Float16),
    (Dtype::F32, TensorElementType::Float32),
    (Dtype::F64, TensorElementType::Float64),
    (Dtype::BF16, TensorElementType::Bfloat16),
    (Dtype::U8, TensorElementType::Uint8),
    (Dtype::I32, TensorElementType::Int32),
    (Dtype::I64, TensorElementType::Int64),
    (Dtype::Bool, TensorElementType::Bool),
    (Dtype::I8, TensorElementType::Int8),
    (Dtype::I16, TensorElementType::Int16),
    (Dtype::U16, TensorElementType::Uint16),
    (Dtype::U32, TensorElementType::Uint32),
    (Dtype::U64, TensorElementType::Uint64),
    (Dtype::String, TensorElementType::String),
];

/// Our name for an element type; `None` for one that we do not carry.
pub(crate) fn dtype_of(element: TensorElementType) -> Option<Dtype> {
    DTYPES
        .iter()
        .find(|(_, known)| *known == element)
        .map(|(dtype, _)| *dtype)
}

fn element_of(dtype: Dtype) -> sys::ONNXTensorElementDataType {
    let known = DTYPES.iter().find(|(known, _)| *known == dtype);
    known
        .map_or(TensorElementType::Undefined, |(_, element)| *element)
        .into()
}

/// A tensor of the engine.
pub(crate) struct Value {
    handle: NonNull<sys::OrtValue>,
    /// The buffer that it borrows.
    borrowed: Bytes,
}

// SAFETY: the handle is counted in the engine and not tied to a thread.
unsafe impl Send for Value {}
// SAFETY: a value that is there is only read.
unsafe impl Sync for Value {}

impl Drop for Value {
    fn drop(&mut self) {
        // SAFETY: nobody else releases the handle.
        unsafe { (ort::api().ReleaseValue)(self.handle.as_ptr()) }
    }
}

impl Value {
    /// The engine's view of a tensor, whose buffer it borrows and keeps.
    pub(crate) fn input(tensor: &Tensor) -> Result<Value> {
        match tensor.dtype() {
            Dtype::String => Value::of_strings(tensor),
            dtype => {
                let bytes = aligned(tensor)?;
                let handle = borrow(dtype, tensor.shape(), &bytes)?;
                Ok(Value {
                    handle,
                    borrowed: bytes,
                })
            }
        }
    }

    /// What the engine handed out.
    pub(crate) fn output(handle: NonNull<sys::OrtValue>) -> Value {
        Value {
            handle,
            borrowed: Bytes::new(),
        }
    }

    pub(crate) fn pointer(&self) -> *const sys::OrtValue {
        self.handle.as_ptr()
    }

    /// A tensor in memory of the engine's, whose elements are not written yet.
    pub(crate) fn empty(dtype: Dtype, shape: &[usize]) -> Result<Value> {
        let (allocator, shape) = (Allocator::default(), signed(shape)?);
        let mut handle = ptr::null_mut();
        // SAFETY: the shape outlives the call, and the handle is written before it returns.
        done(unsafe {
            (ort::api().CreateTensorAsOrtValue)(
                allocator.ptr().cast_mut(),
                shape.as_ptr(),
                shape.len(),
                element_of(dtype),
                &mut handle,
            )
        })?;
        Ok(Value::output(handed(handle)?))
    }

    /// The first byte of a tensor that has some and is not of strings; its memory lives as long as the value.
    pub(crate) fn first(&self) -> Result<NonNull<u8>> {
        let mut first = ptr::null_mut();
        // SAFETY: the value is a tensor of a fixed element size.
        done(unsafe { (ort::api().GetTensorMutableData)(self.handle.as_ptr(), &mut first) })?;
        Ok(handed(first)?.cast())
    }

    fn of_strings(tensor: &Tensor) -> Result<Value> {
        let api = ort::api();
        let value = Value::empty(Dtype::String, tensor.shape())?;
        for (index, string) in tensor.strings()?.iter().enumerate() {
            let mut place = ptr::null_mut();
            // SAFETY: there are as many elements as strings, which `Tensor` has checked.
            done(unsafe {
                (api.GetResizedStringTensorElementBuffer)(
                    value.handle.as_ptr(),
                    index,
                    string.len(),
                    &mut place,
                )
            })?;
            if !string.is_empty() {
                let place = handed(place)?.as_ptr().cast::<u8>();
                // SAFETY: the element was just made this long, and nobody else has it.
                unsafe { ptr::copy_nonoverlapping(string.as_ptr(), place, string.len()) };
            }
        }
        Ok(value)
    }

    /// Our view of an output: the engine's own buffer. `model` and the inputs are kept as long as it is, because an
    /// output may be a weight of the model, or one of the inputs.
    pub(crate) fn into_tensor<M: Send + Sync + 'static>(
        self,
        inputs: &[Value],
        model: &Arc<M>,
    ) -> Result<Tensor> {
        let (dtype, shape) = self.kind()?;
        if dtype == Dtype::String {
            return Tensor::of_strings(shape.clone(), &self.strings(&shape)?);
        }
        let length = byte_length(dtype, &shape).ok_or_else(|| {
            let message = format!("an output of {dtype} {shape:?} overflows");
            Error::new(ErrorKind::TooLarge, message)
        })?;
        if length == 0 {
            return Tensor::new(dtype, shape, Bytes::new());
        }
        let first = self.first()?;
        let borrowed = inputs
            .iter()
            .map(|input| &input.borrowed)
            .find(|bytes| bytes.as_ptr_range().contains(&first.as_ptr().cast_const()));
        let elements = Elements {
            first,
            length,
            borrowed: borrowed.cloned(),
            value: self,
            _model: model.clone(),
        };
        Tensor::new(dtype, shape, Bytes::from_owner(elements))
    }

    fn kind(&self) -> Result<(Dtype, Vec<usize>)> {
        let (mut element, mut shape, mut rank) = (0i32, ptr::null(), 0);
        // SAFETY: the value is alive. The engine writes a number of 4 bytes, which a newer engine may have more of
        // than the enum, and where it keeps the shape itself.
        let described = status(unsafe {
            (ort::api().GetTensorElementTypeAndShapeDataReference)(
                self.handle.as_ptr(),
                ptr::from_mut(&mut element).cast(),
                &mut shape,
                &mut rank,
            )
        });
        described.map_err(|error| {
            let message = "an output is no tensor, which is not supported";
            failed(ErrorKind::UnsupportedOperation, message, error.message())
        })?;
        let dimensions: &[i64] = match shape.is_null() {
            true => &[],
            // SAFETY: the engine keeps so many dimensions there as long as the value lives.
            false => unsafe { std::slice::from_raw_parts(shape, rank) },
        };
        let known = DTYPES
            .iter()
            .find(|(dtype, _)| element_of(*dtype) as i32 == element);
        let (dtype, _) = known.ok_or_else(|| {
            let message =
                format!("an output has ONNX's element type {element}, which is not supported");
            Error::new(ErrorKind::UnsupportedOperation, message)
        })?;
        let shape = dimensions
            .iter()
            .map(|&dimension| usize::try_from(dimension));
        let shape = shape.collect::<std::result::Result<_, _>>().map_err(|_| {
            let message = format!("an output has the dimensions {dimensions:?}");
            Error::new(ErrorKind::RuntimeError, message)
        })?;
        Ok((*dtype, shape))
    }

    fn strings(&self, shape: &[usize]) -> Result<Vec<Vec<u8>>> {
        let (api, mut length) = (ort::api(), 0);
        let count: usize = shape.iter().product();
        if count == 0 {
            return Ok(Vec::new());
        }
        // SAFETY: the value is a tensor of strings.
        done(unsafe { (api.GetStringTensorDataLength)(self.handle.as_ptr(), &mut length) })?;
        let (mut all, mut offsets) = (vec![0u8; length], vec![0usize; count]);
        // SAFETY: there is room for every byte and one offset per element.
        done(unsafe {
            (api.GetStringTensorContent)(
                self.handle.as_ptr(),
                all.as_mut_ptr().cast(),
                length,
                offsets.as_mut_ptr(),
                count,
            )
        })?;
        let ends = offsets.iter().skip(1).copied().chain([length]);
        Ok(offsets
            .iter()
            .zip(ends)
            .map(|(&start, end)| all.get(start..end).unwrap_or_default().to_vec())
            .collect())
    }
}

/// An output's buffer, and everything that it may lie in.
struct Elements<M> {
    first: NonNull<u8>,
    length: usize,
    #[allow(dead_code, reason = "kept, because the buffer may be this one")]
    borrowed: Option<Bytes>,
    #[allow(dead_code, reason = "kept, because the buffer is its own")]
    value: Value,
    _model: Arc<M>,
}

// SAFETY: the buffer is only read from here on; what keeps it alive may be sent and shared.
unsafe impl<M: Send + Sync> Send for Elements<M> {}

impl<M> AsRef<[u8]> for Elements<M> {
    fn as_ref(&self) -> &[u8] {
        // SAFETY: the engine made the buffer this long and writes it no more once the run is over; the fields
        // keep it alive.
        unsafe { std::slice::from_raw_parts(self.first.as_ptr(), self.length) }
    }
}

/// The elements, where the engine may read them: a slice of a buffer need not be aligned.
fn aligned(tensor: &Tensor) -> Result<Bytes> {
    let bytes = tensor.host()?;
    let size = tensor.dtype().size().unwrap_or(1);
    match (bytes.as_ptr() as usize).is_multiple_of(size) {
        true => Ok(bytes),
        false => Tensor::copied_from(tensor.dtype(), tensor.shape().to_vec(), &bytes)?.host(),
    }
}

fn borrow(dtype: Dtype, shape: &[usize], bytes: &Bytes) -> Result<NonNull<sys::OrtValue>> {
    /// Asked for once: the engine makes a new description each time.
    static MEMORY: LazyLock<MemoryInfo<'static>> = LazyLock::new(MemoryInfo::default);
    let (shape, mut handle) = (signed(shape)?, ptr::null_mut());
    // SAFETY: the engine reads the buffer and never writes an input, and whoever has the handle keeps the buffer.
    done(unsafe {
        (ort::api().CreateTensorWithDataAsOrtValue)(
            MEMORY.ptr(),
            bytes.as_ptr().cast_mut().cast(),
            bytes.len(),
            shape.as_ptr(),
            shape.len(),
            element_of(dtype),
            &mut handle,
        )
    })?;
    handed(handle)
}

fn signed(shape: &[usize]) -> Result<Few<i64>> {
    let signed = shape.iter().map(|&dimension| i64::try_from(dimension));
    signed.collect::<std::result::Result<_, _>>().map_err(|_| {
        let message = format!("the dimensions {shape:?} overflow");
        Error::new(ErrorKind::InvalidArgument, message)
    })
}
