//! Logs on stderr: how many, by `-v`, `-q`, `--log` and `RUST_LOG`.

use std::io::IsTerminal;

use tracing_subscriber::EnvFilter;

use crate::args::Verbosity;
use crate::args::values::parse_filter;
use crate::output;

/// Starts logging. What the command line says wins over `RUST_LOG`.
pub(crate) fn start(verbosity: &Verbosity) {
    let level = match (verbosity.quiet, verbosity.verbose) {
        (true, _) => "error",
        (false, 0) => "warn",
        (false, 1) => "warn,infer=info",
        (false, 2) => "info,infer=debug",
        (false, _) => "debug,infer=trace",
    };
    let said = verbosity.quiet || verbosity.verbose > 0;
    let environment = std::env::var("RUST_LOG")
        .ok()
        .filter(|filter| !said && !filter.is_empty());
    let environment = environment.and_then(|filter| {
        let parsed = parse_filter(&filter);
        parsed
            .map_err(|error| output::warn(&format!("RUST_LOG is ignored: {error}")))
            .ok()
    });
    let filter = verbosity
        .log
        .clone()
        .or(environment)
        .unwrap_or_else(|| EnvFilter::new(level));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none())
        .with_target(false)
        .without_time()
        .init();
}
