//! Runs models as often as standard input says and tells how long each run took: one side of `scripts/bench`.
//!
//! Each line of standard input is an order of words with a space between:
//!
//! `MODEL INPUT DIMENSIONS OUTPUT-BYTES SAMPLES CALLS`
//!
//! The model's one input is f32 with these dimensions (`1x3x224x224`), its values in order
//! `(place mod 251) / 125 - 1`. A call makes the input's tensor, computes, and copies the first output into this
//! guest's memory. A sample is the mean time of that many calls. The answer to an order is one line: a checksum of
//! the last output (the sum of `(2 x place + 1) x word` over its words of 32 bits, in 64 bits and in hexadecimal),
//! then the samples in nanoseconds. Models stay open. The guest ends with its input; every other program of the
//! benchmark speaks the same lines.

use infer_guest::abi::{Argument, Context, Graph, View};
use infer_guest::{DType, Error};
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::io::{BufRead, Write, stdin, stdout};
use std::process::ExitCode;
use std::time::Instant;

/// What one line asks for.
struct Order {
    model: String,
    input: String,
    dimensions: Vec<u32>,
    output_bytes: usize,
    samples: usize,
    calls: u32,
}

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("error: {message}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<(), String> {
    let mut contexts = HashMap::new();
    for line in stdin().lock().lines() {
        let line = line.map_err(|error| error.to_string())?;
        let order = parse(&line).ok_or_else(|| format!("cannot read the order `{line}`"))?;
        let answer = measure(&mut contexts, &order).map_err(|error| error.to_string())?;
        let mut out = stdout().lock();
        writeln!(out, "{answer}")
            .and_then(|()| out.flush())
            .map_err(|error| error.to_string())?;
    }
    Ok(())
}

fn parse(line: &str) -> Option<Order> {
    let mut words = line.split(' ');
    Some(Order {
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
    })
}

fn measure(
    contexts: &mut HashMap<String, (Graph, Context)>,
    order: &Order,
) -> Result<String, Error> {
    let (_, context) = match contexts.entry(order.model.clone()) {
        Entry::Occupied(open) => open.into_mut(),
        Entry::Vacant(place) => {
            let graph = Graph::by_name(&order.model)?;
            let context = graph.context()?;
            place.insert((graph, context))
        }
    };
    let length: u32 = order.dimensions.iter().product();
    let data: Vec<u8> = (0..length)
        .flat_map(|place| ((place % 251) as f32 / 125.0 - 1.0).to_le_bytes())
        .collect();
    let argument = || Argument {
        name: &order.input,
        index: 0,
        tensor: View {
            dtype: DType::F32,
            dimensions: &order.dimensions,
            data: &data,
        },
    };
    let mut last = Vec::new();
    let mut samples = Vec::with_capacity(order.samples);
    for _ in 0..order.samples {
        let start = Instant::now();
        for _ in 0..order.calls {
            drop(last);
            last = context
                .compute(&[argument()])?
                .bytes(0, order.output_bytes)?;
        }
        samples.push(start.elapsed().as_nanos() as u64 / u64::from(order.calls));
    }
    let samples: Vec<String> = samples.iter().map(u64::to_string).collect();
    Ok(format!("{:016x} {}", checksum(&last), samples.join(" ")))
}

/// Any one word that differs changes it, since every factor is odd.
fn checksum(bytes: &[u8]) -> u64 {
    let (words, _) = bytes.as_chunks();
    let words = (0..).zip(words);
    words.fold(0, |sum: u64, (place, word): (u64, &[u8; 4])| {
        sum.wrapping_add((2 * place + 1).wrapping_mul(u32::from_le_bytes(*word).into()))
    })
}
