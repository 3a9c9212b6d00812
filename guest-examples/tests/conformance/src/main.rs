//! Runs the host's model on the inputs of one ONNX test and writes what it gives.
//!
//! `conformance FOLDER > OUTPUTS`: the folder holds `input_0.pb`, `input_1.pb` and so on, each an ONNX
//! `TensorProto`. Input N goes to the model's input N, in the order in which the host describes them. The
//! outputs are written in the model's order and in the form that `frame` says; whoever runs this guest holds
//! them against the expected ones.
//!
//! It fails with one line, `CODE: message`. The code is wasi-nn's, or `not-carriable` with what cannot cross
//! this boundary: the ONNX name of an input's element type.

mod boundary;
mod frame;
mod onnx;
mod wire;

use std::fmt::Display;
use std::io::{self, Write};
use std::path::Path;
use std::process::ExitCode;

use infer_guest::{Info, Model};

use crate::boundary::Given;

/// One line that says why the test did not run.
struct Failure(String);

impl Failure {
    fn new(code: &str, message: impl Display) -> Failure {
        Failure(format!("{code}: {message}"))
    }

    fn not_carriable(dtype: impl Display) -> Failure {
        Failure::new("not-carriable", dtype)
    }
}

impl From<infer_guest::Error> for Failure {
    fn from(error: infer_guest::Error) -> Failure {
        Failure::new(error.code().name(), error.message())
    }
}

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(Failure(line)) => {
            eprintln!("{line}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<(), Failure> {
    let usage = "expected one argument, a folder with input_0.pb and so on";
    let folder = std::env::args().nth(1);
    let folder = folder.ok_or_else(|| Failure::new("usage", usage))?;
    let inputs = inputs(Path::new(&folder))?;
    let info = Model::open("default")?.info().cloned();
    let info = info.ok_or_else(|| Failure::new("usage", "the host does not describe the model"))?;
    check(&info, &inputs)?;
    let mut bytes = Vec::new();
    for output in boundary::run(&info, &inputs)? {
        frame::write(&output, &mut bytes);
    }
    let written = io::stdout().write_all(&bytes);
    written.map_err(|error| Failure::new("usage", error))
}

/// The tensors of `input_0.pb` and so on, as many as there are.
fn inputs(folder: &Path) -> Result<Vec<Given>, Failure> {
    let files = (0..).map(|number| folder.join(format!("input_{number}.pb")));
    files
        .take_while(|file| file.is_file())
        .map(|file| read(&file))
        .collect()
}

fn read(file: &Path) -> Result<Given, Failure> {
    let unreadable =
        |error: &dyn Display| Failure::new("usage", format!("{}: {error}", file.display()));
    let bytes = std::fs::read(file).map_err(|error| unreadable(&error))?;
    let tensor = onnx::TensorProto::parse(&bytes).map_err(|error| unreadable(&error))?;
    Ok(Given {
        dtype: tensor.dtype_name().map_err(Failure::not_carriable)?,
        dimensions: tensor.dimensions().map_err(|error| unreadable(&error))?,
        bytes: tensor.into_bytes().map_err(|error| unreadable(&error))?,
    })
}

/// Checks that there are as many tensors as the model has inputs.
fn check(info: &Info, tensors: &[Given]) -> Result<(), Failure> {
    let (expected, got) = (info.inputs.len(), tensors.len());
    if expected == got {
        return Ok(());
    }
    let message = format!("expected {expected} inputs, as the model has, got {got} files");
    Err(Failure::new("invalid-argument", message))
}
