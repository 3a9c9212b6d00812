//! `gpu-check`: proves that models run on a device, and measures them there beside the engine alone.
//!
//! `scripts/gpu-check` calls it with everything that it needs, from the repository's root.

use std::num::NonZeroUsize;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context;
use clap::Parser;
use infer_benches::gpu_check::{Plan, SUBJECTS, table};
use infer_benches::measure;
use infer_core::Device;

/// Proves that models run on a device, and measures them there beside the engine alone
#[derive(Parser)]
struct Cli {
    /// cpu or gpu:N
    #[arg(long, default_value = "gpu:0", value_parser = device)]
    device: Device,
    /// How long each measurement takes: 2s, 200ms
    #[arg(long, default_value = "2s", value_parser = measure::duration)]
    time: Duration,
    /// Threads of one run on the processor (default: as many as it has)
    #[arg(long)]
    threads: Option<NonZeroUsize>,
}

fn device(text: &str) -> Result<Device, String> {
    let wrong = || format!("expected `cpu` or `gpu:N`, got `{text}`");
    match text.strip_prefix("gpu:") {
        None if text == "cpu" => Ok(Device::Cpu),
        None => Err(wrong()),
        Some(index) => index.parse().map(Device::Gpu).map_err(|_| wrong()),
    }
}

fn main() -> ExitCode {
    match check(&Cli::parse()) {
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

fn check(cli: &Cli) -> anyhow::Result<String> {
    let threads = match cli.threads {
        Some(threads) => threads,
        None => std::thread::available_parallelism().context("the number of processors")?,
    };
    let plan = Plan {
        engine: measure::engine()?,
        device: cli.device,
        time: cli.time,
        threads,
    };
    let about = plan.about()?;
    let mut rows = Vec::new();
    for subject in &SUBJECTS {
        say(&format!("{} on {}", subject.model, cli.device));
        rows.extend(plan.check(subject)?);
    }
    Ok(format!("{about}\n{}", table(&rows)))
}

#[allow(clippy::print_stdout, reason = "a command")]
fn print(page: &str) {
    print!("{page}");
}

#[allow(clippy::print_stderr, reason = "a command")]
fn say(line: &str) {
    eprintln!("{line}");
}
