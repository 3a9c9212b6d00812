//! What goes to a person: errors with causes and hints on stderr, data on stdout.

use std::io::{self, IsTerminal, Write};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;

use crate::status::{BROKEN_PIPE, Status};

/// Prints an error: what failed, its causes indented below, and what can be done about it.
pub(crate) fn report(error: &anyhow::Error) {
    let mut text = String::new();
    for (index, cause) in error.chain().enumerate() {
        let label = if index == 0 { "error: " } else { "  " };
        // A cause of several lines, a backtrace say, stays below its label.
        let lines: Vec<String> = cause.to_string().lines().map(plain).collect();
        text.push_str(&format!("{label}{}\n", lines.join("\n  ")));
    }
    let hints = error
        .chain()
        .filter_map(|cause| cause.downcast_ref::<infer_core::Error>()?.hint());
    for hint in hints {
        text.push_str(&format!("hint: {hint}\n"));
    }
    // There is nowhere to report that stderr is closed.
    let _ = io::stderr().write_all(text.as_bytes());
}

/// A text from a file or a guest, with control characters spelt out: they would act on a terminal.
pub(crate) fn plain(text: &str) -> String {
    let spelt = |c: char| match c.is_control() {
        true => c.escape_default().to_string(),
        false => c.to_string(),
    };
    text.chars().map(spelt).collect()
}

/// Prints a warning, before there is a log.
pub(crate) fn warn(message: &str) {
    // There is nowhere to report that stderr is closed.
    let _ = io::stderr().write_all(format!("warning: {message}\n").as_bytes());
}

/// Writes data to stdout. A reader that went away ends the program, quietly.
pub(crate) fn print(text: &str) -> anyhow::Result<()> {
    let mut stdout = io::stdout().lock();
    match stdout
        .write_all(text.as_bytes())
        .and_then(|()| stdout.flush())
    {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {
            std::process::exit(BROKEN_PIPE.into())
        }
        result => Ok(result?),
    }
}

/// Prints what clap has to say, help or wrong usage, and ends.
pub(crate) fn usage(said: &clap::Error) -> ! {
    let printed = said.print().and_then(|()| io::stdout().flush());
    let status = match printed {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => BROKEN_PIPE.into(),
        Err(error) if !said.use_stderr() => {
            report(&anyhow::Error::from(error).context("cannot write to standard output"));
            Status::Failure.code().into()
        }
        _ => said.exit_code(),
    };
    std::process::exit(status)
}

/// Writes one JSON document to stdout.
pub(crate) fn print_json(value: &impl Serialize) -> anyhow::Result<()> {
    print(&format!("{}\n", serde_json::to_string_pretty(value)?))
}

/// A number of bytes for people: `17.4 MB`.
pub(crate) fn bytes(bytes: u64) -> String {
    const UNITS: [&str; 4] = ["kB", "MB", "GB", "TB"];
    if bytes < 1000 {
        return format!("{bytes} bytes");
    }
    let (mut value, mut unit) = (bytes as f64 / 1000.0, 0);
    while value >= 999.95 && unit + 1 < UNITS.len() {
        value /= 1000.0;
        unit += 1;
    }
    format!("{value:.1} {}", UNITS[unit])
}

/// Columns as wide as their widest cell.
pub(crate) fn table(lines: &[Vec<String>]) -> String {
    let width = |column: usize| {
        let cells = lines.iter().map(|line| line[column].chars().count());
        cells.max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..lines.first().map_or(0, Vec::len)).map(width).collect();
    let shown = lines.iter().map(|line| {
        let cells: Vec<String> = line
            .iter()
            .zip(&widths)
            .map(|(cell, width)| format!("{cell:width$}"))
            .collect();
        format!("{}\n", cells.join("  ").trim_end())
    });
    shown.collect()
}

/// A time for people, with three digits that matter.
pub(crate) fn time(time: Duration) -> String {
    let microseconds = time.as_secs_f64() * 1e6;
    let (value, unit) = match microseconds {
        small if small < 1e3 => (small, "us"),
        middle if middle < 1e6 => (middle / 1e3, "ms"),
        large => (large / 1e6, "s"),
    };
    let digits = match value {
        small if small < 10.0 => 2,
        middle if middle < 100.0 => 1,
        _ => 0,
    };
    format!("{value:.digits$} {unit}")
}

/// A bar on a terminal; nothing where stderr is a file or a pipe.
pub(crate) fn progress_bar() -> anyhow::Result<ProgressBar> {
    if !io::stderr().is_terminal() {
        return Ok(ProgressBar::hidden());
    }
    let style = ProgressStyle::with_template("{wide_msg} {bar:20} {percent:>3}%")?;
    Ok(ProgressBar::new(1).with_style(style))
}

/// A panic of an engine becomes an error, which is reported as one: the panic itself says nothing.
pub(crate) fn quiet_engine_panics() {
    let usual = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        if infer_core::in_engine() {
            tracing::debug!("{panic}");
        } else {
            usual(panic);
        }
    }));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_three_digits() {
        for (nanoseconds, expected) in [
            (1_234, "1.23 us"),
            (45_678, "45.7 us"),
            (678_901, "679 us"),
            (12_345_678, "12.3 ms"),
            (2_500_000_000, "2.50 s"),
        ] {
            assert_eq!(time(Duration::from_nanos(nanoseconds)), expected);
        }
    }

    #[test]
    fn columns_line_up() {
        let line = |cell: &str| vec![cell.to_owned(); 3];
        let shown = table(&[line("a"), line("long"), line("é")]);
        let lines: Vec<&str> = shown.lines().collect();
        assert!(lines[0].starts_with("a     a     a"), "{shown}");
        assert!(lines[1].starts_with("long  long"), "{shown}");
        assert!(lines[2].starts_with("é     é"), "{shown}");
        assert!(lines.iter().all(|line| !line.ends_with(' ')));
    }
}
