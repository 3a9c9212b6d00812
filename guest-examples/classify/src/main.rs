//! Says what is on photos, by whatever classifier the host was started with.
//!
//! Steps: read the command line; open the model, and learn from the host how it wants its pictures; for each
//! photo decode, prepare, run, and rank the classes; print. A photo that fails is reported and the rest go on.
//!
//! It knows no model: layout, size, normalisation and labels come from the host, from flags, or are assumed,
//! and then it says so on standard error. Its exit status is 0, or 1 when anything failed.

mod options;
mod report;

use infer_imaging::{Classes, PictureModel};
use options::Options;
use report::Photo;
use std::fs;
use std::io::{self, Read};
use std::process::ExitCode;

fn main() -> ExitCode {
    match options::parse() {
        Ok(None) => report::print(options::help()),
        Ok(Some(options)) => classify(&options),
        Err(error) => failed(&error, "`classify --help` lists the options"),
    }
}

fn classify(options: &Options) -> ExitCode {
    let mut model = match PictureModel::open(&options.flags) {
        Ok(model) => model,
        Err(error) => {
            let name = options.flags.model.as_deref().unwrap_or("default");
            let error = format!("model `{name}`: {error}");
            return failed(
                &error,
                "the host says which models a guest may use: --model [NAME=]REF",
            );
        }
    };
    let labels = options.labels.as_deref().map(read_labels).transpose();
    let classes = match labels {
        Ok(labels) => Classes::of(&model, labels),
        Err(error) => {
            return failed(
                &error,
                "a labels file has one label per line, by class index",
            );
        }
    };
    if !model.assumptions().is_empty() {
        eprintln!(
            "note: the host says nothing of it, so assumed: {}",
            model.assumptions().join(", ")
        );
    }
    let photos: Vec<Photo> = options
        .photos
        .iter()
        .map(|photo| look(photo, &mut model, &classes, options.top))
        .collect();
    for photo in &photos {
        if let Err(error) = &photo.classes {
            eprintln!("error: {}: {error}", photo.photo);
        }
    }
    let printed = report::print(if options.json {
        report::json(model.name(), &photos)
    } else {
        report::text(&photos)
    });
    if photos.iter().all(|photo| photo.classes.is_ok()) {
        printed
    } else {
        ExitCode::FAILURE
    }
}

/// Classifies one photo, `-` being standard input.
fn look(photo: &str, model: &mut PictureModel, classes: &Classes, top: usize) -> Photo {
    let ranked = read(photo)
        .and_then(|bytes| model.run(&bytes).map_err(|error| error.to_string()))
        .and_then(|output| {
            classes
                .rank(&output, top)
                .map_err(|error| error.to_string())
        });
    Photo {
        photo: photo.to_owned(),
        classes: ranked,
    }
}

fn read(photo: &str) -> Result<Vec<u8>, String> {
    if photo == "-" {
        let mut bytes = Vec::new();
        io::stdin()
            .read_to_end(&mut bytes)
            .map_err(|error| format!("cannot read standard input: {error}"))?;
        if bytes.is_empty() {
            return Err(
                "standard input is empty (name a photo, or send one: classify < photo.jpg)".into(),
            );
        }
        return Ok(bytes);
    }
    fs::read(photo).map_err(|error| {
        format!("cannot read: {error} (a guest sees only the folders it was given: --dir)")
    })
}

fn read_labels(path: &str) -> Result<Vec<String>, String> {
    let text = fs::read_to_string(path).map_err(|error| format!("{path}: cannot read: {error}"))?;
    Ok(text.lines().map(str::to_owned).collect())
}

fn failed(error: &dyn std::fmt::Display, hint: &str) -> ExitCode {
    eprintln!("error: {error}\nhint: {hint}");
    ExitCode::FAILURE
}
