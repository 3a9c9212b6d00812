//! The engine's library: found, opened once per process, and asked for its version.
//!
//! Steps: try the candidates in order; one that was asked for, or that is there and broken, ends the search
//! with what is wrong with it, and only one that is absent is passed over. The environment of the engine is
//! made once, with telemetry and its own printing off, and lives as long as the process.

use std::ffi::CStr;
use std::path::Path;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use infer_core::{Candidate, Candidates, Error, ErrorKind, Result, check_whole};
use ort::environment::Environment;
use ort::logging::LogLevel;

const INSTALL: &str = "get it: `infer engines install onnxruntime`";

/// The opened engine.
pub(crate) struct Library {
    pub(crate) environment: Environment,
    /// The engine's own version.
    pub(crate) version: String,
    /// Where it was found.
    pub(crate) candidate: Candidate,
}

impl Library {
    /// The engine by the first of the candidates that is there; the one that is open already, if one is.
    ///
    /// # Errors
    /// `NotFound` where none is there, `RuntimeError` for one that is broken or too old.
    pub(crate) fn open(candidates: &Candidates) -> Result<Arc<Library>> {
        static OPENED: OnceLock<Arc<Library>> = OnceLock::new();
        static OPENING: Mutex<()> = Mutex::new(());
        if let Some(library) = OPENED.get() {
            return Ok(library.clone());
        }
        let _one_at_a_time = OPENING.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(library) = OPENED.get() {
            return Ok(library.clone());
        }
        let library = Arc::new(open_first(candidates)?);
        Ok(OPENED.get_or_init(|| library).clone())
    }

    /// Where it is and who said so, for people.
    pub(crate) fn location(&self) -> String {
        let Candidate { path, origin, .. } = &self.candidate;
        format!("{} ({origin})", path.display())
    }
}

/// Keeps the engine from setting up its telemetry when it is opened: a number for this machine and a database in the
/// user's cache folder, and a thread. Turning telemetry off afterwards, as is done too, leaves these.
///
/// The engine looks at a variable of the environment, which is changed only where no other thread can look at it:
/// in a process with more threads than the caller's, and on systems that do not say so, this does nothing. A value that
/// is there already stays.
pub fn refuse_telemetry() {
    const VARIABLE: &str = "ORT_DISABLE_TELEMETRY";
    let threads = std::fs::read_dir("/proc/self/task").map(Iterator::count);
    if matches!(threads, Ok(1)) && std::env::var_os(VARIABLE).is_none() {
        // SAFETY: this is the only thread, and while it is here it starts no other.
        #[allow(unsafe_code, reason = "the environment is changed")]
        unsafe {
            std::env::set_var(VARIABLE, "1");
        }
    }
}

fn open_first(candidates: &Candidates) -> Result<Library> {
    let mut places = candidates.places.iter();
    if let Some(place) = places.find(|place| place.exclusive || !is_absent(&place.path)) {
        return open(place);
    }
    let looked = candidates.looked_for();
    let message = format!("ONNX Runtime is not there: looked for {looked}");
    Err(Error::new(ErrorKind::NotFound, message).with_hint(INSTALL))
}

/// What the system's loader says.
pub(crate) fn why(error: &libloading::Error) -> String {
    match std::error::Error::source(error) {
        Some(source) => source.to_string(),
        None => error.to_string(),
    }
}

/// A path is looked for; a bare name only the system's loader can find.
#[allow(unsafe_code, reason = "the loader is asked for a library")]
fn is_absent(path: &Path) -> bool {
    if path.components().count() > 1 {
        return !path.exists();
    }
    // SAFETY: opening a library runs its initialisers. The name is that of the engine which is to be used,
    // and whoever fills the system's folders is trusted.
    unsafe { libloading::Library::new(path) }.is_err()
}

#[allow(unsafe_code, reason = "the loader is asked for a library")]
fn open(candidate: &Candidate) -> Result<Library> {
    let Candidate { path, origin, .. } = candidate;
    let broken = |error: String| {
        let message = format!(
            "cannot open ONNX Runtime at `{}` ({origin})",
            path.display()
        );
        Error::new(ErrorKind::RuntimeError, message).with_source(error)
    };
    let remedy = match candidate.exclusive {
        true => format!(
            "{origin} takes the path of libonnxruntime.so, 1.{} or newer; without it, {INSTALL}",
            ort::MINOR_VERSION
        ),
        false => format!("it needs 1.{} or newer; {INSTALL}", ort::MINOR_VERSION),
    };
    check_whole(path, &["libonnxruntime"])
        .map_err(|error| broken(error.to_string()).with_hint(&remedy))?;
    // SAFETY: as in `is_absent`; ort opens it again but does not say what is wrong with it. It stays open until then,
    // because the loader would let go of it and relocate it anew.
    let opened = unsafe { libloading::Library::new(path) };
    let opened = opened.map_err(|error| broken(why(&error)).with_hint(&remedy))?;
    let builder =
        ort::init_from(path).map_err(|error| broken(error.to_string()).with_hint(&remedy))?;
    drop(opened);
    let environment = builder
        .with_name("infer")
        .with_telemetry(false)
        .with_logger(Arc::new(log))
        .build()
        .map_err(|error| broken(error.to_string()).with_hint(&remedy))?;
    environment.set_log_level(LogLevel::Warning);
    Ok(Library {
        environment,
        version: version(path).unwrap_or_else(|| "unknown".to_owned()),
        candidate: candidate.clone(),
    })
}

/// The engine's own version. The library is open already, so this opens nothing new.
#[allow(unsafe_code, reason = "a C library is called")]
fn version(path: &Path) -> Option<String> {
    // SAFETY: the library was just opened by this path, and its one entry point has this type in every version. The
    // text lives as long as the library, which stays open.
    unsafe {
        let library = libloading::Library::new(path).ok()?;
        let base = library
            .get::<unsafe extern "C" fn() -> *const ort::sys::OrtApiBase>(b"OrtGetApiBase\0")
            .ok()?;
        let text = ((*base()).GetVersionString)();
        Some(CStr::from_ptr(text).to_string_lossy().into_owned())
    }
}

/// What the engine would print. A failure it answers too, so nothing here is more than a detail.
fn log(_level: LogLevel, _category: &str, _id: &str, location: &str, message: &str) {
    tracing::debug!(location, "onnxruntime: {message}");
}
