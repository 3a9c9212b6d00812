//! `infer tune`: measures where a model runs fastest on this machine, and keeps the choice if asked to.

use std::borrow::Cow;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context;
use indicatif::ProgressBar;
use infer::tune::{
    Agreement, Choice, Measured, Plan, Precisions, Progress, Report, Row, TunedStore,
};
use infer::{Backends, Selection};
use infer_core::{Error, ErrorKind, Precision};
use infer_models::{Model as ModelFiles, ModelStore};
use serde::Serialize;

use crate::args::TuneArgs;
use crate::output::{self, plain};
use crate::status::Status;

/// Steps of the bar for each candidate.
const STEPS: u64 = 1000;

pub(crate) fn tune(args: &TuneArgs) -> anyhow::Result<Status> {
    let reference = &args.model;
    let done = reference
        .open(&ModelStore::from_environment()?)
        .map_err(anyhow::Error::from)
        .and_then(|files| match args.forget {
            true => forget(&files),
            false => measure(args, &files),
        });
    done.with_context(|| format!("cannot tune the model `{reference}`"))?;
    Ok(Status::Success)
}

/// What a model is run with: as `infer tune` chose if it did and if that is wanted, else as usual.
pub(crate) fn selection<'a>(
    tuned: Option<&TunedStore>,
    usual: &'a Selection,
    (files, backends): (&ModelFiles, &Backends),
) -> Cow<'a, Selection> {
    match tuned {
        Some(tuned) => Cow::Owned(tuned.selection(usual, files, backends)),
        None => Cow::Borrowed(usual),
    }
}

fn forget(files: &ModelFiles) -> anyhow::Result<()> {
    let name = &files.name;
    match TunedStore::from_environment()?.forget(files)? {
        Some(path) => output::print(&format!("{name} is forgotten: {}\n", path.display())),
        None => output::print(&format!("{name}: nothing was kept\n")),
    }
}

fn measure(args: &TuneArgs, files: &ModelFiles) -> anyhow::Result<()> {
    let (backends, wishes) = (args.libraries.backends()?, args.wishes());
    let plan = Plan {
        candidates: backends.candidates(&wishes, files.encoding)?,
        shapes: args.shapes.clone(),
        time: args.time,
    };
    let bar = output::progress_bar()?;
    bar.set_length(STEPS * plan.candidates.len() as u64);
    let report = infer::tune::tune(&backends, files, &plan, &mut |progress| {
        show(&bar, &progress);
    });
    bar.finish_and_clear();
    let report = report?;
    let best = report.best(&to_take(&wishes.precisions));
    let saved = match best.filter(|_| args.save) {
        Some(best) => {
            let choice = Choice::here(&best.setting, &backends)?;
            Some(TunedStore::from_environment()?.save(files, &choice)?)
        }
        None => None,
    };
    match args.json {
        true => output::print_json(&document(files, (&report, best), saved.as_deref()))?,
        false => output::print(&text(&report, best, saved.as_deref()))?,
    }
    match best {
        Some(_) => Ok(()),
        None => Err(nothing_to_take(&report).into()),
    }
}

/// The precisions that may be taken for later runs: f32 and what was asked for by name.
fn to_take(precisions: &Precisions) -> Vec<Precision> {
    match precisions {
        Precisions::Named(named) => named.clone(),
        Precisions::All => vec![Precision::F32],
    }
}

fn nothing_to_take(report: &Report) -> Error {
    let message = match report.rows.iter().any(|row| row.result.is_ok()) {
        true => "no setting that may be taken gives outputs like the reference's",
        false => "the model ran with no setting",
    };
    let error = Error::new(ErrorKind::RuntimeError, message);
    let refused = |row: &Row| {
        let kind = row.result.as_ref().err().map(Error::kind);
        kind == Some(ErrorKind::UnsupportedOperation)
    };
    match report.rows.iter().all(refused) {
        true => error,
        false => error.with_hint(
            "where an input has dynamic dimensions, say its shape: --shape INPUT=DIMENSIONS (`infer inspect` shows \
             them)",
        ),
    }
}

fn show(bar: &ProgressBar, progress: &Progress<'_>) {
    match progress {
        Progress::Reference => bar.set_message("the f32 reference"),
        Progress::Measuring {
            index,
            setting,
            part,
        } => {
            bar.set_position(STEPS * *index as u64 + (STEPS as f64 * part) as u64);
            bar.set_message(setting.to_string());
        }
        // What is measured is not lost with an interrupted command: -v has it.
        Progress::Done(Row { setting, result }) => bar.suspend(|| match result {
            Ok(measured) => tracing::info!("{setting}: median {}", output::time(measured.median)),
            Err(error) => tracing::info!("{setting}: {}", error.report()),
        }),
    }
}

const TITLES: [&str; 11] = [
    "",
    "backend",
    "device",
    "threads",
    "precision",
    "median",
    "p95",
    "min",
    "runs/s",
    "load",
    "f32 agreement",
];

fn text(report: &Report, best: Option<&Row>, saved: Option<&Path>) -> String {
    let measured = report.rows.iter().filter_map(|row| {
        let cells = cells(row, row.result.as_ref().ok()?);
        let mark = if best.is_some_and(|best| std::ptr::eq(best, row)) {
            "*"
        } else {
            ""
        };
        Some([vec![mark.to_owned()], cells].concat())
    });
    let titles = TITLES.map(str::to_owned).to_vec();
    let lines: Vec<Vec<String>> = std::iter::once(titles).chain(measured).collect();
    let mut text = String::new();
    if lines.len() > 1 {
        text += &output::table(&lines);
    }
    text += &failures(&report.rows);
    if let Some(best) = best {
        text += &format!("* to take: {}\n", best.setting);
        if report.rows[0].setting.precision != best.setting.precision {
            text +=
                "  a faster precision is taken only if --precision names it and it gives numbers\n";
        }
    }
    if let (Some(reference), true) = (report.reference, lines.len() > 1) {
        text += &format!("compared with {reference} on cpu, f32\n");
    }
    if let Some(saved) = saved {
        text += &format!("kept for later runs: {}\n", saved.display());
    }
    text
}

/// One line for each backend, device and reason, with the settings that it is for.
fn failures(rows: &[Row]) -> String {
    let mut lines: Vec<(String, Vec<String>)> = Vec::new();
    for Row { setting, result } in rows {
        let Err(error) = result else { continue };
        let start = format!("{} on {}", setting.backend, setting.device);
        let shown = setting.to_string();
        let how = shown.trim_start_matches(&start).trim_start_matches(", ");
        let line = format!("{start}: {}", plain(&error.report()));
        match lines.iter_mut().find(|(known, _)| *known == line) {
            Some((_, settings)) => settings.push(how.to_owned()),
            None => lines.push((line, vec![how.to_owned()])),
        }
    }
    lines
        .iter()
        .map(|(line, settings)| format!("{line} ({})\n", settings.join("; ")))
        .collect()
}

fn cells(Row { setting, .. }: &Row, measured: &Measured) -> Vec<String> {
    let elsewhere = match measured.elsewhere {
        0 => String::new(),
        nodes => format!(", {nodes} nodes elsewhere"),
    };
    let precision = match setting.precision {
        Precision::Auto => format!("auto ({})", measured.computes_in),
        named => named.to_string(),
    };
    vec![
        setting.backend.clone(),
        format!("{}{elsewhere}", setting.device),
        setting
            .threads
            .map_or("-".to_owned(), |threads| threads.to_string()),
        precision,
        output::time(measured.median),
        output::time(measured.p95),
        output::time(measured.min),
        format!("{:.1}", measured.runs_per_second),
        output::time(measured.load),
        measured
            .agreement
            .as_ref()
            .map_or("-".to_owned(), agreement),
    ]
}

fn agreement(agreement: &Agreement) -> String {
    let top = match agreement.same_top {
        true => "same top",
        false => "another top",
    };
    match agreement.relative_l2 {
        0.0 => format!("equal, {top}"),
        distance if distance.is_finite() => format!("{distance:.1e}, {top}"),
        _ => format!("none, {top}"),
    }
}

#[derive(Serialize)]
struct Document {
    model: String,
    /// The backend that outputs are compared with.
    reference: Option<&'static str>,
    rows: Vec<RowDocument>,
    /// The place of the best row.
    best: Option<usize>,
    /// The file of the choice that was kept.
    kept: Option<PathBuf>,
}

#[derive(Serialize)]
struct RowDocument {
    backend: String,
    device: String,
    threads: Option<usize>,
    precision: String,
    #[serde(flatten)]
    result: ResultDocument,
}

#[derive(Serialize)]
#[serde(untagged)]
enum ResultDocument {
    Measured {
        computes_in: String,
        nodes_elsewhere: usize,
        runs: usize,
        median_ms: f64,
        p95_ms: f64,
        min_ms: f64,
        runs_per_second: f64,
        load_ms: f64,
        /// Null where there is no reference, and where the distance is not finite.
        relative_l2: Option<f64>,
        same_top: Option<bool>,
    },
    Failed {
        error: String,
    },
}

fn document(
    files: &ModelFiles,
    (report, best): (&Report, Option<&Row>),
    kept: Option<&Path>,
) -> Document {
    let place = |best: &Row| report.rows.iter().position(|row| std::ptr::eq(row, best));
    Document {
        model: files.name.clone(),
        reference: report.reference,
        rows: report.rows.iter().map(row_document).collect(),
        best: best.and_then(place),
        kept: kept.map(Path::to_owned),
    }
}

fn row_document(Row { setting, result }: &Row) -> RowDocument {
    let milliseconds = |time: Duration| time.as_secs_f64() * 1e3;
    RowDocument {
        backend: setting.backend.clone(),
        device: setting.device.to_string(),
        threads: setting.threads.map(usize::from),
        precision: setting.precision.to_string(),
        result: match result {
            Ok(measured) => ResultDocument::Measured {
                computes_in: measured.computes_in.to_string(),
                nodes_elsewhere: measured.elsewhere,
                runs: measured.runs,
                median_ms: milliseconds(measured.median),
                p95_ms: milliseconds(measured.p95),
                min_ms: milliseconds(measured.min),
                runs_per_second: measured.runs_per_second,
                load_ms: milliseconds(measured.load),
                relative_l2: measured.agreement.map(|agreement| agreement.relative_l2),
                same_top: measured.agreement.map(|agreement| agreement.same_top),
            },
            Err(error) => ResultDocument::Failed {
                error: error.report(),
            },
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_not_named_is_not_taken() {
        assert_eq!(to_take(&Precisions::All), [Precision::F32]);
        let named = vec![Precision::BF16];
        assert_eq!(to_take(&Precisions::Named(named.clone())), named);
    }
}
