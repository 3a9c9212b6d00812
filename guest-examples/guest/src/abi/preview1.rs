//! The preview1 ABI, `wasi_ephemeral_nn`: imports by hand, in the layout that its witx file gives.
//!
//! Every function answers an errno, 0 for success, and writes its result through a pointer. Inputs and outputs
//! are numbers in the order of the model's signature. There is no way to ask how long an output is, so a buffer
//! that turns out too small is doubled and the call repeated. There is no drop either: `unload` and
//! `finalize_execution_context` are WasmEdge's additions, and are imported only by a guest that closes handles.

#![allow(unsafe_code, reason = "the ABI is pointers and lengths")]

use super::{Argument, Encoding, Fetched, Target, View};
use crate::error::{Code, Error, Result};
use crate::tensor::DType;
use std::marker::PhantomData;

/// The functions as the host exports them. Pointers must be valid for what the names say; the host checks.
pub mod imports {
    use super::{Slice, Tensor};

    #[link(wasm_import_module = "wasi_ephemeral_nn")]
    unsafe extern "C" {
        /// Loads a model from its parts and writes its handle.
        pub fn load(
            parts: *const Slice,
            count: u32,
            encoding: u32,
            target: u32,
            graph: *mut u32,
        ) -> u32;
        /// Finds a model by name and writes its handle.
        pub fn load_by_name(name: *const u8, length: u32, graph: *mut u32) -> u32;
        /// Makes an execution context and writes its handle.
        pub fn init_execution_context(graph: u32, context: *mut u32) -> u32;
        /// Sets an input, which stays set until it is set again.
        pub fn set_input(context: u32, index: u32, tensor: *const Tensor) -> u32;
        /// Runs the model.
        pub safe fn compute(context: u32) -> u32;
        /// Copies an output into a buffer and writes how many bytes there were.
        pub fn get_output(
            context: u32,
            index: u32,
            buffer: *mut u8,
            size: u32,
            written: *mut u32,
        ) -> u32;
        /// WasmEdge's: gives a graph's handle back.
        pub safe fn unload(graph: u32) -> u32;
        /// WasmEdge's: gives a context's handle back.
        pub safe fn finalize_execution_context(context: u32) -> u32;
    }
}

/// A pointer and a length, as the ABI passes lists.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct Slice {
    /// The first byte.
    pub start: *const u8,
    /// How many elements.
    pub length: u32,
}

/// A tensor, as the ABI passes it.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct Tensor {
    /// A list of `u32`.
    pub dimensions: Slice,
    /// The number of the element type.
    pub dtype: u8,
    /// A list of bytes.
    pub data: Slice,
}

/// The first size of a buffer for an output that the host has not described, in bytes.
const FIRST_BUFFER: usize = 64 << 10;
/// The largest such buffer, in bytes.
const LARGEST_BUFFER: usize = 1 << 30;

/// Whether inputs are told apart by position; here nothing else does.
pub const BY_POSITION: bool = true;

/// A loaded model, by the host's number for it.
#[derive(Debug)]
pub struct Graph(pub u32);

impl Graph {
    /// Loads a model from its bytes.
    ///
    /// # Errors
    /// Whatever the host answers, and [`InvalidEncoding`](Code::InvalidEncoding) for one without a number here.
    pub fn load(parts: &[&[u8]], encoding: Encoding, target: Target) -> Result<Graph> {
        let encoding = encoding_number(encoding)?;
        let parts: Vec<Slice> = parts.iter().map(|part| slice(part)).collect();
        let mut graph = 0;
        // SAFETY: the parts outlive the call, and `graph` is writable.
        check(unsafe {
            imports::load(
                parts.as_ptr(),
                parts.len() as u32,
                encoding,
                target_number(target),
                &mut graph,
            )
        })?;
        Ok(Graph(graph))
    }

    /// Finds a model by name.
    ///
    /// # Errors
    /// Whatever the host answers.
    pub fn by_name(name: &str) -> Result<Graph> {
        let mut graph = 0;
        // SAFETY: the name outlives the call, and `graph` is writable.
        check(unsafe { imports::load_by_name(name.as_ptr(), name.len() as u32, &mut graph) })?;
        Ok(Graph(graph))
    }

    /// Makes an execution context.
    ///
    /// # Errors
    /// Whatever the host answers.
    pub fn context(&self) -> Result<Context> {
        let mut context = 0;
        // SAFETY: `context` is writable.
        check(unsafe { imports::init_execution_context(self.0, &mut context) })?;
        Ok(Context(context))
    }

    /// Gives the handle back (WasmEdge's `unload`).
    ///
    /// # Errors
    /// Whatever the host answers.
    pub fn close(self) -> Result<()> {
        check(imports::unload(self.0))
    }
}

/// An execution context, by the host's number for it.
#[derive(Debug)]
pub struct Context(pub u32);

impl Context {
    /// Sets the inputs and runs.
    ///
    /// # Errors
    /// Whatever the host answers, to the first call that fails.
    pub fn compute(&mut self, arguments: &[Argument<'_>]) -> Result<Results<'_>> {
        for argument in arguments {
            self.set_input(argument.index, &argument.tensor)?;
        }
        check(imports::compute(self.0))?;
        Ok(self.results())
    }

    /// Sets one input.
    ///
    /// # Errors
    /// Whatever the host answers.
    pub fn set_input(&mut self, index: u32, view: &View<'_>) -> Result<()> {
        let dtype = dtype_number(view.dtype);
        self.set_numbered(index, dtype, view.dimensions, view.data)
    }

    /// Sets one input by the number of its element type, which may be one that only infer has: 7 to 13 are bool,
    /// i8, i16, u16, u32, u64 and string.
    ///
    /// # Errors
    /// Whatever the host answers.
    pub fn set_numbered(
        &mut self,
        index: u32,
        dtype: u8,
        dimensions: &[u32],
        data: &[u8],
    ) -> Result<()> {
        let tensor = Tensor {
            dimensions: Slice {
                start: dimensions.as_ptr().cast(),
                length: dimensions.len() as u32,
            },
            dtype,
            data: slice(data),
        };
        // SAFETY: the tensor and what it points to outlive the call.
        check(unsafe { imports::set_input(self.0, index, &tensor) })
    }

    /// The outputs of the last run, whether or not there was one.
    pub fn results(&mut self) -> Results<'_> {
        Results {
            context: self.0,
            borrow: PhantomData,
        }
    }

    /// Gives the handle back (WasmEdge's `finalize_execution_context`).
    ///
    /// # Errors
    /// Whatever the host answers.
    pub fn close(self) -> Result<()> {
        check(imports::finalize_execution_context(self.0))
    }
}

/// The outputs of one run, valid until the context runs again.
pub struct Results<'context> {
    context: u32,
    borrow: PhantomData<&'context mut Context>,
}

impl Results<'_> {
    /// The ABI gives no names.
    pub fn names(&self) -> Option<impl ExactSizeIterator<Item = &str>> {
        None::<std::iter::Empty<&str>>
    }

    /// Copies one output here, into a buffer of the expected number of bytes where that is known.
    ///
    /// # Errors
    /// Whatever the host answers; [`TooLarge`](Code::TooLarge) when no buffer is large enough.
    pub fn fetch(&self, index: u32, expected: Option<usize>) -> Result<Fetched> {
        let mut size = expected.unwrap_or(FIRST_BUFFER);
        loop {
            match self.fetch_into(index, size) {
                Err(error) if error.code() == Code::TooLarge && size < LARGEST_BUFFER => {
                    size = (size * 2).clamp(FIRST_BUFFER, LARGEST_BUFFER);
                }
                Err(error) => return Err(error),
                Ok(data) => {
                    return Ok(Fetched {
                        dtype: None,
                        dimensions: None,
                        data,
                    });
                }
            }
        }
    }

    /// Copies one output's bytes here, of which there are at most as many as expected.
    ///
    /// # Errors
    /// Whatever the host answers; [`TooLarge`](Code::TooLarge) when there are more.
    pub fn bytes(&self, index: u32, expected: usize) -> Result<Vec<u8>> {
        self.fetch_into(index, expected)
    }

    /// Copies one output into a new buffer of this many bytes.
    ///
    /// # Errors
    /// [`TooLarge`](Code::TooLarge) when that is too few for the output, or too many for the guest's memory.
    pub fn fetch_into(&self, index: u32, size: usize) -> Result<Vec<u8>> {
        let mut data: Vec<u8> = Vec::new();
        if data.try_reserve_exact(size).is_err() {
            return Err(Error::new(
                Code::TooLarge,
                format!("the guest has no {size} bytes for output {index}"),
            ));
        }
        let mut written = 0;
        // SAFETY: the buffer has room for `size` bytes, and `written` is writable.
        check(unsafe {
            imports::get_output(
                self.context,
                index,
                data.as_mut_ptr(),
                size as u32,
                &mut written,
            )
        })?;
        // SAFETY: the host has written that many; `min` keeps a wrong host from exposing memory never written.
        unsafe { data.set_len(size.min(written as usize)) };
        Ok(data)
    }
}

/// Turns an errno into a result.
///
/// # Errors
/// The error that the number stands for, unless it is 0.
pub fn check(errno: u32) -> Result<()> {
    match errno {
        0 => Ok(()),
        errno => Err(Error::from_errno(errno as u16)),
    }
}

fn slice(bytes: &[u8]) -> Slice {
    Slice {
        start: bytes.as_ptr(),
        length: bytes.len() as u32,
    }
}

fn encoding_number(encoding: Encoding) -> Result<u32> {
    match encoding {
        Encoding::OpenVino => Ok(0),
        Encoding::Onnx => Ok(1),
        Encoding::TensorFlow => Ok(2),
        Encoding::PyTorch => Ok(3),
        Encoding::TensorFlowLite => Ok(4),
        Encoding::Autodetect => Ok(5),
        Encoding::Ggml => Err(Error::new(
            Code::InvalidEncoding,
            "preview1 has no number for GGML",
        )),
    }
}

fn target_number(target: Target) -> u32 {
    match target {
        Target::Cpu => 0,
        Target::Gpu => 1,
        Target::Tpu => 2,
    }
}

fn dtype_number(dtype: DType) -> u8 {
    match dtype {
        DType::F16 => 0,
        DType::F32 => 1,
        DType::F64 => 2,
        DType::U8 => 3,
        DType::I32 => 4,
        DType::I64 => 5,
        DType::Bf16 => 6,
    }
}
