//! Cases of limits: memory of tensors, handles, time, fuel, and what the engine itself does wrong.

use crate::case::{Case, Expected, Failure, Outcome, input, number, run_once};
use infer_guest::abi::{Context, Graph};
use infer_guest::{DType, Error, Model, Tensor};
use std::hint::black_box;

/// The cases of this module.
pub(crate) const CASES: &[Case] = &[
    Case::new(
        "tensor-too-large",
        Expected::Err,
        "sends one tensor of BYTES=268435456",
        |arguments| {
            let length = number(arguments, 0, 256 << 20)? as usize / 4 * 4;
            let data = vec![0; length];
            run_once(
                "identity-f32",
                &[input("x", 0, DType::F32, &[(length / 4) as u32], &data)],
                0,
            )?;
            Ok(format!("{length} bytes were taken"))
        },
    ),
    Case::new(
        "handles-exhausted-graphs",
        Expected::Err,
        "keeps opening graphs, at most MAX=2000000",
        |arguments| exhaust(arguments, || Graph::by_name("identity-f32"), Graph::close),
    ),
    Case::new(
        "handles-exhausted-contexts",
        Expected::Err,
        "keeps making contexts, at most MAX=2000000",
        |arguments| {
            let graph = Graph::by_name("identity-f32")?;
            let outcome = exhaust(arguments, || graph.context(), Context::close);
            graph.close()?;
            outcome
        },
    ),
    Case::new("timeout-loop", Expected::Stop, "spins for ever", |_| {
        loop {
            black_box(0);
        }
    }),
    Case::new(
        "timeout-compute",
        Expected::Err,
        "runs MODEL=slow on zeros",
        |arguments| run_on_zeros(arguments.first().map_or("slow", String::as_str)),
    ),
    Case::new(
        "engine-panic",
        Expected::Err,
        "runs MODEL=panic on zeros",
        |arguments| run_on_zeros(arguments.first().map_or("panic", String::as_str)),
    ),
    Case::new(
        "fuel-burn",
        Expected::Stop,
        "computes for ROUNDS=1000000000000 without calling the host",
        |arguments| {
            let rounds = number(arguments, 0, 1_000_000_000_000)?;
            let sum = (0..rounds).fold(0u64, |sum, round| black_box(sum ^ round));
            Ok(format!("{rounds} rounds, {sum}"))
        },
    ),
    Case::new(
        "memory-grow",
        Expected::Ok,
        "takes memory by the MiB until refused, at most MAX=5000",
        |arguments| {
            let most = number(arguments, 0, 5000)?;
            let mut held: Vec<Vec<u8>> = Vec::with_capacity(most as usize);
            while (held.len() as u64) < most {
                let mut block = Vec::new();
                if block.try_reserve_exact(1 << 20).is_err() {
                    break;
                }
                held.push(block);
            }
            Ok(format!("{} MiB", held.len()))
        },
    ),
    Case::new(
        "stack-overflow",
        Expected::Trap,
        "calls itself without end",
        |arguments| Ok(descend(arguments.len() as u64).to_string()),
    ),
];

/// Takes handles until the host refuses one, then gives all back; the refusal is the outcome.
fn exhaust<T>(
    arguments: &[String],
    take: impl Fn() -> Result<T, Error>,
    close: impl Fn(T) -> Result<(), Error>,
) -> Outcome {
    let most = number(arguments, 0, 2_000_000)?;
    let mut held = Vec::new();
    let mut refusal = None;
    while refusal.is_none() && (held.len() as u64) < most {
        match take() {
            Ok(handle) => held.push(handle),
            Err(error) => refusal = Some(error),
        }
    }
    let count = held.len();
    held.into_iter().try_for_each(close)?;
    match refusal {
        Some(error) => Err(Failure::Host(error)),
        None => Ok(format!("{count} handles, none refused")),
    }
}

/// Runs a model on zeros of its own dimensions, dynamic ones being 1.
fn run_on_zeros(name: &str) -> Outcome {
    let mut model = Model::open(name)?;
    let described = model
        .info()
        .map(|info| info.inputs.clone())
        .unwrap_or_default();
    let mut inputs = Vec::new();
    for input in &described {
        let dimensions: Vec<u32> = input
            .dimensions
            .iter()
            .map(|size| size.unwrap_or(1))
            .collect();
        inputs.push((
            input.name.as_str(),
            Tensor::zeros(input.dtype().unwrap_or(DType::F32), &dimensions)?,
        ));
    }
    let inputs: Vec<(&str, &Tensor)> = inputs
        .iter()
        .map(|(name, tensor)| (*name, tensor))
        .collect();
    let outcome = model.run(&inputs).map(|_| String::from("it ran"));
    model.close()?;
    Ok(outcome?)
}

/// Recursion that no compiler turns into a loop: each call needs the results of two.
fn descend(depth: u64) -> u64 {
    if black_box(depth) == u64::MAX {
        return 0;
    }
    descend(depth + 1).wrapping_mul(31) ^ descend(depth + 2)
}
