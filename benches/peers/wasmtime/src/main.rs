//! `wasmtime run` with wasi-nn on ONNX Runtime, which the published program has not built in.
//! The library is the one that `ORT_DYLIB_PATH` names.

use clap::Parser;
use wasmtime_cli::commands::RunCommand;

#[derive(Parser)]
#[command(name = "wasmtime-peer", version)]
enum Command {
    Run(RunCommand),
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let Command::Run(command) = Command::parse();
    Ok(command.execute()?)
}
