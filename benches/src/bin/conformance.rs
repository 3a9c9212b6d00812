//! `conformance`: runs ONNX's backend tests on engines by several routes, and writes the table of results.
//!
//! `scripts/conformance` calls it with everything that it needs.

use std::io::IsTerminal;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::atomic::{AtomicUsize, Ordering};

use clap::{Args, Parser, Subcommand};
use indicatif::{ProgressBar, ProgressStyle};
use infer_benches::conformance::pool::{self, Job};
use infer_benches::conformance::report::{self, Report};
use infer_benches::conformance::{Outcome, Route, Verdict, cases, worker};

/// Runs ONNX's backend tests
#[derive(Parser)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run the tests and keep a line of JSON for each
    Run(RunArgs),
    /// Write the page of results from those lines
    Report(ReportArgs),
    /// Run tests that are named on standard input (a child of `run`)
    #[command(hide = true)]
    Worker(Common),
}

#[derive(Args)]
struct Common {
    /// Folder of the tests: GROUP/NAME/model.onnx
    #[arg(long)]
    data: PathBuf,
    /// Folder of the built guests
    #[arg(long, default_value = "guest-examples/target")]
    guests: PathBuf,
    /// wasm-component, wasm-preview1 or direct
    #[arg(long)]
    route: Route,
    /// tract, onnxruntime or openvino
    #[arg(long)]
    backend: String,
}

#[derive(Args)]
struct RunArgs {
    #[command(flatten)]
    common: Common,
    /// Folder for the lines of JSON: BACKEND-ROUTE.jsonl
    #[arg(long)]
    results: PathBuf,
    /// Only tests whose name has this in it
    #[arg(long = "case", value_name = "PATTERN")]
    pattern: Option<String>,
    /// Child processes at one time
    #[arg(long, default_value_t = 2)]
    jobs: usize,
}

#[derive(Args)]
struct ReportArgs {
    /// Folder of the lines of JSON
    #[arg(long)]
    results: PathBuf,
    /// What the tests are: `onnx 1.22.0`
    #[arg(long)]
    tests: String,
    /// The page, in Markdown
    #[arg(long)]
    write: PathBuf,
}

fn main() -> ExitCode {
    let result = match Cli::parse().command {
        Command::Run(args) => run(args),
        Command::Report(args) => report(&args),
        Command::Worker(common) => {
            worker::work(common.route, &common.backend, &common.data, &common.guests)
        }
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            say(&format!("error: {error:#}"));
            ExitCode::FAILURE
        }
    }
}

#[allow(clippy::print_stderr, reason = "a command")]
fn say(line: &str) {
    eprintln!("{line}");
}

fn run(args: RunArgs) -> anyhow::Result<()> {
    let mut found = cases::find(&args.common.data)?;
    if let Some(pattern) = &args.pattern {
        found.retain(|case| case.name.contains(pattern));
    }
    let common = args.common;
    let job = Job {
        route: common.route,
        backend: common.backend,
        data: common.data,
        guests: common.guests,
    };
    let progress = Progress::new(&job, found.len())?;
    let outcomes = pool::run(&job, &found, args.jobs, &|outcome| progress.add(outcome))?;
    progress.finish();
    std::fs::create_dir_all(&args.results)?;
    let path = report::file(&args.results, &job.backend, job.route);
    let mut lines = String::new();
    for outcome in &outcomes {
        lines += &serde_json::to_string(outcome)?;
        lines.push('\n');
    }
    std::fs::write(&path, lines)?;
    say(&summary(&job, &outcomes));
    Ok(())
}

fn report(args: &ReportArgs) -> anyhow::Result<()> {
    let page = Report::read(&args.results)?.page(&args.tests);
    std::fs::write(&args.write, page)?;
    Ok(())
}

/// A bar on a terminal; nothing elsewhere, where the line at the end is enough.
struct Progress {
    bar: ProgressBar,
    passed: AtomicUsize,
}

impl Progress {
    fn new(job: &Job, cases: usize) -> anyhow::Result<Progress> {
        let bar = match std::io::stderr().is_terminal() {
            true => ProgressBar::new(cases as u64),
            false => ProgressBar::hidden(),
        };
        let style = ProgressStyle::with_template("{prefix:28} {bar:30} {pos}/{len} {msg}")?;
        let bar = bar
            .with_style(style)
            .with_prefix(format!("{} {}", job.backend, job.route));
        let passed = AtomicUsize::new(0);
        Ok(Progress { bar, passed })
    }

    fn add(&self, outcome: &Outcome) {
        let one = usize::from(outcome.verdict == Verdict::Passed);
        let passed = self.passed.fetch_add(one, Ordering::Relaxed) + one;
        self.bar.set_message(format!("{passed} passed"));
        self.bar.inc(1);
    }

    fn finish(&self) {
        self.bar.finish_and_clear();
    }
}

fn summary(job: &Job, outcomes: &[Outcome]) -> String {
    let counts = Verdict::ALL.map(|verdict| {
        let count = outcomes
            .iter()
            .filter(|outcome| outcome.verdict == verdict)
            .count();
        format!("{count} {}", verdict.name())
    });
    format!("{} {}: {}", job.backend, job.route, counts.join(", "))
}
