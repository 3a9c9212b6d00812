//! Finding and loading OpenVINO's library: once per process, lazily, from the first candidate that is
//! there.
//!
//! A library is looked at before it is taken: that it opens, has the functions that are called, and is of
//! a version that was tried. `openvino-sys` keeps the one that it was given first for the whole process
//! and panics where a function is missing, so it must not see a wrong one.
#![allow(unsafe_code, reason = "opening a library and asking its version")]

use std::ffi::CStr;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use infer_core::{Candidate, Candidates, Error, ErrorKind, Result, check_whole};
use libloading::Library;
use openvino_sys::{ov_status_e, ov_version_t};

use crate::native::{Core, flat};

/// The version whose answers were tried; another may answer other operators wrongly.
const VERSION: &str = "2026.4";

pub(crate) const INSTALL: &str = "run `infer engines install openvino`";

/// Every function of the library that is called.
const FUNCTIONS: &[&str] = &[
    "ov_available_devices_free",
    "ov_compiled_model_create_infer_request",
    "ov_compiled_model_free",
    "ov_compiled_model_get_property",
    "ov_compiled_model_input_by_index",
    "ov_compiled_model_input_by_name",
    "ov_compiled_model_inputs_size",
    "ov_compiled_model_output_by_index",
    "ov_compiled_model_output_by_name",
    "ov_compiled_model_outputs_size",
    "ov_core_compile_model_props",
    "ov_core_create",
    "ov_core_free",
    "ov_core_get_available_devices",
    "ov_core_get_property",
    "ov_core_read_model",
    "ov_core_read_model_from_memory_buffer",
    "ov_free",
    "ov_get_last_err_msg",
    "ov_get_openvino_version",
    "ov_infer_request_cancel",
    "ov_infer_request_free",
    "ov_infer_request_get_output_tensor_by_index",
    "ov_infer_request_set_input_tensor_by_index",
    "ov_infer_request_set_output_tensor_by_index",
    "ov_infer_request_start_async",
    "ov_infer_request_wait",
    "ov_model_free",
    "ov_model_is_dynamic",
    "ov_output_const_port_free",
    "ov_partial_shape_free",
    "ov_port_get_any_name",
    "ov_port_get_element_type",
    "ov_port_get_partial_shape",
    "ov_shape_free",
    "ov_tensor_create",
    "ov_tensor_create_from_host_ptr",
    "ov_tensor_data",
    "ov_tensor_free",
    "ov_tensor_get_byte_size",
    "ov_tensor_get_element_type",
    "ov_tensor_get_shape",
    "ov_tensor_get_size",
    "ov_version_free",
];

/// The library of this process. It is never unloaded: the engine's own threads may still be in it.
#[derive(Debug)]
pub(crate) struct Engine {
    pub(crate) core: Core,
    pub(crate) version: String,
    pub(crate) path: PathBuf,
    /// Who named the place.
    pub(crate) origin: String,
}

static ENGINE: Mutex<Option<&'static Engine>> = Mutex::new(None);

/// Loads the library, or gives the one that this process has loaded.
///
/// # Errors
/// `NotFound` where no candidate is there, or one that was asked for is not; `RuntimeError` for a library
/// that is broken, of another version, or not the one that this process has loaded already.
pub(crate) fn load(candidates: &Candidates) -> Result<&'static Engine> {
    let mut engine = ENGINE.lock().unwrap_or_else(PoisonError::into_inner);
    for candidate in &candidates.places {
        match find(candidate)? {
            None => continue,
            Some(library) => return take(&mut engine, candidate, library),
        }
    }
    Err(not_installed(candidates))
}

/// Opens a candidate; `None` if it is not there and another may be tried.
fn find(candidate: &Candidate) -> Result<Option<Library>> {
    let by_name = is_bare_name(&candidate.path);
    if !by_name && !candidate.path.exists() {
        return absent(candidate);
    }
    check_whole(&candidate.path, &["libopenvino", "libtbb"])
        .map_err(|error| broken(candidate, &error.to_string()))?;
    // SAFETY: opening runs the library's initialisers. It is the one that the person who runs the host
    // named or installed.
    match unsafe { Library::new(&candidate.path) } {
        Ok(library) => Ok(Some(library)),
        Err(error) => {
            let text = flat(&deepest(&error));
            let name = candidate.path.to_string_lossy();
            if by_name && text.starts_with(&*name) && text.contains("No such file") {
                return absent(candidate);
            }
            Err(broken(candidate, "it does not load").with_source(text))
        }
    }
}

fn absent(candidate: &Candidate) -> Result<Option<Library>> {
    if !candidate.exclusive {
        return Ok(None);
    }
    let (path, origin) = (candidate.path.display(), &candidate.origin);
    Err(Error::new(
        ErrorKind::NotFound,
        format!("OpenVINO's library `{path}` ({origin}) is not there"),
    )
    .with_hint(format!("correct {origin}, or {INSTALL}")))
}

/// Makes an opened library the one of this process.
fn take(
    engine: &mut Option<&'static Engine>,
    candidate: &Candidate,
    library: Library,
) -> Result<&'static Engine> {
    // The version first: another one lacks functions, and its number says more than their names.
    let version = version_of(&library).map_err(|why| {
        let missing = missing_function(&library);
        let not_it = |function| format!("it is not OpenVINO's: it has no function `{function}`");
        broken(candidate, &missing.map_or(why, not_it))
    })?;
    check_version(&version).map_err(|why| broken(candidate, &why))?;
    if let Some(function) = missing_function(&library) {
        return Err(broken(
            candidate,
            &format!("it has no function `{function}`"),
        ));
    }
    if let Some(engine) = *engine {
        return same(engine, candidate);
    }
    // Never closed, see `Engine`.
    std::mem::forget(library);
    openvino_sys::library::load_from(&candidate.path)
        .map_err(|why| broken(candidate, &flat(&why)))?;
    let core = Core::new()
        .map_err(|failure| broken(candidate, "it does not start").with_source(failure))?;
    let loaded: &'static Engine = Box::leak(Box::new(Engine {
        core,
        version,
        path: real(&candidate.path),
        origin: candidate.origin.clone(),
    }));
    *engine = Some(loaded);
    Ok(loaded)
}

fn same(engine: &'static Engine, candidate: &Candidate) -> Result<&'static Engine> {
    if is_bare_name(&candidate.path) || real(&candidate.path) == engine.path {
        return Ok(engine);
    }
    let loaded = engine.path.display();
    Err(broken(
        candidate,
        &format!("this process has loaded `{loaded}`, and can have one only"),
    ))
}

fn missing_function(library: &Library) -> Option<&'static str> {
    FUNCTIONS.iter().copied().find(|name| {
        // SAFETY: the symbol is looked up and not used.
        unsafe { library.get::<*const ()>(name.as_bytes()) }.is_err()
    })
}

fn version_of(library: &Library) -> std::result::Result<String, String> {
    type GetVersion = unsafe extern "C" fn(*mut ov_version_t) -> ov_status_e;
    type FreeVersion = unsafe extern "C" fn(*mut ov_version_t);
    let mut version = ov_version_t {
        buildNumber: std::ptr::null(),
        description: std::ptr::null(),
    };
    // SAFETY: the functions are those of OpenVINO's C library, whose every name is there; the texts end
    // by 0 and are freed once, after the copy.
    unsafe {
        let failed = |error: libloading::Error| flat(&error.to_string());
        let get = library
            .get::<GetVersion>(b"ov_get_openvino_version")
            .map_err(failed)?;
        let free = library
            .get::<FreeVersion>(b"ov_version_free")
            .map_err(failed)?;
        if get(&mut version) != ov_status_e::OK || version.buildNumber.is_null() {
            return Err("it does not tell its version".to_owned());
        }
        let text = CStr::from_ptr(version.buildNumber)
            .to_string_lossy()
            .into_owned();
        free(&mut version);
        Ok(text)
    }
}

/// Checks a version as the engine tells it: `2026.4.1-22982-...`.
fn check_version(version: &str) -> std::result::Result<(), String> {
    let numbers: Vec<&str> = version.splitn(3, ['.', '-']).take(2).collect();
    match numbers.join(".") == VERSION {
        true => Ok(()),
        false => Err(format!(
            "expected OpenVINO {VERSION}, got {}",
            infer_core::clip(version)
        )),
    }
}

fn broken(candidate: &Candidate, why: &str) -> Error {
    let (path, origin) = (candidate.path.display(), &candidate.origin);
    Error::new(
        ErrorKind::RuntimeError,
        format!("cannot use OpenVINO's library `{path}` ({origin}): {why}"),
    )
    .with_hint(format!("{INSTALL}, and name no other library"))
}

fn not_installed(candidates: &Candidates) -> Error {
    let looked = candidates.looked_for();
    Error::new(
        ErrorKind::NotFound,
        format!("OpenVINO is not installed: looked for {looked}"),
    )
    .with_hint(INSTALL)
}

/// The system's loader looks for a name without folders in its own places.
fn is_bare_name(path: &Path) -> bool {
    path.components().count() == 1 && path.is_relative()
}

fn real(path: &Path) -> PathBuf {
    path.canonicalize().unwrap_or_else(|_| path.to_owned())
}

fn deepest(error: &dyn std::error::Error) -> String {
    error.source().map_or_else(|| error.to_string(), deepest)
}

#[cfg(test)]
mod tests {
    use super::check_version;

    #[test]
    fn other_versions_are_named() {
        for version in ["2026.4.1-22982-0c6ad9e9d73", "2026.4.0", "2026.4-1"] {
            check_version(version).expect("the version that was tried");
        }
        for version in ["2026.40.1-1", "2024.6.0-1", "2026", "", "x"] {
            let why = check_version(version).expect_err("another version");
            assert_eq!(why, format!("expected OpenVINO 2026.4, got {version}"));
        }
    }
}
