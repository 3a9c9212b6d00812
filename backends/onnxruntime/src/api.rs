//! Calls into ONNX Runtime's C library that `ort` has no safe form for.
//!
//! Each answers with a status, which is freed here; what the library hands out is released by `Drop`.
#![allow(unsafe_code, reason = "a C library is called")]

use std::ffi::{CStr, CString, c_char};
use std::ptr::{self, NonNull};

use infer_core::{Error, ErrorKind, Result, clip_to};
use ort::memory::MemoryInfo;
use ort::session::Session;
use ort::{AsPointer, sys};
use smallvec::{SmallVec, smallvec};

use crate::values::Value;

/// The longest part of the engine's own message that is repeated, in bytes.
const LONGEST: usize = 500;

/// What a run has a few of, without memory of its own: most models have one input and one output, and a small
/// model's run takes no longer than a dozen allocations.
pub(crate) type Few<T> = SmallVec<[T; 4]>;

/// A failure as the engine reports it.
pub(crate) type Status = std::result::Result<(), ort::Error>;

/// An error of ours with what the engine says about it, on one line.
pub(crate) fn failed(kind: ErrorKind, what: &str, message: &str) -> Error {
    let line = message.split_whitespace().collect::<Vec<_>>().join(" ");
    Error::new(kind, what).with_source(clip_to(&line, LONGEST).to_owned())
}

/// Turns a status into a result and frees it.
pub(crate) fn status(status: sys::OrtStatusPtr) -> Status {
    // SAFETY: the status was just handed to us and is used nowhere else.
    unsafe { ort::Error::result_from_status(status) }
}

/// A call that fails only for a lack of memory or by a fault of ours.
pub(crate) fn done(result: sys::OrtStatusPtr) -> Result<()> {
    status(result).map_err(|error| {
        let what = "ONNX Runtime failed at a call that should not fail";
        failed(ErrorKind::RuntimeError, what, error.message())
    })
}

/// A handle that the library just handed out.
pub(crate) fn handed<T>(pointer: *mut T) -> Result<NonNull<T>> {
    NonNull::new(pointer).ok_or_else(|| {
        let message = "ONNX Runtime handed out nothing where a handle was expected";
        Error::new(ErrorKind::RuntimeError, message)
    })
}

/// What a run may be told while it runs: to stop.
pub(crate) struct RunOptions(NonNull<sys::OrtRunOptions>);

// SAFETY: the options are a few plain fields, and the flag to stop is made to be set by another thread.
unsafe impl Send for RunOptions {}
// SAFETY: as above; nothing else of them is changed after they were made.
unsafe impl Sync for RunOptions {}

impl RunOptions {
    pub(crate) fn new() -> Result<RunOptions> {
        let mut options = ptr::null_mut();
        // SAFETY: the pointer is written before the call returns.
        done(unsafe { (ort::api().CreateRunOptions)(&mut options) })?;
        Ok(RunOptions(handed(options)?))
    }

    /// Has the run that uses these stop as soon as the engine looks.
    pub(crate) fn terminate(&self) {
        // SAFETY: the options live as long as `self`. A failure to stop is what a late stop is.
        let _ = status(unsafe { (ort::api().RunOptionsSetTerminate)(self.0.as_ptr()) });
    }

    /// Makes them usable again after [`RunOptions::terminate`].
    pub(crate) fn renew(&self) {
        // SAFETY: as above, between runs.
        let _ = status(unsafe { (ort::api().RunOptionsUnsetTerminate)(self.0.as_ptr()) });
    }
}

impl Drop for RunOptions {
    fn drop(&mut self) {
        // SAFETY: nobody else has the handle.
        unsafe { (ort::api().ReleaseRunOptions)(self.0.as_ptr()) }
    }
}

/// The names of a model's inputs and outputs, as the library wants them.
pub(crate) struct Names {
    pub(crate) inputs: Vec<CString>,
    pub(crate) outputs: Vec<CString>,
}

/// Runs a session that other threads may be running too.
///
/// ort's `Session::run` takes `&mut self`, because its author has seen crashes in execution providers other than
/// the CPU's. The provider for the CPU is what Microsoft documents as safe: "Multiple threads can invoke the
/// Run() method on the same session object" (ONNX Runtime's C API and its FAQ on threads). So the caller must hold
/// a lock for any other provider. `tests/soak.rs` compares every bit of what many threads get.
pub(crate) fn run(
    session: &Session,
    options: &RunOptions,
    names: &Names,
    inputs: &[Value],
) -> std::result::Result<Few<Value>, ort::Error> {
    let input_names: Few<*const c_char> = names.inputs.iter().map(|name| name.as_ptr()).collect();
    let output_names: Few<*const c_char> = names.outputs.iter().map(|name| name.as_ptr()).collect();
    let values: Few<*const sys::OrtValue> = inputs.iter().map(Value::pointer).collect();
    let mut outputs: Few<*mut sys::OrtValue> = smallvec![ptr::null_mut(); names.outputs.len()];
    // SAFETY: names, values and options outlive the call; the lengths are those of the arrays. The session is
    // changed by no run on the CPU provider, see above, and on others the caller has the only run.
    let result = status(unsafe {
        (ort::api().Run)(
            session.ptr().cast_mut(),
            options.0.as_ptr(),
            input_names.as_ptr(),
            values.as_ptr(),
            values.len(),
            output_names.as_ptr(),
            output_names.len(),
            outputs.as_mut_ptr(),
        )
    });
    let outputs: Few<Value> = outputs
        .into_iter()
        .filter_map(NonNull::new)
        .map(Value::output)
        .collect();
    result.map(|()| outputs)
}

/// Runs a session on a device of its own, with outputs in `memory`, which the host can read: the engine copies
/// inputs to the device and outputs into `memory`, once each. The caller must have the only run.
pub(crate) fn run_bound(
    session: &Session,
    options: &RunOptions,
    (names, memory): (&Names, &MemoryInfo<'static>),
    inputs: &[Value],
) -> std::result::Result<Few<Value>, ort::Error> {
    let binding = Binding::new(session)?;
    for (name, value) in names.inputs.iter().zip(inputs) {
        binding.bind_input(name, value)?;
    }
    for name in &names.outputs {
        binding.bind_output_to(name, memory)?;
    }
    binding.run(session, options)?;
    // SAFETY: the binding is alive; after this its outputs are in host memory.
    status(unsafe { (ort::api().SynchronizeBoundOutputs)(binding.0.as_ptr()) })?;
    binding.outputs(session)
}

/// Inputs and outputs that are bound to a session. What is bound must outlive its runs.
pub(crate) struct Binding(NonNull<sys::OrtIoBinding>);

// SAFETY: the handle is not tied to a thread, and each use of it borrows the binding.
unsafe impl Send for Binding {}

impl Binding {
    pub(crate) fn new(session: &Session) -> std::result::Result<Binding, ort::Error> {
        let mut binding = ptr::null_mut();
        // SAFETY: the binding is written before the call returns, and is dropped before the session.
        status(unsafe { (ort::api().CreateIoBinding)(session.ptr().cast_mut(), &mut binding) })?;
        let binding = NonNull::new(binding).ok_or_else(|| ort::Error::new("no binding"))?;
        Ok(Binding(binding))
    }

    pub(crate) fn bind_input(&self, name: &CStr, value: &Value) -> Status {
        // SAFETY: the binding holds the value on, and the library copies the name.
        status(unsafe { (ort::api().BindInput)(self.0.as_ptr(), name.as_ptr(), value.pointer()) })
    }

    pub(crate) fn bind_output(&self, name: &CStr, value: &Value) -> Status {
        // SAFETY: as above.
        status(unsafe { (ort::api().BindOutput)(self.0.as_ptr(), name.as_ptr(), value.pointer()) })
    }

    /// Has the engine take an output's memory there in each run.
    fn bind_output_to(&self, name: &CStr, memory: &MemoryInfo<'static>) -> Status {
        // SAFETY: the library copies the description of the memory.
        status(unsafe {
            (ort::api().BindOutputToDevice)(self.0.as_ptr(), name.as_ptr(), memory.ptr())
        })
    }

    /// Runs the session on what is bound. On a provider other than the CPU's the caller must have the only run.
    pub(crate) fn run(&self, session: &Session, options: &RunOptions) -> Status {
        // SAFETY: all three are alive. As for `run`, a session is changed by no run on the CPU provider, and on
        // others the caller has the only run; nobody else uses the binding.
        status(unsafe {
            (ort::api().RunWithBinding)(
                session.ptr().cast_mut(),
                options.0.as_ptr(),
                self.0.as_ptr(),
            )
        })
    }

    fn outputs(&self, session: &Session) -> std::result::Result<Few<Value>, ort::Error> {
        let allocator = session.allocator();
        let (mut values, mut count) = (ptr::null_mut(), 0);
        // SAFETY: an array that the allocator owns, of handles that are ours, is written.
        status(unsafe {
            (ort::api().GetBoundOutputValues)(
                self.0.as_ptr(),
                allocator.ptr().cast_mut(),
                &mut values,
                &mut count,
            )
        })?;
        if values.is_null() {
            return Ok(Few::new());
        }
        // SAFETY: the array has that many handles.
        let handles = unsafe { std::slice::from_raw_parts(values, count) }.to_vec();
        // SAFETY: the array, not the handles, is given back to where it came from.
        unsafe { allocator.free(values) };
        Ok(handles
            .into_iter()
            .filter_map(NonNull::new)
            .map(Value::output)
            .collect())
    }
}

impl Drop for Binding {
    fn drop(&mut self) {
        // SAFETY: nobody else has the handle.
        unsafe { (ort::api().ReleaseIoBinding)(self.0.as_ptr()) }
    }
}

/// Each node that the engine made of the model, by name, and the provider that it runs on. The session must have
/// been told to record it.
pub(crate) fn assignment(
    session: &Session,
) -> std::result::Result<Vec<(String, String)>, ort::Error> {
    let api = ort::api();
    let (mut groups, mut count) = (ptr::null(), 0);
    // SAFETY: an array that the session owns is written.
    status(unsafe {
        (api.Session_GetEpGraphAssignmentInfo)(session.ptr(), &mut groups, &mut count)
    })?;
    let mut found = Vec::new();
    for &group in slice(groups, count) {
        let mut provider = ptr::null();
        // SAFETY: the group is the session's, and so is its name.
        status(unsafe { (api.EpAssignedSubgraph_GetEpName)(group, &mut provider) })?;
        let provider = text(provider);
        let (mut nodes, mut count) = (ptr::null(), 0);
        // SAFETY: an array that the session owns is written.
        status(unsafe { (api.EpAssignedSubgraph_GetNodes)(group, &mut nodes, &mut count) })?;
        for &node in slice(nodes, count) {
            let (mut name, mut operator) = (ptr::null(), ptr::null());
            // SAFETY: the node is the session's, and so are its texts.
            status(unsafe { (api.EpAssignedNode_GetName)(node, &mut name) })?;
            // SAFETY: as above.
            status(unsafe { (api.EpAssignedNode_GetOperatorType)(node, &mut operator) })?;
            found.push((
                format!("{} {}", text(operator), text(name)),
                provider.clone(),
            ));
        }
    }
    Ok(found)
}

/// An array of the library's that lives as long as the session.
fn slice<'a, T>(first: *const T, count: usize) -> &'a [T] {
    match first.is_null() || count == 0 {
        true => &[],
        // SAFETY: the library says that so many are there.
        false => unsafe { std::slice::from_raw_parts(first, count) },
    }
}

fn text(pointer: *const c_char) -> String {
    if pointer.is_null() {
        return String::new();
    }
    // SAFETY: the library's texts end with a zero.
    unsafe { CStr::from_ptr(pointer) }
        .to_string_lossy()
        .into_owned()
}
