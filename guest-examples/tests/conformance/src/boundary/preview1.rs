//! A run by preview1, `wasi_ephemeral_nn`, where element types are numbers: 0 to 5 are the standard's, the others
//! infer's.

use infer_guest::abi::preview1::{Context, Graph};
use infer_guest::{Code, Error, Info, OutputInfo, Result};

use super::{Given, Got};

/// The element types by their numbers, with the size of an element in bytes; texts have none.
const NUMBERED: [(&str, usize); 14] = [
    ("FP16", 2),
    ("FP32", 4),
    ("FP64", 8),
    ("U8", 1),
    ("I32", 4),
    ("I64", 8),
    ("BF16", 2),
    ("BOOL", 1),
    ("I8", 1),
    ("I16", 2),
    ("U16", 2),
    ("U32", 4),
    ("U64", 8),
    ("STRING", 0),
];

/// Runs `default` once; the tensors are in the order of its inputs.
pub(crate) fn run(info: &Info, given: &[Given]) -> Result<Vec<Got>> {
    let graph = Graph::by_name("default")?;
    let mut context: Context = graph.context()?;
    for (index, tensor) in given.iter().enumerate() {
        let dtype = number(tensor.dtype)?;
        context.set_numbered(index as u32, dtype, &tensor.dimensions, &tensor.bytes)?;
    }
    let results = context.compute(&[])?;
    let outputs = info.outputs.iter().enumerate();
    outputs
        .map(|(index, output)| {
            let bytes = results.fetch(index as u32, None)?.data;
            Ok(Got {
                dtype: output.dtype_name().to_owned(),
                dimensions: dimensions(output, bytes.len()),
                bytes,
            })
        })
        .collect()
}

fn number(dtype: &str) -> Result<u8> {
    let found = NUMBERED.iter().position(|(name, _)| *name == dtype);
    let unknown = || Error::new(Code::InvalidArgument, format!("no element type `{dtype}`"));
    found.map(|number| number as u8).ok_or_else(unknown)
}

/// What the description says, one open dimension being what the number of elements leaves.
fn dimensions(output: &OutputInfo, bytes: usize) -> Option<Vec<u32>> {
    let fixed: u64 = output
        .dimensions
        .iter()
        .flatten()
        .map(|size| u64::from(*size))
        .product();
    let open = output
        .dimensions
        .iter()
        .filter(|size| size.is_none())
        .count();
    let size = NUMBERED
        .iter()
        .find(|(name, _)| *name == output.dtype_name())?
        .1;
    let left = match (open, size, fixed) {
        (0, ..) => 0,
        (1, 1.., 1..) => u32::try_from(bytes as u64 / size as u64 / fixed).ok()?,
        _ => return None,
    };
    Some(
        output
            .dimensions
            .iter()
            .map(|size| size.unwrap_or(left))
            .collect(),
    )
}
