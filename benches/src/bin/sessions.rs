//! `sessions`: whether more callers of one model get more runs a second, as a table in Markdown.

use std::num::NonZeroUsize;
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use infer_benches::measure;
use infer_benches::sessions::{self, Plan, table};

/// Measures how many runs a second several callers get of one model on ONNX Runtime
#[derive(Parser)]
struct Cli {
    /// ONNX models: names of installed ones, or files
    #[arg(default_values = ["efficientnet-lite0", "magika"])]
    models: Vec<String>,
    /// Callers at one time, one number after the other
    #[arg(long, value_delimiter = ',', default_value = "1,2,4")]
    callers: Vec<NonZeroUsize>,
    /// How long each way and number of callers is measured in one round
    #[arg(long, default_value = "500ms", value_parser = measure::duration)]
    slice: Duration,
    /// How often everything is measured
    #[arg(long, default_value_t = 21)]
    rounds: usize,
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    let plan = Plan {
        callers: cli.callers,
        slice: cli.slice,
        rounds: cli.rounds,
    };
    match page(&plan, &cli.models) {
        Ok(page) => {
            print(&page);
            ExitCode::SUCCESS
        }
        Err(error) => {
            say(&format!("error: {error:#}"));
            ExitCode::FAILURE
        }
    }
}

fn page(plan: &Plan, models: &[String]) -> anyhow::Result<String> {
    let mut rows = Vec::new();
    for model in models {
        say(model);
        rows.extend(sessions::measure(plan, model)?);
    }
    let machine = measure::machine();
    Ok(format!("machine: {machine}\n\n{}", table(&rows)))
}

#[allow(clippy::print_stdout, reason = "a command")]
fn print(page: &str) {
    print!("{page}");
}

#[allow(clippy::print_stderr, reason = "a command")]
fn say(line: &str) {
    eprintln!("{line}");
}
