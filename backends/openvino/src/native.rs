//! OpenVINO's C library, wrapped so that the rest of the crate needs no raw calls: each object frees
//! itself, each failure carries the engine's own text.
//!
//! `openvino-sys` must have been loaded (`library`) before a [`Core`] is made, and everything else here
//! comes from one. The higher `openvino` crate is not used: it compiles without properties, cannot cancel
//! a run that it waits for, and frees a reshaped tensor twice.
#![allow(
    unsafe_code,
    reason = "the one file that calls OpenVINO's C library for models, requests and tensors"
)]

use std::ffi::{CStr, CString, c_char, c_void};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::ptr::{NonNull, null, null_mut};

use infer_core::{Dtype, clip_to};
use openvino_sys as sys;
use openvino_sys::ov_status_e;

/// The longest text of the engine's that an error repeats, in bytes.
const LONGEST_TEXT: usize = 700;

/// What a call of the engine's answered.
pub(crate) type Answer<T> = std::result::Result<T, Failure>;

/// A call that failed.
#[derive(Debug)]
pub(crate) struct Failure {
    /// The engine's own text, on one line.
    pub(crate) text: String,
}

impl Failure {
    fn new(text: &str) -> Failure {
        Failure { text: flat(text) }
    }
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.text)
    }
}

impl std::error::Error for Failure {}

/// A text on one line, cut to a bearable length.
pub(crate) fn flat(text: &str) -> String {
    let words: Vec<&str> = text.split_whitespace().collect();
    clip_to(&words.join(" "), LONGEST_TEXT).to_owned()
}

/// The engine keeps one last text for the whole process: where two calls fail in the same moment, one
/// may get the other's.
fn checked(status: ov_status_e) -> Answer<()> {
    if status == ov_status_e::OK {
        return Ok(());
    }
    if status == ov_status_e::INVALID_C_PARAM {
        // The last text is then that of an earlier failure, maybe of another guest's.
        return Err(Failure::new("it does not take an argument"));
    }
    // SAFETY: the call gives null or a text of its own that `taken_text` frees.
    let text = unsafe { taken_text(sys::ov_get_last_err_msg()) };
    let text = text.filter(|text| !text.trim().is_empty());
    Err(Failure::new(&text.unwrap_or_else(|| format!("{status:?}"))))
}

/// Copies a text that the engine made for us, and frees it.
///
/// # Safety
/// `text` is null or a text ended by 0 that the engine gave to the caller.
unsafe fn taken_text(text: *const c_char) -> Option<String> {
    if text.is_null() {
        return None;
    }
    // SAFETY: the caller's promise; it is freed once, after the copy.
    unsafe {
        let copy = CStr::from_ptr(text).to_string_lossy().into_owned();
        sys::ov_free(text);
        Some(copy)
    }
}

fn c_text(text: impl Into<Vec<u8>>) -> Answer<CString> {
    CString::new(text).map_err(|_| Failure::new("a name or path holds a byte 0"))
}

fn made<T>(pointer: *mut T) -> Answer<NonNull<T>> {
    NonNull::new(pointer).ok_or_else(|| Failure::new("it answered nothing"))
}

/// A type that owns one pointer of the engine's.
macro_rules! owned {
    ($(#[$doc:meta])* $name:ident, $raw:ty, $free:path) => {
        $(#[$doc])*
        #[derive(Debug)]
        pub(crate) struct $name(NonNull<$raw>);

        impl Drop for $name {
            fn drop(&mut self) {
                // SAFETY: the pointer came from the engine, is owned by this alone, and is not used after.
                unsafe {
                    $free(self.0.as_ptr());
                }
            }
        }

        // SAFETY: the object is a shared pointer of C++ that may be used from any thread, one at a time.
        unsafe impl Send for $name {}
    };
}

owned!(
    /// The engine's plugins and readers.
    Core, sys::ov_core_t, sys::ov_core_free
);
owned!(
    /// A model that was read.
    Model, sys::ov_model_t, sys::ov_model_free
);
owned!(
    /// A model that was compiled for a device.
    Compiled, sys::ov_compiled_model_t, sys::ov_compiled_model_free
);
owned!(
    /// The working memory of one run at a time.
    Request, sys::ov_infer_request_t, sys::ov_infer_request_free
);
owned!(
    /// A tensor as the engine sees it.
    NativeTensor, sys::ov_tensor_t, sys::ov_tensor_free
);
owned!(
    /// An input or output of a compiled model.
    Port, sys::ov_output_const_port_t, sys::ov_output_const_port_free
);

// SAFETY: `ov::Core` is documented to be safe to use from several threads.
unsafe impl Sync for Core {}
// SAFETY: only constant calls are made: properties, ports and new requests, which the engine's own
// documentation has several threads do.
unsafe impl Sync for Compiled {}

impl Core {
    pub(crate) fn new() -> Answer<Core> {
        let mut core = null_mut();
        // SAFETY: the library is loaded; the pointer is written before it is read.
        checked(unsafe { sys::ov_core_create(&mut core) })?;
        Ok(Core(made(core)?))
    }

    /// The devices by the engine's names, such as `CPU` and `GPU.1`.
    pub(crate) fn devices(&self) -> Answer<Vec<String>> {
        let mut list = sys::ov_available_devices_t {
            devices: null_mut(),
            size: 0,
        };
        // SAFETY: the list is the engine's until it is freed below, once; its texts end by 0.
        unsafe {
            checked(sys::ov_core_get_available_devices(
                self.0.as_ptr(),
                &mut list,
            ))?;
            let names = (0..list.size)
                .map(|index| CStr::from_ptr(*list.devices.add(index)))
                .map(|name| name.to_string_lossy().into_owned())
                .collect();
            sys::ov_available_devices_free(&mut list);
            Ok(names)
        }
    }

    pub(crate) fn property(&self, device: &str, key: &str) -> Answer<String> {
        let (device, key) = (c_text(device)?, c_text(key)?);
        let mut value = null_mut();
        // SAFETY: all pointers are valid for the call; the value is given to us.
        let text = unsafe {
            checked(sys::ov_core_get_property(
                self.0.as_ptr(),
                device.as_ptr(),
                key.as_ptr(),
                &mut value,
            ))?;
            taken_text(value)
        };
        Ok(text.unwrap_or_default())
    }

    /// Reads a model from a file, with the file of its weights where the encoding has one.
    pub(crate) fn read_file(&self, model: &Path, weights: Option<&Path>) -> Answer<Model> {
        let model_path = c_text(model.as_os_str().as_bytes())?;
        let weights = weights.map(|path| c_text(path.as_os_str().as_bytes()));
        let weights = weights.transpose()?;
        let weights = weights.as_ref().map_or(null(), |path| path.as_ptr());
        let mut model = null_mut();
        // SAFETY: the paths end by 0 and outlive the call; no weights are null, as documented.
        checked(unsafe {
            sys::ov_core_read_model(self.0.as_ptr(), model_path.as_ptr(), weights, &mut model)
        })?;
        Ok(Model(made(model)?))
    }

    /// Reads a model from bytes, which are copied. The weights' memory must outlive all that is made of
    /// the model.
    pub(crate) fn read_memory(
        &self,
        bytes: &[u8],
        weights: Option<&NativeTensor>,
    ) -> Answer<Model> {
        let weights = weights.map_or(null(), |tensor| tensor.0.as_ptr().cast_const());
        let mut model = null_mut();
        // SAFETY: the engine is told the length of the bytes and copies them; no weights are null.
        checked(unsafe {
            sys::ov_core_read_model_from_memory_buffer(
                self.0.as_ptr(),
                bytes.as_ptr().cast(),
                bytes.len(),
                weights,
                &mut model,
            )
        })?;
        Ok(Model(made(model)?))
    }

    /// Compiles a model for a device; the properties are for this model alone.
    pub(crate) fn compile(
        &self,
        model: &Model,
        device: &str,
        properties: &[(&str, String)],
    ) -> Answer<Compiled> {
        let device = c_text(device)?;
        let texts = properties
            .iter()
            .map(|(key, value)| Ok((c_text(*key)?, c_text(value.as_str())?)))
            .collect::<Answer<Vec<_>>>()?;
        let pairs: Vec<sys::ov_property_t> = texts
            .iter()
            .map(|(key, value)| sys::ov_property_t {
                key: key.as_ptr(),
                value: value.as_ptr().cast(),
            })
            .collect();
        let mut compiled = null_mut();
        // SAFETY: `texts` and `pairs` outlive the call, and every key used here takes a text.
        checked(unsafe {
            sys::ov_core_compile_model_props(
                self.0.as_ptr(),
                model.0.as_ptr(),
                device.as_ptr(),
                pairs.len(),
                pairs.as_ptr(),
                &mut compiled,
            )
        })?;
        Ok(Compiled(made(compiled)?))
    }
}

impl Model {
    /// Whether any node's output has a shape that is not known before a run.
    pub(crate) fn is_dynamic(&self) -> bool {
        // SAFETY: the model is valid.
        unsafe { sys::ov_model_is_dynamic(self.0.as_ptr()) }
    }
}

impl Compiled {
    pub(crate) fn property(&self, key: &str) -> Answer<String> {
        let key = c_text(key)?;
        let mut value = null_mut();
        // SAFETY: all pointers are valid for the call; the value is given to us.
        let text = unsafe {
            checked(sys::ov_compiled_model_get_property(
                self.0.as_ptr(),
                key.as_ptr(),
                &mut value,
            ))?;
            taken_text(value)
        };
        Ok(text.unwrap_or_default())
    }

    pub(crate) fn inputs(&self) -> Answer<Vec<Port>> {
        let mut count = 0;
        // SAFETY: the compiled model is valid, and the count is written before it is read.
        checked(unsafe { sys::ov_compiled_model_inputs_size(self.0.as_ptr(), &mut count) })?;
        (0..count)
            .map(|index| {
                let mut port = null_mut();
                // SAFETY: as above; the port is given to us.
                checked(unsafe {
                    sys::ov_compiled_model_input_by_index(self.0.as_ptr(), index, &mut port)
                })?;
                Ok(Port(made(port)?))
            })
            .collect()
    }

    pub(crate) fn outputs(&self) -> Answer<Vec<Port>> {
        let mut count = 0;
        // SAFETY: the compiled model is valid, and the count is written before it is read.
        checked(unsafe { sys::ov_compiled_model_outputs_size(self.0.as_ptr(), &mut count) })?;
        (0..count)
            .map(|index| {
                let mut port = null_mut();
                // SAFETY: as above; the port is given to us.
                checked(unsafe {
                    sys::ov_compiled_model_output_by_index(self.0.as_ptr(), index, &mut port)
                })?;
                Ok(Port(made(port)?))
            })
            .collect()
    }

    /// The input that has this among its names.
    pub(crate) fn input_named(&self, name: &str) -> Answer<Port> {
        let name = c_text(name)?;
        let mut port = null_mut();
        // SAFETY: the name ends by 0; the port is given to us.
        checked(unsafe {
            sys::ov_compiled_model_input_by_name(self.0.as_ptr(), name.as_ptr(), &mut port)
        })?;
        Ok(Port(made(port)?))
    }

    /// The output that has this among its names.
    pub(crate) fn output_named(&self, name: &str) -> Answer<Port> {
        let name = c_text(name)?;
        let mut port = null_mut();
        // SAFETY: the name ends by 0; the port is given to us.
        checked(unsafe {
            sys::ov_compiled_model_output_by_name(self.0.as_ptr(), name.as_ptr(), &mut port)
        })?;
        Ok(Port(made(port)?))
    }

    pub(crate) fn request(&self) -> Answer<Request> {
        let mut request = null_mut();
        // SAFETY: the compiled model is valid; the request is given to us and keeps what it needs of it.
        checked(unsafe {
            sys::ov_compiled_model_create_infer_request(self.0.as_ptr(), &mut request)
        })?;
        Ok(Request(made(request)?))
    }
}

impl Port {
    /// One of the names; `None` if the tensor has none.
    pub(crate) fn name(&self) -> Option<String> {
        let mut name = null_mut();
        // SAFETY: the port is valid; the name is given to us.
        unsafe {
            checked(sys::ov_port_get_any_name(self.0.as_ptr(), &mut name)).ok()?;
            taken_text(name)
        }
    }

    /// The type of the elements, or the engine's number for one that the contract does not have.
    pub(crate) fn dtype(&self) -> Answer<std::result::Result<Dtype, u32>> {
        // A number and not the bindings' enum, since a newer library may know more types.
        let mut number = 0u32;
        // SAFETY: the port is valid, and the enum is one of 4 bytes.
        checked(unsafe {
            sys::ov_port_get_element_type(self.0.as_ptr(), (&raw mut number).cast())
        })?;
        Ok(dtype_of(number).ok_or(number))
    }

    /// The dimensions, `None` for a dynamic one; `None` where even their number is not known.
    pub(crate) fn dimensions(&self) -> Answer<Option<Vec<Option<usize>>>> {
        let unknown = sys::ov_dimension_t { min: 0, max: 0 };
        let mut shape = sys::ov_partial_shape_t {
            rank: unknown,
            dims: null_mut(),
        };
        // SAFETY: the shape is written by the call and freed once; `dims` has as many as the rank says.
        unsafe {
            checked(sys::ov_port_get_partial_shape(self.0.as_ptr(), &mut shape))?;
            let rank = (shape.rank.min == shape.rank.max)
                .then(|| usize::try_from(shape.rank.min).ok())
                .flatten();
            let dimensions = rank.map(|rank| {
                (0..rank)
                    .map(|axis| {
                        let dimension = *shape.dims.add(axis);
                        let fixed = dimension.min == dimension.max;
                        fixed.then(|| usize::try_from(dimension.min).ok()).flatten()
                    })
                    .collect()
            });
            sys::ov_partial_shape_free(&mut shape);
            Ok(dimensions)
        }
    }
}

impl Request {
    pub(crate) fn set_input(&mut self, index: usize, tensor: &NativeTensor) -> Answer<()> {
        // SAFETY: both are valid; the request shares the tensor. Whoever lent the tensor's memory keeps
        // it until the run is over, and nothing reads it between runs.
        checked(unsafe {
            sys::ov_infer_request_set_input_tensor_by_index(
                self.0.as_ptr(),
                index,
                tensor.0.as_ptr(),
            )
        })
    }

    pub(crate) fn set_output(&mut self, index: usize, tensor: &NativeTensor) -> Answer<()> {
        // SAFETY: as for inputs.
        checked(unsafe {
            sys::ov_infer_request_set_output_tensor_by_index(
                self.0.as_ptr(),
                index,
                tensor.0.as_ptr(),
            )
        })
    }

    pub(crate) fn output(&self, index: usize) -> Answer<NativeTensor> {
        let mut tensor = null_mut();
        // SAFETY: the request is valid; the tensor object is given to us, its memory stays the request's.
        checked(unsafe {
            sys::ov_infer_request_get_output_tensor_by_index(self.0.as_ptr(), index, &mut tensor)
        })?;
        Ok(NativeTensor(made(tensor)?))
    }

    /// Starts a run. It goes on until [`Running`] is waited for or dropped.
    pub(crate) fn start(&mut self) -> Answer<Running<'_>> {
        // SAFETY: the request is valid and idle: `Running` borrows it for as long as it is not.
        checked(unsafe { sys::ov_infer_request_start_async(self.0.as_ptr()) })?;
        Ok(Running {
            request: self,
            waited: false,
        })
    }
}

/// A run that is under way. However it is left, the run has ended by then.
pub(crate) struct Running<'a> {
    request: &'a mut Request,
    waited: bool,
}

impl Running<'_> {
    /// What stops the run from another thread.
    ///
    /// # Safety
    /// It must not be used once the request is freed.
    pub(crate) unsafe fn stopper(&self) -> Stopper {
        Stopper(self.request.0)
    }

    /// Waits for the end.
    pub(crate) fn wait(mut self) -> Answer<()> {
        self.waited = true;
        // SAFETY: the request is valid.
        checked(unsafe { sys::ov_infer_request_wait(self.request.0.as_ptr()) })
    }
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        if !self.waited {
            // SAFETY: the request is valid. The memory of inputs and outputs may be gone after this.
            unsafe {
                sys::ov_infer_request_cancel(self.request.0.as_ptr());
                sys::ov_infer_request_wait(self.request.0.as_ptr());
            }
        }
    }
}

/// Stops a run from another thread.
pub(crate) struct Stopper(NonNull<sys::ov_infer_request_t>);

// SAFETY: cancelling is the one call on a request that the engine allows beside a waiting one.
unsafe impl Send for Stopper {}

impl Stopper {
    pub(crate) fn stop(&self) {
        // SAFETY: the maker of this promised that the request is there.
        unsafe {
            sys::ov_infer_request_cancel(self.0.as_ptr());
        }
    }
}

impl NativeTensor {
    /// A tensor of the engine's own memory.
    pub(crate) fn new(dtype: Dtype, shape: &[usize]) -> Answer<NativeTensor> {
        let mut tensor = null_mut();
        with_shape(shape, |shape| {
            // SAFETY: the shape is valid for the call, which copies it.
            checked(unsafe { sys::ov_tensor_create(element_type(dtype)?, shape, &mut tensor) })
        })?;
        Ok(NativeTensor(made(tensor)?))
    }

    /// A tensor over memory of ours.
    ///
    /// # Safety
    /// `data` has as many bytes as dtype and shape say, aligned for the dtype, and stays there until no
    /// run uses the tensor any more. Where the tensor is an output, nobody else reads or writes it.
    pub(crate) unsafe fn over(
        dtype: Dtype,
        shape: &[usize],
        data: *mut u8,
    ) -> Answer<NativeTensor> {
        let mut tensor = null_mut();
        with_shape(shape, |shape| {
            let data = data.cast::<c_void>();
            // SAFETY: the caller's promise; the shape is copied by the call.
            checked(unsafe {
                sys::ov_tensor_create_from_host_ptr(element_type(dtype)?, shape, data, &mut tensor)
            })
        })?;
        Ok(NativeTensor(made(tensor)?))
    }

    pub(crate) fn dtype(&self) -> Answer<Option<Dtype>> {
        let mut number = 0u32;
        // SAFETY: the tensor is valid, and the enum is one of 4 bytes.
        checked(unsafe {
            sys::ov_tensor_get_element_type(self.0.as_ptr(), (&raw mut number).cast())
        })?;
        Ok(dtype_of(number))
    }

    pub(crate) fn shape(&self) -> Answer<Vec<usize>> {
        let mut shape = sys::ov_shape_t {
            rank: 0,
            dims: null_mut(),
        };
        // SAFETY: the shape is written by the call and freed once; `dims` has `rank` numbers.
        unsafe {
            // The call knows no shape of rank 0.
            let status = sys::ov_tensor_get_shape(self.0.as_ptr(), &mut shape);
            if status == ov_status_e::INVALID_C_PARAM && self.elements()? == 1 {
                return Ok(Vec::new());
            }
            checked(status)?;
            let rank = usize::try_from(shape.rank).unwrap_or(0);
            let dimensions = (0..rank)
                .map(|axis| usize::try_from(*shape.dims.add(axis)))
                .collect::<std::result::Result<_, _>>();
            sys::ov_shape_free(&mut shape);
            dimensions.map_err(|_| Failure::new("a dimension is negative"))
        }
    }

    fn elements(&self) -> Answer<usize> {
        let mut elements = 0;
        // SAFETY: the tensor is valid.
        checked(unsafe { sys::ov_tensor_get_size(self.0.as_ptr(), &mut elements) })?;
        Ok(elements)
    }

    /// The first byte of the elements.
    pub(crate) fn data(&self) -> Answer<*const u8> {
        let mut data = null_mut();
        // SAFETY: the tensor is valid.
        checked(unsafe { sys::ov_tensor_data(self.0.as_ptr(), &mut data) })?;
        Ok(data.cast::<u8>().cast_const())
    }

    /// Has `read` look at the elements, while no run writes them.
    pub(crate) fn read<T>(&self, read: impl FnOnce(&[u8]) -> T) -> Answer<T> {
        let mut length = 0;
        // SAFETY: the tensor is valid.
        checked(unsafe { sys::ov_tensor_get_byte_size(self.0.as_ptr(), &mut length) })?;
        if length == 0 {
            return Ok(read(&[]));
        }
        let data = self.data()?;
        if data.is_null() {
            return Err(Failure::new("a tensor has no memory"));
        }
        // SAFETY: the engine says that so many bytes lie there; the tensor lives through the call, and
        // whoever has the tensor of a request has it between runs.
        Ok(read(unsafe { std::slice::from_raw_parts(data, length) }))
    }
}

fn with_shape(shape: &[usize], call: impl FnOnce(sys::ov_shape_t) -> Answer<()>) -> Answer<()> {
    let mut dimensions = shape
        .iter()
        .map(|&dimension| i64::try_from(dimension))
        .collect::<std::result::Result<Vec<i64>, _>>()
        .map_err(|_| Failure::new("a dimension is too large"))?;
    call(sys::ov_shape_t {
        rank: dimensions.len() as i64,
        dims: dimensions.as_mut_ptr(),
    })
}

fn element_type(dtype: Dtype) -> Answer<sys::ov_element_type_e> {
    use openvino_sys::ov_element_type_e as Element;
    Ok(match dtype {
        Dtype::Bool => Element::OV_BOOLEAN,
        Dtype::BF16 => Element::BF16,
        Dtype::F16 => Element::F16,
        Dtype::F32 => Element::F32,
        Dtype::F64 => Element::F64,
        Dtype::I8 => Element::I8,
        Dtype::I16 => Element::I16,
        Dtype::I32 => Element::I32,
        Dtype::I64 => Element::I64,
        Dtype::U8 => Element::U8,
        Dtype::U16 => Element::U16,
        Dtype::U32 => Element::U32,
        Dtype::U64 => Element::U64,
        Dtype::String => return Err(Failure::new("strings cannot be passed")),
    })
}

fn dtype_of(number: u32) -> Option<Dtype> {
    const ALL: [Dtype; 13] = [
        Dtype::Bool,
        Dtype::BF16,
        Dtype::F16,
        Dtype::F32,
        Dtype::F64,
        Dtype::I8,
        Dtype::I16,
        Dtype::I32,
        Dtype::I64,
        Dtype::U8,
        Dtype::U16,
        Dtype::U32,
        Dtype::U64,
    ];
    ALL.into_iter()
        .find(|dtype| element_type(*dtype).is_ok_and(|element| element as u32 == number))
}

/// The engine's name for the number of an element type that the contract does not have.
pub(crate) fn element_name(number: u32) -> &'static str {
    match number {
        0 => "dynamic",
        6 => "i4",
        11 => "u1",
        12 => "u2",
        13 => "u3",
        14 => "u4",
        15 => "u6",
        20 => "nf4",
        21 => "f8e4m3",
        22 => "f8e5m2",
        23 => "string",
        24 => "f4e2m1",
        25 => "f8e8m0",
        _ => "unknown",
    }
}
