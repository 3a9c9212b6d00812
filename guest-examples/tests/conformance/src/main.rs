//! Runs the host's model on the inputs of one ONNX test and writes what it gives.
//!
//! `conformance FOLDER > OUTPUTS`: the folder holds `input_0.pb`, `input_1.pb` and so on, each an ONNX
//! `TensorProto`. Input N goes to the model's input N, in the order in which the host describes them. The
//! outputs are written in the model's order and in the form that `frame` says; whoever runs this guest holds
//! them against the expected ones.
//!
//! It fails with one line, `CODE: message`. The code is wasi-nn's, or `not-carriable` with what cannot cross
//! this boundary: the ONNX or wasi-nn name of an input's element type, or the name of an output.

mod frame;
mod onnx;
mod wire;

use std::fmt::Display;
use std::io::{self, Write};
use std::path::Path;
use std::process::ExitCode;

use infer_guest::{DType, Info, Model, Tensor};

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
    let mut model = Model::open("default")?;
    let info = model.info().cloned();
    let info = info.ok_or_else(|| Failure::new("usage", "the host does not describe the model"))?;
    if let Some(output) = info.outputs.iter().find(|output| output.dtype().is_none()) {
        return Err(Failure::not_carriable(format!("output `{}`", output.name)));
    }
    let named = named(&info, &inputs)?;
    let outputs = model.run(&named)?;
    let mut bytes = Vec::new();
    for index in 0..info.outputs.len() {
        frame::write(&outputs.get(index)?, &mut bytes);
    }
    let written = io::stdout().write_all(&bytes);
    written.map_err(|error| Failure::new("usage", error))
}

/// The tensors of `input_0.pb` and so on, as many as there are.
fn inputs(folder: &Path) -> Result<Vec<Tensor>, Failure> {
    let files = (0..).map(|number| folder.join(format!("input_{number}.pb")));
    files
        .take_while(|file| file.is_file())
        .map(|file| read(&file))
        .collect()
}

fn read(file: &Path) -> Result<Tensor, Failure> {
    let unreadable =
        |error: &dyn Display| Failure::new("usage", format!("{}: {error}", file.display()));
    let bytes = std::fs::read(file).map_err(|error| unreadable(&error))?;
    let tensor = onnx::TensorProto::parse(&bytes).map_err(|error| unreadable(&error))?;
    let name = tensor.dtype_name().map_err(Failure::not_carriable)?;
    let dtype = DType::from_name(name).ok_or_else(|| Failure::not_carriable(name))?;
    let dimensions = tensor.dimensions().map_err(|error| unreadable(&error))?;
    let bytes = tensor.into_bytes().map_err(|error| unreadable(&error))?;
    Ok(Tensor::from_bytes(dtype, &dimensions, bytes)?)
}

/// Each tensor with the name of the input that it is for.
fn named<'a>(info: &'a Info, tensors: &'a [Tensor]) -> Result<Vec<(&'a str, &'a Tensor)>, Failure> {
    let (expected, got) = (info.inputs.len(), tensors.len());
    if expected != got {
        let message = format!("expected {expected} inputs, as the model has, got {got} files");
        return Err(Failure::new("invalid-argument", message));
    }
    let names = info.inputs.iter().map(|input| input.name.as_str());
    Ok(names.zip(tensors).collect())
}
