//! `native-worker`: engines driven without wasm, as one side of `scripts/bench`.
//!
//! It reads the orders of the guest `worker` from standard input and answers as that guest does; see
//! `guest-examples/tests/worker`. What is timed is the engine's own run on bound inputs and outputs. The model
//! `copy` is no model: a call is one copy of so many bytes between two buffers that have been written before.

use std::collections::HashMap;
use std::hint::black_box;
use std::io::{BufRead, Write, stdin, stdout};
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::str::FromStr;
use std::time::Instant;

use anyhow::{Context, bail, ensure};
use clap::Parser;
use infer_benches::measure;
use infer_benches::native::{Idle, NativeModel, NativeOptions};
use infer_core::{Device, Dtype, Tensor};
use infer_onnxruntime::OnnxRuntime;
use tract_onnx::prelude as tract;
use tract_onnx::prelude::{Framework, InferenceModelExt, IntoRunnable, IntoTValue};

/// Runs models without wasm as often as standard input says
#[derive(Parser)]
struct Cli {
    /// A model and its file
    #[arg(value_name = "NAME=FILE")]
    models: Vec<NamedModel>,
    /// Threads of one run [default: the engine's own choice]
    #[arg(long)]
    threads: Option<NonZeroUsize>,
    /// Let the engine's threads look for work without a pause between runs, as is its own default
    #[arg(long, conflicts_with = "tract")]
    spin: bool,
    /// Run models by tract, not by ONNX Runtime
    #[arg(long)]
    tract: bool,
}

#[derive(Clone)]
struct NamedModel {
    name: String,
    file: PathBuf,
}

impl FromStr for NamedModel {
    type Err = String;

    fn from_str(text: &str) -> Result<NamedModel, String> {
        let (name, file) = text
            .split_once('=')
            .ok_or_else(|| format!("expected NAME=FILE, got `{text}`"))?;
        Ok(NamedModel {
            name: name.to_owned(),
            file: file.into(),
        })
    }
}

/// What one line asks for.
struct Order {
    model: String,
    input: String,
    dimensions: Vec<usize>,
    output_bytes: usize,
    samples: usize,
    calls: u32,
}

fn main() -> ExitCode {
    match run(&Cli::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            say(&format!("error: {error:#}"));
            ExitCode::FAILURE
        }
    }
}

#[allow(clippy::print_stderr, reason = "a command")]
fn say(line: &str) {
    eprintln!("{line}");
}

fn run(cli: &Cli) -> anyhow::Result<()> {
    let mut engine = NativeEngine::new(cli)?;
    for line in stdin().lock().lines() {
        let line = line?;
        let order = parse(&line).with_context(|| format!("cannot read the order `{line}`"))?;
        let answer = match order.model.as_str() {
            "copy" => copies(&order),
            _ => engine.measure(&order)?,
        };
        let mut out = stdout().lock();
        writeln!(out, "{answer}")?;
        out.flush()?;
    }
    Ok(())
}

fn parse(line: &str) -> Option<Order> {
    let mut words = line.split(' ');
    let order = Order {
        model: words.next()?.to_owned(),
        input: words.next()?.to_owned(),
        dimensions: words
            .next()?
            .split('x')
            .map(|size| size.parse().ok())
            .collect::<Option<_>>()?,
        output_bytes: words.next()?.parse().ok()?,
        samples: words.next()?.parse().ok()?,
        calls: words.next()?.parse().ok()?,
    };
    let whole = words.next().is_none() && order.samples > 0 && order.calls > 0;
    whole.then_some(order)
}

impl Order {
    /// The samples of a call, in nanoseconds.
    fn samples(&self, mut call: impl FnMut() -> anyhow::Result<()>) -> anyhow::Result<Vec<u64>> {
        let sample = |_| {
            let start = Instant::now();
            for _ in 0..self.calls {
                call()?;
            }
            let nanoseconds = start.elapsed().as_nanos() / u128::from(self.calls);
            Ok(u64::try_from(nanoseconds)?)
        };
        (0..self.samples).map(sample).collect()
    }

    /// The values that every side gives the model.
    fn values(&self) -> Vec<f32> {
        let length: usize = self.dimensions.iter().product();
        (0..length)
            .map(|place| (place % 251) as f32 / 125.0 - 1.0)
            .collect()
    }

    fn bytes(&self) -> Vec<u8> {
        self.values()
            .into_iter()
            .flat_map(f32::to_le_bytes)
            .collect()
    }

    fn answer(&self, output: &[u8], samples: &[u64]) -> anyhow::Result<String> {
        let (expected, got) = (self.output_bytes, output.len());
        ensure!(
            expected == got,
            "expected {expected} bytes of output, got {got}"
        );
        Ok(line(output, samples))
    }
}

fn line(output: &[u8], samples: &[u64]) -> String {
    let samples: Vec<String> = samples.iter().map(u64::to_string).collect();
    format!("{:016x} {}", checksum(output), samples.join(" "))
}

/// Any one word that differs changes it, since every factor is odd.
fn checksum(bytes: &[u8]) -> u64 {
    let (words, _) = bytes.as_chunks();
    let words = (0..).zip(words);
    words.fold(0, |sum: u64, (place, word): (u64, &[u8; 4])| {
        sum.wrapping_add((2 * place + 1).wrapping_mul(u32::from_le_bytes(*word).into()))
    })
}

/// Copies of as many bytes as the order says, between memory that is there already.
fn copies(order: &Order) -> String {
    let from: Vec<u8> = (0..order.output_bytes).map(|place| place as u8).collect();
    let mut to = vec![1_u8; order.output_bytes];
    let mut samples = Vec::with_capacity(order.samples);
    for _ in 0..order.samples {
        let start = Instant::now();
        for _ in 0..order.calls {
            black_box(to.as_mut_slice()).copy_from_slice(black_box(&from));
        }
        samples.push(start.elapsed().as_nanos() as u64 / u64::from(order.calls));
    }
    line(&to, &samples)
}

/// The engine of this process and the models that it has opened.
enum NativeEngine {
    OnnxRuntime {
        engine: OnnxRuntime,
        options: NativeOptions,
        files: Files,
        open: HashMap<String, NativeModel>,
    },
    Tract {
        files: Files,
        open: HashMap<(String, Vec<usize>), TractState>,
    },
}

type TractState = tract::TypedSimpleState;

/// The models by name.
struct Files(HashMap<String, PathBuf>);

impl Files {
    fn file(&self, model: &str) -> anyhow::Result<&Path> {
        let file = self.0.get(model).map(PathBuf::as_path);
        file.with_context(|| format!("expected a model that was given, got `{model}`"))
    }
}

impl NativeEngine {
    fn new(cli: &Cli) -> anyhow::Result<NativeEngine> {
        let named = cli.models.iter().cloned();
        let files = Files(named.map(|model| (model.name, model.file)).collect());
        if cli.tract {
            let one = cli.threads.is_none_or(|threads| threads.get() == 1);
            ensure!(one, "tract runs on 1 thread");
            let open = HashMap::new();
            return Ok(NativeEngine::Tract { files, open });
        }
        Ok(NativeEngine::OnnxRuntime {
            engine: measure::engine()?,
            options: NativeOptions {
                threads: cli.threads,
                idle: if cli.spin { Idle::Spin } else { Idle::Sleep },
                ..NativeOptions::on(Device::Cpu)
            },
            files,
            open: HashMap::new(),
        })
    }

    fn measure(&mut self, order: &Order) -> anyhow::Result<String> {
        match self {
            NativeEngine::OnnxRuntime {
                engine,
                options,
                files,
                open,
            } => {
                if !open.contains_key(&order.model) {
                    let file = files.file(&order.model)?;
                    let model = NativeModel::open(engine, file, options)?;
                    open.insert(order.model.clone(), model);
                }
                let model = open.get_mut(&order.model);
                by_onnxruntime(model.context("the model that was just opened")?, order)
            }
            NativeEngine::Tract { files, open } => {
                let key = (order.model.clone(), order.dimensions.clone());
                if !open.contains_key(&key) {
                    let state = open_by_tract(files.file(&order.model)?, order);
                    let state = state.map_err(|error| anyhow::anyhow!("tract: {error:#}"))?;
                    open.insert(key.clone(), state);
                }
                let state = open.get_mut(&key);
                by_tract(state.context("the model that was just opened")?, order)
            }
        }
    }
}

fn by_onnxruntime(model: &mut NativeModel, order: &Order) -> anyhow::Result<String> {
    let input = Tensor::new(Dtype::F32, order.dimensions.clone(), order.bytes().into())?;
    let mut bound = model.bind(&[(order.input.clone(), input)])?;
    let samples = order.samples(|| Ok(bound.run()?))?;
    let output = bound.outputs()?.into_iter().next();
    let output = output.context("a model without outputs")?;
    order.answer(&output.host()?, &samples)
}

/// A plan for inputs of this shape, and its state, as tract's own examples make them.
fn open_by_tract(file: &Path, order: &Order) -> tract::TractResult<TractState> {
    let mut model = tract_onnx::onnx().model_for_path(file)?;
    let fact = tract::InferenceFact::dt_shape(tract::DatumType::F32, &order.dimensions);
    model.set_input_fact(0, fact)?;
    model.into_optimized()?.into_runnable()?.spawn()
}

fn by_tract(state: &mut TractState, order: &Order) -> anyhow::Result<String> {
    let failed = |error: tract::TractError| anyhow::anyhow!("tract: {error:#}");
    let input = tract::Tensor::from_shape(&order.dimensions, &order.values()).map_err(failed)?;
    let input = input.into_tvalue();
    let mut last = None;
    let samples = order.samples(|| {
        last = None;
        let inputs = std::iter::once(input.clone()).collect();
        last = Some(state.run(inputs).map_err(failed)?);
        Ok(())
    })?;
    let Some(output) = last.and_then(|outputs| outputs.into_iter().next()) else {
        bail!("tract: a model without outputs")
    };
    let plain = output.try_as_plain_ram().map_err(failed)?;
    let values = plain.as_slice::<f32>().map_err(failed)?;
    let bytes: Vec<u8> = values.iter().copied().flat_map(f32::to_le_bytes).collect();
    order.answer(&bytes, &samples)
}
