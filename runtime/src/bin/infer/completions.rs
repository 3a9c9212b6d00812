//! `infer completions`: a script that completes this command line in a shell.

use clap::CommandFactory;

use crate::args::{Cli, CompletionsArgs};
use crate::output;
use crate::status::Status;

pub(crate) fn completions(args: &CompletionsArgs) -> anyhow::Result<Status> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "infer", &mut script);
    output::print(&String::from_utf8_lossy(&script))?;
    Ok(Status::Success)
}
