//! Where tests find a native engine, and what becomes of those that need one which is not there.

use std::env;
use std::io::Write;
use std::path::PathBuf;

use crate::{Backend, Candidate, run_engine};

/// The library of a native engine for tests: where `variable` says, else where `infer engines install` puts it.
/// `None` where there is none and `INFER_SKIP_ENGINES` is set; the test that is skipped is printed.
///
/// # Panics
/// Where there is none and nobody said to skip it.
pub fn engine_library(engine: &str, variable: &str, library: &str) -> Option<Candidate> {
    let set = env::var_os(variable)
        .filter(|value| !value.is_empty())
        .map(PathBuf::from);
    let path = set.unwrap_or_else(|| data_folder().join("engines").join(engine).join(library));
    if path.exists() {
        return Some(Candidate {
            path,
            origin: variable.to_owned(),
            exclusive: true,
        });
    }
    skip_or_fail(engine, &format!("it is not at `{}`", path.display()));
    None
}

/// Whether an engine can be used. One that cannot is left out where `INFER_SKIP_ENGINES` is set, and the test that
/// does without it is printed.
///
/// # Panics
/// Where it cannot and nobody said to skip it.
pub fn engine_is_there(backend: &dyn Backend) -> bool {
    let probed = run_engine(backend.name(), || backend.probe());
    match &probed {
        Ok(_) => true,
        Err(error) => {
            skip_or_fail(backend.name(), &error.report());
            false
        }
    }
}

/// Whether to go on without native engines: says what is then not tested.
///
/// The line goes past the test harness, which shows the output of failed tests only.
pub fn engines_are_skipped(what: &str) -> bool {
    let skipped = env::var_os("INFER_SKIP_ENGINES").is_some_and(|value| !value.is_empty());
    if skipped {
        let line = format!("skipped without native engines: {what}\n");
        // Where nobody reads it, there is nobody to tell.
        let _ = std::io::stderr().write_all(line.as_bytes());
    }
    skipped
}

fn skip_or_fail(engine: &str, why: &str) {
    let test = std::thread::current().name().unwrap_or("a test").to_owned();
    assert!(
        engines_are_skipped(&format!("{test} on {engine}")),
        "{test} needs {engine}, which cannot be used: {why}\nhint: run `infer engines install {engine}`, or set \
         INFER_SKIP_ENGINES=1 to go on without"
    );
}

fn data_folder() -> PathBuf {
    let path = |name: &str| {
        env::var_os(name)
            .filter(|value| !value.is_empty())
            .map(PathBuf::from)
    };
    path("INFER_HOME")
        .or_else(|| path("XDG_DATA_HOME").map(|path| path.join("infer")))
        .or_else(|| path("HOME").map(|path| path.join(".local/share/infer")))
        .unwrap_or_default()
}
