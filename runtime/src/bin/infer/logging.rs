//! Logs on stderr: how many, by `-v`, `-q`, `--log` and `RUST_LOG`.

use std::io::IsTerminal;

use tracing_subscriber::EnvFilter;

use crate::args::Verbosity;

/// Starts logging. `--log` wins over `RUST_LOG`, which wins over `-v` and `-q`.
pub(crate) fn start(verbosity: &Verbosity) {
    let level = match (verbosity.quiet, verbosity.verbose) {
        (true, _) => "error",
        (false, 0) => "warn",
        (false, 1) => "warn,infer=info",
        (false, 2) => "info,infer=debug",
        (false, _) => "debug,infer=trace",
    };
    let environment = std::env::var("RUST_LOG")
        .ok()
        .and_then(|filter| filter.parse::<EnvFilter>().ok());
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
