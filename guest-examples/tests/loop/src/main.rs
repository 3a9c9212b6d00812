//! Runs a model many times and prints a checksum of all outputs: for tests of leaks, copies and steadiness.
//!
//! `loop [--model NAME] [--runs N] [--input NAME] [--output NAME|POSITION] [--dims A,B,...] [--first N] [--reopen]`.
//! The input is f32, its values N (0), N + 1 ... 255, 0, ...; without `--dims` its dimensions are the model's own, a
//! dynamic one being 1. `--reopen` opens the model anew for each run and closes it after, which on preview1
//! needs a host with WasmEdge's `unload` and `finalize_execution_context`.

use infer_guest::{Key, Model, Tensor};
use lexopt::{Arg, Parser, ValueExt};
use std::error::Error;
use std::process::ExitCode;

struct Options {
    model: String,
    runs: u64,
    input: Option<String>,
    output: String,
    dims: Option<Vec<u32>>,
    first: usize,
    reopen: bool,
}

fn main() -> ExitCode {
    match options().and_then(|options| run(&options)) {
        Ok(checksum) => {
            println!("{checksum:016x}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(options: &Options) -> Result<u64, Box<dyn Error>> {
    let mut model = Model::open(&options.model)?;
    let (name, tensor) = input(&model, options)?;
    let mut checksum = FNV_START;
    for _ in 0..options.runs {
        if options.reopen {
            model.close()?;
            model = Model::open(&options.model)?;
        }
        let outputs = model.run(&[(&name, &tensor)])?;
        let key = options
            .output
            .parse()
            .map_or(Key::Name(&options.output), Key::Index);
        checksum = fnv(checksum, outputs.get(key)?.bytes());
    }
    Ok(checksum)
}

fn input(model: &Model, options: &Options) -> Result<(String, Tensor), Box<dyn Error>> {
    let described = model.info().and_then(|info| info.inputs.first());
    let name = options
        .input
        .clone()
        .or_else(|| described.map(|input| input.name.clone()));
    let own = || {
        described.map(|input| {
            input
                .dimensions
                .iter()
                .map(|size| size.unwrap_or(1))
                .collect()
        })
    };
    let dims: Vec<u32> = options
        .dims
        .clone()
        .or_else(own)
        .ok_or("expected --dims: the host describes no input")?;
    let length = dims.iter().map(|size| *size as usize).product();
    let values = (0..length)
        .map(|place: usize| ((options.first + place) % 256) as f32)
        .collect();
    Ok((
        name.unwrap_or_else(|| "x".into()),
        Tensor::new::<f32>(&dims, values)?,
    ))
}

/// The checksum is FNV-1a of 64 bits.
const FNV_START: u64 = 0xcbf2_9ce4_8422_2325;

fn fnv(start: u64, bytes: &[u8]) -> u64 {
    bytes.iter().fold(start, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

fn options() -> Result<Options, Box<dyn Error>> {
    let mut options = Options {
        model: "default".into(),
        runs: 1,
        input: None,
        output: "0".into(),
        dims: None,
        first: 0,
        reopen: false,
    };
    let mut parser = Parser::from_env();
    while let Some(argument) = parser.next()? {
        match argument {
            Arg::Long("model") => options.model = parser.value()?.string()?,
            Arg::Long("runs") => options.runs = parser.value()?.parse()?,
            Arg::Long("input") => options.input = Some(parser.value()?.string()?),
            Arg::Long("output") => options.output = parser.value()?.string()?,
            Arg::Long("dims") => {
                let text = parser.value()?.string()?;
                options.dims = Some(text.split(',').map(str::parse).collect::<Result<_, _>>()?);
            }
            Arg::Long("first") => options.first = parser.value()?.parse()?,
            Arg::Long("reopen") => options.reopen = true,
            other => return Err(other.unexpected().into()),
        }
    }
    Ok(options)
}
