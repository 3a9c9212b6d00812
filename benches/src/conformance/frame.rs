//! The outputs as the guest `conformance` writes them, taken apart.

use infer_core::Dtype;

use crate::conformance::Output;

/// The rank that stands for dimensions that are not known.
const UNKNOWN: u8 = 255;

/// Reads all outputs; `None` for bytes that the guest did not write.
pub fn read(mut bytes: &[u8]) -> Option<Vec<Output>> {
    let mut outputs = Vec::new();
    while !bytes.is_empty() {
        outputs.push(output(&mut bytes)?);
    }
    Some(outputs)
}

fn output(bytes: &mut &[u8]) -> Option<Output> {
    let length = take(bytes, 1)?[0].into();
    let name = std::str::from_utf8(take(bytes, length)?).ok()?;
    let dtype = match name {
        "" => None,
        name => Some(ALL.into_iter().find(|dtype| dtype.wasi_nn_name() == name)?),
    };
    let shape = match take(bytes, 1)?[0] {
        UNKNOWN => None,
        rank => {
            let sizes = take(bytes, usize::from(rank) * 4)?.as_chunks().0.iter();
            Some(
                sizes
                    .map(|size| u32::from_le_bytes(*size) as usize)
                    .collect(),
            )
        }
    };
    let length = u64::from_le_bytes(*take(bytes, 8)?.first_chunk()?);
    let bytes = take(bytes, length.try_into().ok()?)?.to_vec();
    Some(Output {
        dtype,
        shape,
        bytes,
    })
}

/// Every dtype that a guest may name.
const ALL: [Dtype; 14] = [
    Dtype::F16,
    Dtype::F32,
    Dtype::F64,
    Dtype::BF16,
    Dtype::U8,
    Dtype::I32,
    Dtype::I64,
    Dtype::Bool,
    Dtype::I8,
    Dtype::I16,
    Dtype::U16,
    Dtype::U32,
    Dtype::U64,
    Dtype::String,
];

fn take<'a>(bytes: &mut &'a [u8], length: usize) -> Option<&'a [u8]> {
    let (taken, rest) = bytes.split_at_checked(length)?;
    *bytes = rest;
    Some(taken)
}
