//! `infer engines`: brings, shows and removes native engines.

use std::io::{self, Write};
use std::path::{Path, PathBuf};

use anyhow::Context;
use indicatif::ProgressBar;
use infer_core::{Error, ErrorKind};
use infer_engines::{EngineEntry, EngineState, EngineStore, Origin, Progress};
use infer_models::Package;
use serde::Serialize;

use crate::args::{EnginesArgs, EnginesCommand};
use crate::output;
use crate::status::Status;

pub(crate) fn engines(args: &EnginesArgs) -> anyhow::Result<Status> {
    let store = EngineStore::from_environment()?;
    match &args.command {
        EnginesCommand::Install { names, from } => {
            let (names, files) = sort(&store, names, from)?;
            let origin = origin(&names, files)?;
            for name in &names {
                install(&store, name, &origin)?;
            }
        }
        EnginesCommand::List { json } => list(&store, *json)?,
        EnginesCommand::Remove { names } => {
            for name in names {
                let removed = store.remove(name);
                removed.with_context(|| format!("cannot remove the engine `{name}`"))?;
                output::print(&format!("{name} is removed\n"))?;
            }
        }
    }
    Ok(Status::Success)
}

/// What is a name and what a file: `--from` takes all that follows it, so a name may be among its files.
fn sort(
    store: &EngineStore,
    names: &[String],
    from: &[PathBuf],
) -> anyhow::Result<(Vec<String>, Vec<PathBuf>)> {
    let known = store.list()?;
    let is_name = |path: &PathBuf| {
        known
            .iter()
            .any(|engine| *path == Path::new(&engine.manifest.name))
    };
    let (named, files): (Vec<PathBuf>, Vec<PathBuf>) = from.iter().cloned().partition(is_name);
    let named = named.iter().map(|name| name.to_string_lossy().into_owned());
    let names: Vec<String> = names.iter().cloned().chain(named).collect();
    if names.is_empty() {
        let known: Vec<&str> = known
            .iter()
            .map(|engine| engine.manifest.name.as_str())
            .collect();
        let message = format!(
            "expected the name of an engine beside --from: {}",
            known.join(", ")
        );
        return Err(Error::new(ErrorKind::InvalidArgument, message).into());
    }
    if files.is_empty() && !from.is_empty() {
        let message = "expected files after --from, got only names of engines";
        return Err(Error::new(ErrorKind::InvalidArgument, message).into());
    }
    Ok((names, files))
}

fn origin(names: &[String], files: Vec<PathBuf>) -> anyhow::Result<Origin> {
    if files.is_empty() {
        return Ok(Origin::Index);
    }
    if names.len() > 1 {
        let message = format!("expected one engine with --from, got {}", names.join(", "));
        return Err(Error::new(ErrorKind::InvalidArgument, message).into());
    }
    Ok(Origin::Files(files))
}

fn install(store: &EngineStore, name: &str, origin: &Origin) -> anyhow::Result<()> {
    let bar = output::progress_bar()?;
    let mut was_there = false;
    let folder = store.install(name, origin, &mut |progress| {
        was_there |= progress == Progress::Present;
        show(&bar, name, origin, progress);
    });
    bar.finish_and_clear();
    let folder = folder.with_context(|| format!("cannot install the engine `{name}`"))?;
    let done = if was_there {
        "is there already"
    } else {
        "is installed"
    };
    output::print(&format!("{name} {done}: {}\n", folder.display()))
}

fn show(bar: &ProgressBar, name: &str, origin: &Origin, progress: Progress<'_>) {
    let (message, done, total) = match progress {
        Progress::Present => return,
        Progress::Needs { packages, cuda } => {
            let text = needs(name, origin, &packages, cuda);
            return bar.suspend(|| say(&text));
        }
        Progress::Waiting => (format!("{name}: another infer is at it"), 0, 1),
        Progress::Downloading {
            package,
            done,
            total,
        } => (format!("download {package}"), done, total),
        Progress::Unpacking {
            package,
            done,
            total,
        } => (format!("unpack {package}"), done, total),
    };
    bar.set_length(total.max(1));
    bar.set_position(done);
    bar.set_message(message);
}

/// What will be brought: each package with its size, and the sum of several.
fn needs(name: &str, origin: &Origin, packages: &[&Package], cuda: &[PathBuf]) -> String {
    let mut text = String::new();
    if !cuda.is_empty() {
        let folders: Vec<String> = cuda
            .iter()
            .map(|folder| folder.display().to_string())
            .collect();
        text += &format!("{name}: CUDA and cuDNN are there: {}\n", folders.join(", "));
    }
    if *origin != Origin::Index {
        return text;
    }
    for package in packages {
        let Package {
            name: package,
            version,
            bytes,
            ..
        } = package;
        let size = output::bytes(*bytes);
        text += &format!("{name}: to download: {package} {version}, {size}\n");
    }
    if packages.len() > 1 {
        let sum = packages.iter().map(|package| package.bytes).sum();
        text += &format!("{name}: to download in all: {}\n", output::bytes(sum));
    }
    text
}

/// Says something on stderr, unless `--quiet` says not to.
fn say(text: &str) {
    if tracing::enabled!(tracing::Level::WARN) {
        // There is nowhere to report that stderr is closed.
        let _ = io::stderr().write_all(text.as_bytes());
    }
}

#[derive(Serialize)]
struct Row<'a> {
    name: &'a str,
    /// The version that `infer engines install` brings.
    version: &'a str,
    description: &'a str,
    license: &'a str,
    state: &'static str,
    /// The version that is there.
    installed_version: Option<&'a str>,
    download_bytes: u64,
    folder: &'a Path,
}

impl<'a> Row<'a> {
    fn of(entry: &'a EngineEntry) -> Row<'a> {
        let (state, installed_version) = match &entry.state {
            EngineState::Installed { version } => ("installed", Some(version.as_str())),
            EngineState::Incomplete => ("incomplete", None),
            EngineState::Missing => ("missing", None),
        };
        Row {
            name: &entry.manifest.name,
            version: &entry.manifest.version,
            description: &entry.manifest.description,
            license: &entry.manifest.license,
            state,
            installed_version,
            download_bytes: entry.download_bytes,
            folder: &entry.folder,
        }
    }

    fn text(&self, width: usize) -> String {
        let to_get = output::bytes(self.download_bytes);
        let place = self.folder.display();
        let state = match self.installed_version {
            Some(version) if version == self.version => format!("installed  {place}"),
            Some(version) => format!("{version} is installed, {to_get} to get  {place}"),
            None if self.state == "incomplete" => format!("incomplete, {to_get} to get  {place}"),
            None => format!("{to_get} to get"),
        };
        let Row {
            name,
            version,
            description,
            license,
            ..
        } = self;
        format!(
            "{name:width$}  {version:8}  {state}\n{:width$}  {description} ({license})\n",
            ""
        )
    }
}

fn list(store: &EngineStore, json: bool) -> anyhow::Result<()> {
    let entries = store.list()?;
    let rows: Vec<Row<'_>> = entries.iter().map(Row::of).collect();
    if json {
        return output::print_json(&rows);
    }
    let width = rows.iter().map(|row| row.name.len()).max().unwrap_or(0);
    output::print(&rows.iter().map(|row| row.text(width)).collect::<String>())
}
