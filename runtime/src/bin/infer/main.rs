//! The `infer` command: arguments to settings, results to a terminal or a script.
//!
//! One file per subcommand. Data goes to stdout, everything else to stderr.

mod args;
mod bench;
mod compile;
mod completions;
mod devices;
mod engines;
mod inspect;
mod logging;
mod memory;
mod models;
mod output;
mod run;
mod serve;
mod status;
mod stdio;
mod tune;

use std::process::ExitCode;

use clap::Parser;

use crate::args::{Cli, Command};
use crate::status::Status;

fn main() -> ExitCode {
    // Before anything starts a thread.
    infer::refuse_telemetry();
    let cli = Cli::try_parse().unwrap_or_else(|said| output::usage(&said));
    if !matches!(cli.command, Command::Serve(_)) {
        logging::start(&cli.verbosity, None);
    }
    output::quiet_engine_panics();
    let result = match cli.command {
        Command::Run(args) => run::run(*args),
        // It starts logging itself, since its traces may be set in its file.
        Command::Serve(args) => serve::serve(*args, &cli.verbosity),
        Command::Bench(args) => bench::bench(&args),
        Command::Inspect(args) => inspect::inspect(&args),
        Command::Devices(args) => devices::devices(&args),
        Command::Compile(args) => compile::compile(&args),
        Command::Engines(args) => engines::engines(&args),
        Command::Models(args) => models::models(&args),
        Command::Tune(args) => tune::tune(&args),
        Command::Completions(args) => completions::completions(&args),
    };
    let status = result.unwrap_or_else(|error| {
        output::report(&error);
        Status::Failure
    });
    // Not by return: a thread that an engine keeps busy must not hold the process.
    std::process::exit(status.code().into())
}
