//! Tensors between guests and engine. Inputs are lent to the engine where they are aligned, which those of
//! the host are, and copied once where not. Outputs of a known shape are written by the engine into fresh
//! zeroed memory that is handed on; those of a shape that only the run tells are copied once.
//!
//! Between runs a request still knows addresses of tensors that are gone. Nothing follows them: each run
//! sets every input and every such output anew before it starts.
#![allow(unsafe_code, reason = "lending memory to the engine")]

use bytes::Bytes;
use infer_core::{Dtype, Error, ErrorKind, Result, Tensor, TensorInfo, byte_length, clip};

use crate::describe::OutputPort;
use crate::graph::failed;
use crate::native::{Failure, NativeTensor, Request};

/// The alignment that the engine's own memory has, in bytes.
const ALIGNMENT: usize = 64;

/// An input for one run.
pub(crate) struct Input {
    _tensor: NativeTensor,
    /// What the engine reads until the run is over.
    _bytes: Bytes,
}

impl Input {
    /// Gives a tensor to a request as its next input.
    ///
    /// # Errors
    /// Those of [`check`], and `InvalidArgument` for what the engine does not accept.
    pub(crate) fn lend(tensor: &Tensor, request: &mut Request, index: usize) -> Result<Input> {
        let mut bytes = tensor.host()?;
        if !(bytes.as_ptr() as usize).is_multiple_of(ALIGNMENT) {
            bytes = Tensor::copied_from(tensor.dtype(), tensor.shape().to_vec(), &bytes)?.host()?;
        }
        let native = match bytes.is_empty() {
            true => NativeTensor::new(tensor.dtype(), tensor.shape()),
            // SAFETY: a tensor's bytes are as many as dtype and shape say, and kept in `Input` until the
            // run is over; the engine only reads inputs.
            false => unsafe {
                let data = bytes.as_ptr().cast_mut();
                NativeTensor::over(tensor.dtype(), tensor.shape(), data)
            },
        };
        let native = native.map_err(not_taken)?;
        request.set_input(index, &native).map_err(not_taken)?;
        Ok(Input {
            _tensor: native,
            _bytes: bytes,
        })
    }
}

/// Checks what the engine would answer wrongly: it computes wide integers in 32 bits.
///
/// # Errors
/// `UnsupportedOperation` for a number that does not fit.
pub(crate) fn check(name: &str, tensor: &Tensor) -> Result<()> {
    let bytes = tensor.host()?;
    let wide = match tensor.dtype() {
        Dtype::I64 => first_wide(&bytes, |number| {
            i32::try_from(i64::from_le_bytes(number)).is_ok()
        }),
        Dtype::U64 => first_wide(&bytes, |number| {
            i32::try_from(u64::from_le_bytes(number)).is_ok()
        }),
        Dtype::U32 => first_wide(&bytes, |number| {
            i32::try_from(u32::from_le_bytes(number)).is_ok()
        }),
        _ => None,
    };
    match wide {
        None => Ok(()),
        Some(at) => Err(Error::new(
            ErrorKind::UnsupportedOperation,
            format!(
                "input `{}`: OpenVINO computes {} in 32 bits, and element {at} does not fit",
                clip(name),
                tensor.dtype()
            ),
        )
        .with_hint("another backend may run this model")),
    }
}

/// The first element that does not fit.
fn first_wide<const SIZE: usize>(bytes: &[u8], fits: impl Fn([u8; SIZE]) -> bool) -> Option<usize> {
    let (numbers, _) = bytes.as_chunks::<SIZE>();
    numbers.iter().position(|number| !fits(*number))
}

fn not_taken(failure: Failure) -> Error {
    Error::new(
        ErrorKind::InvalidArgument,
        "OpenVINO does not take the input",
    )
    .with_source(failure)
}

/// Where one run writes an output.
pub(crate) struct Output {
    dtype: Dtype,
    name: String,
    /// Memory of ours that the engine writes; `None` where the shape is not known before the run.
    lent: Option<Lent>,
}

struct Lent {
    _tensor: NativeTensor,
    shape: Vec<usize>,
    buffer: Vec<u8>,
    /// Where the aligned part of the buffer starts.
    start: usize,
    length: usize,
}

impl Output {
    /// Gives a request memory for its next output, where the shape is known.
    ///
    /// # Errors
    /// Those of the engine.
    pub(crate) fn lend(
        info: &TensorInfo,
        request: &mut Request,
        port: &OutputPort,
    ) -> Result<Output> {
        let shape = info.static_shape();
        let length = shape.as_deref().and_then(|s| byte_length(info.dtype, s));
        let lent = match (shape, length) {
            (Some(shape), Some(length)) if length > 0 && !port.is_input => {
                let lent = Lent::new(info.dtype, shape, length)
                    .map_err(|failure| failed("OpenVINO does not take an output", failure))?;
                request
                    .set_output(port.index, &lent._tensor)
                    .map_err(|failure| failed("OpenVINO does not take an output", failure))?;
                Some(lent)
            }
            _ => None,
        };
        Ok(Output {
            dtype: info.dtype,
            name: info.name.clone(),
            lent,
        })
    }

    /// What the run, which is over, has written.
    ///
    /// # Errors
    /// `RuntimeError` where that is not what the model declares.
    pub(crate) fn take(self, request: &Request, index: usize) -> Result<Tensor> {
        let name = clip(&self.name).to_owned();
        let unread = |failure| failed(&format!("OpenVINO does not give output `{name}`"), failure);
        let native = request.output(index).map_err(unread)?;
        let dtype = native.dtype().map_err(unread)?;
        if dtype != Some(self.dtype) {
            let got = dtype.map_or("another dtype".to_owned(), |dtype| dtype.to_string());
            let message = format!("output `{name}`: expected {}, got {got}", self.dtype);
            return Err(Error::new(ErrorKind::RuntimeError, message));
        }
        let shape = native.shape().map_err(unread)?;
        if let Some(lent) = self.lent {
            // The engine may have put other memory in its place, were the shape another after all.
            let same = native.data().map_err(unread)? == lent.data();
            if same && shape == lent.shape {
                return lent.into_tensor(self.dtype);
            }
        }
        native
            .read(|bytes| Tensor::copied_from(self.dtype, shape, bytes))
            .map_err(unread)?
    }
}

impl Lent {
    fn new(dtype: Dtype, shape: Vec<usize>, length: usize) -> std::result::Result<Lent, Failure> {
        let mut buffer = vec![0; length + ALIGNMENT - 1];
        let start = buffer.as_ptr().align_offset(ALIGNMENT);
        let data = buffer[start..start + length].as_mut_ptr();
        // SAFETY: so many bytes lie there; `Lent` is neither read nor freed before the run is over, and a
        // `Vec` that is moved keeps its memory where it is.
        let tensor = unsafe { NativeTensor::over(dtype, &shape, data) }?;
        Ok(Lent {
            _tensor: tensor,
            shape,
            buffer,
            start,
            length,
        })
    }

    fn data(&self) -> *const u8 {
        self.buffer[self.start..].as_ptr()
    }

    fn into_tensor(self, dtype: Dtype) -> Result<Tensor> {
        let range = self.start..self.start + self.length;
        Tensor::new(dtype, self.shape, Bytes::from(self.buffer).slice(range))
    }
}
