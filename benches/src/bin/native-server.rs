//! `native-server`: a model over HTTP without wasm and without infer, as one side of `scripts/bench serve`.

use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context;
use clap::Parser;
use infer_benches::measure;
use infer_benches::native::{Idle, NativeOptions};
use infer_benches::serving::native::{Model, ModelOptions, serve};
use infer_core::Device;
use tokio::net::TcpListener;

/// Serves one model on ONNX Runtime
#[derive(Parser)]
struct Cli {
    /// The name in requests
    name: String,
    /// The model's file
    file: PathBuf,
    /// Where it listens
    #[arg(long, default_value = "127.0.0.1:8000")]
    http: SocketAddr,
    /// Threads of one run [default: the engine's own choice]
    #[arg(long)]
    threads: Option<NonZeroUsize>,
    /// Runs at one time
    #[arg(long, default_value = "2")]
    sessions: NonZeroUsize,
    /// Let the engine's threads look for work without a pause between runs, as is its own default
    #[arg(long)]
    spin: bool,
}

fn main() -> ExitCode {
    match run(&Cli::parse()) {
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

fn run(cli: &Cli) -> anyhow::Result<()> {
    let options = ModelOptions {
        native: NativeOptions {
            threads: cli.threads,
            idle: if cli.spin { Idle::Spin } else { Idle::Sleep },
            ..NativeOptions::on(Device::Cpu)
        },
        sessions: cli.sessions,
    };
    let model = Model::open(&measure::engine()?, (&cli.name, &cli.file), &options)?;
    let runtime = tokio::runtime::Runtime::new()?;
    runtime.block_on(async {
        let listener = TcpListener::bind(cli.http).await;
        let listener = listener.with_context(|| format!("cannot listen at {}", cli.http))?;
        serve(listener, model).await;
        Ok(())
    })
}
