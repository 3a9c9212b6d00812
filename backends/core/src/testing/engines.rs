//! Where tests find a native engine.

use std::env;
use std::path::PathBuf;

use crate::Candidate;

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
    let test = std::thread::current().name().unwrap_or("a test").to_owned();
    assert!(
        env::var_os("INFER_SKIP_ENGINES").is_some(),
        "{test} needs {engine}, which is not at `{}`: run `infer engines install {engine}`, or set \
         INFER_SKIP_ENGINES=1 to go on without",
        path.display()
    );
    #[allow(clippy::print_stderr, reason = "a test that does nothing must say so")]
    {
        eprintln!("skipped without {engine}: {test}");
    }
    None
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
