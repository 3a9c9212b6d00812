//! A child process that runs cases: names on standard input, one JSON line for each on standard output.

use std::io::{BufRead, Write};
use std::path::Path;

use crate::conformance::judge::judge;
use crate::conformance::wasm::Wasm;
use crate::conformance::{Case, Harness, Route, direct};

/// What stands before each line of results, since engines print too.
pub const MARK: &str = "\u{1}conformance ";

/// Runs what it is told to until its input ends.
///
/// # Errors
/// Where the harness cannot be set up, or input or output fails.
pub fn work(route: Route, backend: &str, data: &Path, guests: &Path) -> anyhow::Result<()> {
    let harness = harness(route, backend, guests)?;
    for name in std::io::stdin().lock().lines() {
        let outcome = judge(&*harness, &Case::at(data, &name?));
        let line = serde_json::to_string(&outcome)?;
        let mut stdout = std::io::stdout().lock();
        writeln!(stdout, "\n{MARK}{line}")?;
        stdout.flush()?;
    }
    Ok(())
}

/// What runs cases by a route.
///
/// # Errors
/// Where the engine or the guest is missing.
pub fn harness(route: Route, backend: &str, guests: &Path) -> anyhow::Result<Box<dyn Harness>> {
    match route {
        Route::Direct => direct::harness(backend),
        _ => Ok(Box::new(Wasm::new(route, backend, guests)?)),
    }
}
