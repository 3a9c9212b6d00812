//! `wasmtime run` and `wasmtime serve` with wasi-nn on ONNX Runtime, which the published program has not built in.
//! The library is the one that `ORT_DYLIB_PATH` names.

use clap::Parser;
use wasmtime_cli::commands::{RunCommand, ServeCommand};

#[derive(Parser)]
#[command(name = "wasmtime-peer", version)]
enum Command {
    Run(RunCommand),
    Serve(ServeCommand),
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    match Command::parse() {
        Command::Run(command) => command.execute()?,
        Command::Serve(command) => command.execute()?,
    }
    Ok(())
}
