//! Logs on stderr: how many, by `-v`, `-q`, `--log` and `RUST_LOG`, and in which form; and where traces go.

use std::io::{self, IsTerminal, Write};

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
    let lines = tracing_subscriber::fmt::layer().with_writer(|| Lines(std::io::stderr()));
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
    let lines = tracing_subscriber::registry().with(lines.with_filter(filter));
    match traces {
        Some(traces) => lines.with(traces.layer()).init(),
        // Not as a layer that is absent: that would have every span be made.
        None => lines.init(),
    }
}

/// Each event is written at once, and of its lines only the first begins at the margin: what guests say cannot look like
/// another event.
struct Lines<W>(W);

impl<W: Write> Write for Lines<W> {
    fn write(&mut self, event: &[u8]) -> io::Result<usize> {
        let (text, end) = match event.strip_suffix(b"\n") {
            Some(text) => (text, b"\n".as_slice()),
            None => (event, [].as_slice()),
        };
        // Escape codes are those of the format; in texts these have been spelt out.
        let plain = |byte: &u8| !byte.is_ascii_control() || matches!(byte, b'\t' | b'\x1b');
        if text.iter().all(plain) {
            self.0.write_all(event)?;
            return Ok(event.len());
        }
        let mut lines = Vec::with_capacity(2 * event.len());
        for byte in text {
            match byte {
                b'\n' => lines.extend(b"\n    "),
                byte if plain(byte) => lines.push(*byte),
                byte => lines.extend(byte.escape_ascii()),
            }
        }
        lines.extend(end);
        self.0.write_all(&lines)?;
        Ok(event.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

fn filter_of(verbosity: &Verbosity) -> EnvFilter {
    let level = match (verbosity.quiet, verbosity.verbose) {
        (true, _) => "error",
        // What one waits for is said.
        (false, 0) => "warn,infer::compiling=info",
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_of_several_lines_looks_like_one() {
        let mut written = Lines(Vec::new());
        for event in ["one\n", "two\n WARN forged\n\n", "thr\0ee\r"] {
            written.write_all(event.as_bytes()).expect("memory");
        }
        let expected = "one\ntwo\n     WARN forged\n    \nthr\\x00ee\\r";
        assert_eq!(String::from_utf8(written.0).expect("UTF-8"), expected);
    }
}
