//! Says what kind of file each file is, by its content, with the model `magika`.
//!
//! Steps: take the first and last bytes of each file as the model's features; run the model on all files
//! together, a row each, or on as many as it takes at once; print the best label of each with its score. Files that need no model (empty, or too
//! short to tell) are answered without it.
//!
//! It does not follow the thresholds per label by which Magika's own command line withholds unsure answers: the
//! score is printed instead. Its exit status is 0, or 1 when a file could not be read or the model failed.

mod features;
mod options;
mod verdict;

use features::{FEATURES, Sample};
use infer_guest::{Code, Error, Model, Result, Tensor, top};
use options::Options;
use std::fs::File;
use std::io::{self, Cursor, Read, Write};
use std::process::ExitCode;
use verdict::{File as Classified, Verdict};

/// How many files go into one run of a model that takes any number: 256 rows are 2 MiB.
const LARGEST_BATCH: usize = 256;
/// The model's input.
const INPUT: &str = "bytes";

fn main() -> ExitCode {
    let outcome = match options::parse() {
        Ok(None) => Ok((options::HELP.to_owned(), true)),
        Ok(Some(options)) => classify(&options).map_err(|error| {
            format!("{error}\nhint: start the host with the model that this guest is for: --model magika")
        }),
        Err(error) => Err(format!("{error}\nhint: `filetype --help` lists the options")),
    };
    match outcome.and_then(|(text, well)| {
        write(&text)
            .map(|()| well)
            .map_err(|error| error.to_string())
    }) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Classifies all files; gives what is to be printed, and whether every file could be read.
fn classify(options: &Options) -> Result<(String, bool)> {
    let mut model = Model::open(&options.model)?;
    let mut files: Vec<Classified> = options.files.iter().map(|path| examine(path)).collect();
    let labels = model
        .info()
        .and_then(|info| info.outputs.first())
        .map(|output| output.labels.clone());
    let labels = labels.unwrap_or_default();
    if labels.is_empty() {
        eprintln!("note: the host gives no labels for this model; classes are printed by number");
    }
    let mut waiting: Vec<&mut Classified> =
        files.iter_mut().filter(|file| file.is_waiting()).collect();
    let rows = Rows::of(&model);
    for batch in waiting.chunks_mut(rows.most()) {
        run(&mut model, batch, rows.count(batch.len()), &labels)?;
    }
    for file in &files {
        if let Verdict::Failed { error } = &file.verdict {
            eprintln!("error: {}: {error}", file.path);
        }
    }
    let text = if options.json {
        verdict::json(&files)
    } else {
        verdict::text(&files)
    };
    Ok((
        text,
        files
            .iter()
            .all(|file| !matches!(file.verdict, Verdict::Failed { .. })),
    ))
}

/// Takes a file's features, `-` being standard input, or answers at once where no model is needed.
fn examine(path: &str) -> Classified {
    let sample = if path == "-" {
        let mut bytes = Vec::new();
        io::stdin()
            .read_to_end(&mut bytes)
            .and_then(|_| Sample::read(Cursor::new(bytes)))
    } else {
        File::open(path).and_then(Sample::read)
    };
    let verdict = match sample {
        Ok(Sample::Known(label)) => Verdict::Known {
            label: label.to_owned(),
            score: 1.0,
        },
        Ok(Sample::Features(features)) => Verdict::Waiting(features),
        Err(error) => Verdict::Failed {
            error: format!("cannot read: {error}"),
        },
    };
    Classified {
        path: path.to_owned(),
        verdict,
    }
}

/// How many rows the model takes at once.
#[derive(Clone, Copy)]
enum Rows {
    /// Always as many.
    Exactly(usize),
    /// Any number.
    Any,
}

impl Rows {
    /// What the host says; one where it says nothing, which every form of the model takes.
    fn of(model: &Model) -> Rows {
        let input = model.info().and_then(|info| info.inputs.first());
        match input.and_then(|input| input.dimensions.first()) {
            Some(None) => Rows::Any,
            Some(Some(rows)) => Rows::Exactly((*rows as usize).max(1)),
            None => Rows::Exactly(1),
        }
    }

    fn most(self) -> usize {
        match self {
            Rows::Exactly(rows) => rows,
            Rows::Any => LARGEST_BATCH,
        }
    }

    /// The rows of a run on this many files.
    fn count(self, files: usize) -> usize {
        match self {
            Rows::Exactly(rows) => rows,
            Rows::Any => files,
        }
    }
}

/// Runs the model on a batch of waiting files and gives each its verdict; rows without a file are zeros.
fn run(
    model: &mut Model,
    batch: &mut [&mut Classified],
    rows: usize,
    labels: &[String],
) -> Result<()> {
    let mut features: Vec<i32> = batch
        .iter_mut()
        .flat_map(|file| file.take_features())
        .collect();
    features.resize(rows * FEATURES, 0);
    let tensor = Tensor::new(&[rows as u32, FEATURES as u32], features)?;
    let output = model.run(&[(INPUT, &tensor)])?.get(0)?;
    let scores = output.values::<f32>()?;
    let classes = scores.len() / rows;
    if classes == 0 || scores.len() != classes * rows {
        let message = format!(
            "expected {rows} rows of scores, got {} scores",
            scores.len()
        );
        return Err(Error::new(Code::RuntimeError, message));
    }
    for (file, row) in batch.iter_mut().zip(scores.chunks_exact(classes)) {
        let (index, score) = top(row, 1)[0];
        let label = labels
            .get(index)
            .cloned()
            .unwrap_or_else(|| format!("class {index}"));
        file.verdict = Verdict::Known {
            label: verdict::plain(label),
            score,
        };
    }
    Ok(())
}

/// Writes to standard output; a reader that has gone away is no failure.
fn write(text: &str) -> io::Result<()> {
    let mut output = io::stdout().lock();
    match output
        .write_all(text.as_bytes())
        .and_then(|()| output.flush())
    {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(error),
        _ => Ok(()),
    }
}
