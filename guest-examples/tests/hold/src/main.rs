//! Runs a model once on inputs of zeros, and keeps the model, its context, inputs and outputs until its own input
//! ends: for tests of what many live instances cost.
//!
//! `hold [MODEL]`. Dynamic dimensions are 1. At the end it prints how many bytes the outputs have.

use infer_guest::{Model, Tensor};
use std::error::Error;
use std::process::ExitCode;

fn main() -> ExitCode {
    match run() {
        Ok(bytes) => {
            println!("{bytes}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<usize, Box<dyn Error>> {
    let name = std::env::args().nth(1).unwrap_or_else(|| "default".into());
    let mut model = Model::open(&name)?;
    let info = model
        .info()
        .ok_or("expected a host that describes the model")?;
    let outputs = info.outputs.len();
    let inputs: Vec<(String, Tensor)> = info
        .inputs
        .iter()
        .map(|input| {
            let sizes = input.dimensions.iter();
            let dimensions: Vec<u32> = sizes.map(|size| size.unwrap_or(1)).collect();
            let dtype = input.dtype().ok_or("expected a dtype of wasi-nn's")?;
            Ok((input.name.clone(), Tensor::zeros(dtype, &dimensions)?))
        })
        .collect::<Result<_, Box<dyn Error>>>()?;
    let named: Vec<(&str, &Tensor)> = inputs
        .iter()
        .map(|(name, tensor)| (name.as_str(), tensor))
        .collect();
    let results = model.run(&named)?;
    std::io::copy(&mut std::io::stdin(), &mut std::io::sink())?;
    let mut bytes = 0;
    for place in 0..outputs {
        bytes += results.get(place)?.bytes().len();
    }
    Ok(bytes)
}
