//! Logs on stderr: how many, by `-v`, `-q`, `--log` and `RUST_LOG`, and in which form; and where traces go.

use std::io::IsTerminal;

use infer::serve::Traces;
use tracing_subscriber::filter::Directive;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Layer};

use crate::args::values::parse_filter;
use crate::args::{LogFormat, Verbosity};
use crate::output;

/// What a server always logs: where it listens, and of each request where it was told to. Spans go to traces alone.
const SERVERS: [&str; 3] = [
    "infer::addresses=info",
    "infer::access=info",
    "infer::trace=off",
];

/// Starts logging. What the command line says wins over `RUST_LOG`.
pub(crate) fn start(verbosity: &Verbosity, traces: Option<&Traces>) {
    let filter = SERVERS
        .iter()
        .filter_map(|directive| directive.parse().ok());
    let filter = filter.fold(filter_of(verbosity), |filter: EnvFilter, add: Directive| {
        filter.add_directive(add)
    });
    let lines = tracing_subscriber::fmt::layer().with_writer(std::io::stderr);
    let lines = match verbosity.log_format {
        LogFormat::Text => lines
            .with_ansi(std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none())
            .with_target(false)
            .without_time()
            .boxed(),
        LogFormat::Json => lines
            .json()
            .flatten_event(true)
            .with_current_span(false)
            .with_span_list(false)
            .boxed(),
    };
    tracing_subscriber::registry()
        .with(lines.with_filter(filter))
        .with(traces.map(Traces::layer))
        .init();
}

fn filter_of(verbosity: &Verbosity) -> EnvFilter {
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
    let chosen = verbosity.log.clone().or(environment);
    chosen.unwrap_or_else(|| EnvFilter::new(level))
}
