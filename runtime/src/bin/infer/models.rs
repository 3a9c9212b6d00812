//! `infer models`: brings and shows known models.

use anyhow::Context;
use indicatif::ProgressBar;
use infer_models::{ModelEntry, ModelStore, Progress};
use serde::Serialize;

use crate::args::{ModelsArgs, ModelsCommand};
use crate::output;
use crate::status::Status;

pub(crate) fn models(args: &ModelsArgs) -> anyhow::Result<Status> {
    let store = ModelStore::from_environment()?;
    match &args.command {
        ModelsCommand::Get { names } => {
            for name in names {
                get(&store, name)?;
            }
        }
        ModelsCommand::List { json } => list(&store, *json)?,
    }
    Ok(Status::Success)
}

fn get(store: &ModelStore, name: &str) -> anyhow::Result<()> {
    let bar = output::progress_bar()?;
    let mut was_there = false;
    let folder = store.get(name, &mut |progress| {
        was_there |= progress == Progress::Present;
        show(&bar, name, progress);
    });
    bar.finish_and_clear();
    let folder = folder.with_context(|| format!("cannot get the model `{name}`"))?;
    let done = if was_there {
        "is there already"
    } else {
        "is installed"
    };
    output::print(&format!("{name} {done}: {}\n", folder.display()))
}

fn show(bar: &ProgressBar, name: &str, progress: Progress<'_>) {
    let (message, done, total) = match progress {
        Progress::Present => return,
        Progress::Waiting => (format!("{name}: another infer installs it"), 0, 1),
        Progress::Downloading {
            package,
            done,
            total,
        } => (format!("{name}: download {package}"), done, total),
        Progress::Making { path, done, total } => (format!("{name}: make {path}"), done, total),
    };
    bar.set_length(total.max(1));
    bar.set_position(done);
    bar.set_message(message);
}

#[derive(Serialize)]
struct Row<'a> {
    name: &'a str,
    description: Option<&'a str>,
    license: Option<&'a str>,
    installed: bool,
    download_bytes: Option<u64>,
    folder: String,
}

impl<'a> Row<'a> {
    fn of(entry: &'a ModelEntry) -> Row<'a> {
        Row {
            name: &entry.name,
            description: entry.manifest.description.as_deref(),
            license: entry.manifest.license.as_deref(),
            installed: entry.installed,
            download_bytes: entry.download_bytes(),
            folder: entry.folder.display().to_string(),
        }
    }
}

fn list(store: &ModelStore, json: bool) -> anyhow::Result<()> {
    let entries = store.list()?;
    let rows: Vec<Row<'_>> = entries.iter().map(Row::of).collect();
    if json {
        return output::print_json(&rows);
    }
    let width = rows
        .iter()
        .map(|row| row.name.chars().count())
        .max()
        .unwrap_or(0);
    let lines = rows.iter().map(|row| {
        let state = match (row.installed, row.download_bytes) {
            (true, _) => "installed".to_owned(),
            (false, Some(bytes)) => format!("{} to get", output::bytes(bytes)),
            (false, None) => "incomplete".to_owned(),
        };
        let (description, license) = (
            row.description.unwrap_or("-"),
            row.license.unwrap_or("licence unknown"),
        );
        format!(
            "{:width$}  {state:15}  {description} ({license})\n",
            row.name
        )
    });
    output::print(&lines.collect::<String>())
}
