//! Tensors of the tests, and what a model makes of them.

use infer_core::{Call, Cancel, Dtype, Graph, Result, Tensor};

/// The first output of a run, as numbers.
pub(super) fn run(graph: &dyn Graph, inputs: &[Tensor]) -> Result<Vec<f64>> {
    let mut session = graph.session()?;
    let mut last = None;
    // Twice: the first run must leave nothing behind.
    for _ in 0..2 {
        let mut calls = [Call::new(inputs.to_vec(), Cancel::default())];
        session.run(&mut calls);
        let [call] = calls;
        let outputs = call.result.expect("has run")?;
        last = outputs.first().map(numbers);
    }
    Ok(last.expect("an output"))
}

fn numbers(tensor: &Tensor) -> Vec<f64> {
    let bytes = tensor.host().expect("in host memory");
    let f32s = |chunk: &[u8]| f64::from(f32::from_le_bytes(chunk.try_into().expect("4 bytes")));
    let i32s = |chunk: &[u8]| f64::from(i32::from_le_bytes(chunk.try_into().expect("4 bytes")));
    let i64s = |chunk: &[u8]| i64::from_le_bytes(chunk.try_into().expect("8 bytes")) as f64;
    match tensor.dtype() {
        Dtype::F32 => bytes.chunks_exact(4).map(f32s).collect(),
        Dtype::I32 => bytes.chunks_exact(4).map(i32s).collect(),
        Dtype::I64 => bytes.chunks_exact(8).map(i64s).collect(),
        Dtype::I8 => bytes.iter().map(|&byte| f64::from(byte as i8)).collect(),
        Dtype::U8 | Dtype::Bool => bytes.iter().map(|&byte| f64::from(byte)).collect(),
        dtype => panic!("no numbers of {dtype}"),
    }
}

pub(super) fn tensor(shape: &[usize], values: &[f32]) -> Tensor {
    let bytes: Vec<u8> = values
        .iter()
        .flat_map(|value| value.to_le_bytes())
        .collect();
    Tensor::copied_from(Dtype::F32, shape.to_vec(), &bytes).expect("a valid tensor")
}

pub(super) fn bools(values: &[bool]) -> Tensor {
    let bytes: Vec<u8> = values.iter().map(|&value| value.into()).collect();
    Tensor::copied_from(Dtype::Bool, vec![values.len()], &bytes).expect("a valid tensor")
}

pub(super) fn strings(shape: &[usize], values: &[&str]) -> Tensor {
    Tensor::of_strings(shape.to_vec(), values).expect("a valid tensor")
}

pub(super) fn integers(values: &[i64]) -> Tensor {
    let bytes: Vec<u8> = values
        .iter()
        .flat_map(|value| value.to_le_bytes())
        .collect();
    Tensor::copied_from(Dtype::I64, vec![values.len()], &bytes).expect("a valid tensor")
}

pub(super) fn narrow_integers(values: &[i32]) -> Tensor {
    let bytes: Vec<u8> = values
        .iter()
        .flat_map(|value| value.to_le_bytes())
        .collect();
    Tensor::copied_from(Dtype::I32, vec![values.len()], &bytes).expect("a valid tensor")
}

pub(super) fn bytes(values: &[i8]) -> Tensor {
    let bytes: Vec<u8> = values.iter().map(|&value| value.cast_unsigned()).collect();
    Tensor::copied_from(Dtype::I8, vec![values.len()], &bytes).expect("a valid tensor")
}
