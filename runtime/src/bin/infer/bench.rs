//! `infer bench`: how long a model or a guest takes, by the number of callers at one time.

use std::path::Path;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use anyhow::Context;
use indicatif::ProgressBar;
use infer::bench::{self, Load, Measured};
use infer::{Backends, End, Engine, EngineConfig, Guest, Instance, Model, Registry};
use infer_core::{Device, Error, ErrorKind, Result};
use infer_models::{ModelRef, ModelStore};
use serde::Serialize;

use crate::args::BenchArgs;
use crate::inspect::is_guest;
use crate::output;
use crate::run;
use crate::status::Status;
use crate::tune;

/// Steps of the bar for each number of callers.
const STEPS: u64 = 1000;

const TITLES: [&str; 10] = [
    "callers", "runs/s", "mean", "p50", "p90", "p95", "p99", "min", "max", "runs",
];

pub(crate) fn bench(args: &BenchArgs) -> anyhow::Result<Status> {
    let path = Path::new(&args.subject);
    let measured = match path.is_file() && is_guest(path)? {
        true => bench_guest(args, path),
        false => bench_model(args),
    };
    let failed = || format!("cannot measure `{}`", args.subject);
    let (document, whole) = measured.with_context(failed)?;
    // What was measured before something failed is told all the same.
    if whole.is_ok() || !document.rows.is_empty() {
        match args.json {
            true => output::print_json(&document)?,
            false => output::print(&text(&document))?,
        }
    }
    whole.with_context(failed)?;
    Ok(Status::Success)
}

/// What was measured, and whether that is all.
type Measurement = (Document, anyhow::Result<()>);

#[derive(Serialize)]
struct Document {
    subject: String,
    kind: &'static str,
    /// The models and where they run.
    models: Vec<ModelDocument>,
    rows: Vec<Row>,
}

#[derive(Serialize)]
struct ModelDocument {
    name: String,
    backend: &'static str,
    device: String,
    precision: String,
}

#[derive(Serialize)]
struct Row {
    callers: usize,
    runs: usize,
    runs_per_second: f64,
    mean_ms: f64,
    p50_ms: f64,
    p90_ms: f64,
    p95_ms: f64,
    p99_ms: f64,
    min_ms: f64,
    max_ms: f64,
    /// Calls in one run of the engine, where calls are batched.
    #[serde(skip_serializing_if = "Option::is_none")]
    mean_batch: Option<f64>,
}

impl ModelDocument {
    fn of(model: &Model) -> ModelDocument {
        let placement = model.placement();
        ModelDocument {
            name: model.name().to_owned(),
            backend: model.backend(),
            device: placement.device.to_string(),
            precision: placement.precision.to_string(),
        }
    }
}

fn bench_model(args: &BenchArgs) -> anyhow::Result<Measurement> {
    args.check_for_a_model()?;
    let backends = args.selection.backends()?;
    let (reference, selection): (ModelRef, _) = (args.subject.parse()?, args.selection()?);
    let files = reference.open(&ModelStore::from_environment()?)?;
    let tuned = args.selection.tuned()?;
    let selection = tune::selection(tuned.as_ref(), &selection, (&files, &backends));
    let mut registry = Registry::default();
    let model = infer::open_model(&backends, &files, &selection, &mut registry)?;
    let caller = bench::model_caller(&model, &args.load.shapes)?;
    let models = [model.clone()];
    let mut rows = Vec::new();
    let whole = add_rows(&mut rows, args, &models, |load, told| {
        bench::measure(load, &caller, told)
    });
    Ok((document(args, ("model", &models), rows), whole))
}

fn document(
    args: &BenchArgs,
    (kind, models): (&'static str, &[Arc<Model>]),
    rows: Vec<Row>,
) -> Document {
    Document {
        subject: args.subject.clone(),
        kind,
        models: models
            .iter()
            .map(|model| ModelDocument::of(model))
            .collect(),
        rows,
    }
}

fn bench_guest(args: &BenchArgs, path: &Path) -> anyhow::Result<Measurement> {
    args.check_for_a_guest()?;
    let backends = Arc::new(args.selection.backends()?);
    let selection = args.selection()?;
    let device = run::granted_device(&backends, &selection)?;
    let models = (&args.models, &args.selection);
    let (registry, models) = run::open_models(models, &backends, &selection)?;
    let engine = Engine::new(&EngineConfig {
        fuel: args.limits.fuel.is_some(),
        instances: Some(u32::try_from(args.load.most_callers()).unwrap_or(u32::MAX)),
        ..EngineConfig::default()
    })?;
    let cache = run::open_cache(&args.grants.dirs);
    let trusted = args.grants.allow_precompiled;
    let guest = run::prepare_guest(&engine, path, trusted, cache.as_ref())?;
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let one = One {
        guest,
        args: std::iter::once(name.into_owned())
            .chain(args.args.iter().cloned())
            .collect(),
        grants: args.grants.grants(
            [Device::Cpu].into_iter().chain(device).collect(),
            &selection,
        ),
        limits: args.limits.limits(),
        registry: Arc::new(registry),
        backends,
    };
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .context("cannot start the runtime")?;
    let caller = || Ok(|| runtime.block_on(one.run()));
    let mut rows = Vec::new();
    let whole = add_rows(&mut rows, args, &models, |load, told| {
        bench::measure(load, caller, told)
    });
    Ok((document(args, ("guest", &models), rows), whole))
}

/// A guest and what each new instance of it is given.
struct One {
    guest: Guest,
    args: Vec<String>,
    grants: infer::Grants,
    limits: infer::Limits,
    registry: Arc<Registry>,
    backends: Arc<Backends>,
}

impl One {
    /// One instance, from its start to its end.
    async fn run(&self) -> Result<()> {
        let mut instance = Instance::new(
            self.args.clone(),
            self.registry.clone(),
            self.backends.clone(),
        );
        instance.grants = self.grants.clone();
        instance.limits = self.limits.clone();
        match self.guest.run_here(instance).await.end {
            End::Exited(0) => Ok(()),
            End::Exited(status) => {
                let message = format!("the guest ended with status {status}");
                Err(Error::new(ErrorKind::RuntimeError, message)
                    .with_hint("`infer run` with the same arguments shows what it says; here it has no standard input"))
            }
            End::TimedOut(timeout) => {
                let message = format!("the guest was stopped at its timeout of {timeout:?}");
                Err(Error::new(ErrorKind::Timeout, message))
            }
            End::Trapped(error) | End::Failed(error) => Err(error),
        }
    }
}

/// Adds one row for each number of callers.
fn add_rows(
    rows: &mut Vec<Row>,
    args: &BenchArgs,
    models: &[Arc<Model>],
    mut measure: impl FnMut(Load, (&(dyn Fn() + Sync), &mut dyn FnMut(f64))) -> Result<Measured>,
) -> anyhow::Result<()> {
    let bar = output::progress_bar()?;
    bar.set_length(STEPS * args.load.concurrency.0.len() as u64);
    for (index, &callers) in args.load.concurrency.0.iter().enumerate() {
        bar.set_message(format!("{callers} at one time"));
        let load = Load {
            callers,
            warm_up: args.load.warm_up,
            time: args.load.time,
        };
        let before = OnceLock::new();
        let warmed = || {
            before.get_or_init(|| calls_and_runs(models));
        };
        let measured = measure(load, (&warmed, &mut |part| show(&bar, index, part)));
        let measured = measured.inspect_err(|_| bar.finish_and_clear())?;
        let before = before.into_inner().filter(|_| args.batching.is_on());
        let batch = before.map(|before| mean_batch(before, calls_and_runs(models)));
        let row = row(callers.get(), &measured, batch);
        let (rate, median) = (row.runs_per_second, row.p50_ms);
        tracing::info!("{callers} at one time: {rate:.1} runs/s, p50 {median:.3} ms");
        rows.push(row);
    }
    bar.finish_and_clear();
    Ok(())
}

fn show(bar: &ProgressBar, index: usize, part: f64) {
    bar.set_position(STEPS * index as u64 + (STEPS as f64 * part) as u64);
}

/// Of all models together.
fn calls_and_runs(models: &[Arc<Model>]) -> (u64, u64) {
    let statistics = models.iter().map(|model| model.statistics());
    statistics.fold((0, 0), |(calls, runs), now| {
        (calls + now.succeeded, runs + now.runs)
    })
}

fn mean_batch(before: (u64, u64), after: (u64, u64)) -> f64 {
    let (calls, runs) = (after.0 - before.0, after.1 - before.1);
    calls as f64 / runs.max(1) as f64
}

fn row(callers: usize, measured: &Measured, mean_batch: Option<f64>) -> Row {
    let milliseconds = |time: Duration| time.as_secs_f64() * 1e3;
    let percentile = |percent| milliseconds(measured.percentile(percent));
    Row {
        callers,
        runs: measured.times.len(),
        runs_per_second: measured.throughput(),
        mean_ms: milliseconds(measured.mean()),
        p50_ms: percentile(50.0),
        p90_ms: percentile(90.0),
        p95_ms: percentile(95.0),
        p99_ms: percentile(99.0),
        min_ms: percentile(0.0),
        max_ms: percentile(100.0),
        mean_batch,
    }
}

fn text(document: &Document) -> String {
    let mut text = String::new();
    for model in &document.models {
        let ModelDocument {
            name,
            backend,
            device,
            precision,
        } = model;
        text += &format!("{name}: {backend} on {device}, {precision}\n");
    }
    let batches = document.rows.iter().any(|row| row.mean_batch.is_some());
    let mut titles: Vec<String> = TITLES.map(str::to_owned).to_vec();
    titles.extend(batches.then(|| "calls/batch".to_owned()));
    let lines: Vec<Vec<String>> = std::iter::once(titles)
        .chain(document.rows.iter().map(cells))
        .collect();
    text + &output::table(&lines)
}

fn cells(row: &Row) -> Vec<String> {
    let time = |milliseconds: f64| output::time(Duration::from_secs_f64(milliseconds / 1e3));
    let mut cells = vec![
        row.callers.to_string(),
        format!("{:.1}", row.runs_per_second),
        time(row.mean_ms),
        time(row.p50_ms),
        time(row.p90_ms),
        time(row.p95_ms),
        time(row.p99_ms),
        time(row.min_ms),
        time(row.max_ms),
        row.runs.to_string(),
    ];
    cells.extend(row.mean_batch.map(|mean| format!("{mean:.1}")));
    cells
}
