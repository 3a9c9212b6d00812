//! `infer compile`: a guest to native code, written whole or not at all.

use std::io::Write;
use std::path::Path;

use anyhow::Context;
use infer::{Engine, EngineConfig};

use crate::args::CompileArgs;
use crate::output;
use crate::run::read_guest;
use crate::status::Status;

pub(crate) fn compile(args: &CompileArgs) -> anyhow::Result<Status> {
    let engine = Engine::new(&EngineConfig {
        fuel: args.fuel,
        ..EngineConfig::default()
    })?;
    let bytes = read_guest(&args.guest)?;
    let cannot_write = || format!("cannot write `{}`", args.output.display());
    check(args).with_context(cannot_write)?;
    let compiled = infer::compile(&engine, &bytes)
        .with_context(|| format!("cannot compile the guest `{}`", args.guest.display()))?;
    write(&args.output, &compiled).with_context(cannot_write)?;
    tracing::info!(
        "{} of native code in `{}`",
        output::bytes(compiled.len() as u64),
        args.output.display()
    );
    Ok(Status::Success)
}

/// Fails where something else than a file would be lost. A link's file is written, not the link.
fn check(args: &CompileArgs) -> anyhow::Result<()> {
    let Ok(found) = args.output.metadata() else {
        return Ok(());
    };
    anyhow::ensure!(
        found.is_file(),
        "expected a file or nothing there, found a folder, a device or a pipe"
    );
    let same = args.output.canonicalize()? == args.guest.canonicalize()?;
    anyhow::ensure!(!same, "expected another file than the guest itself");
    Ok(())
}

fn write(path: &Path, bytes: &[u8]) -> anyhow::Result<()> {
    let path = &path.canonicalize().unwrap_or_else(|_| path.to_owned());
    let folder = path
        .parent()
        .filter(|parent| !parent.as_os_str().is_empty())
        .unwrap_or(Path::new("."));
    folder.metadata()?;
    let mut file = tempfile::Builder::new()
        .prefix(".infer-")
        .tempfile_in(folder)?;
    file.write_all(bytes)?;
    file.persist(path).map_err(|failed| failed.error)?;
    Ok(())
}
