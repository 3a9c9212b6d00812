//! How outputs stand one after another in the guest's standard output.
//!
//! Each is: the length of its element type's name (1 byte) and the name, its rank (1 byte), a `u32` for each
//! dimension, the number of its bytes (`u64`), and the bytes; numbers are little-endian. By preview1 a host may
//! leave open what an output is: an empty name stands for an unknown type, rank 255 for unknown dimensions.

use crate::boundary::Got;

/// The rank of an output whose dimensions are not known.
const UNKNOWN: u8 = 255;

/// Adds an output.
pub(crate) fn write(output: &Got, bytes: &mut Vec<u8>) {
    bytes.push(output.dtype.len() as u8);
    bytes.extend(output.dtype.as_bytes());
    match &output.dimensions {
        Some(dimensions) if dimensions.len() < usize::from(UNKNOWN) => {
            bytes.push(dimensions.len() as u8);
            bytes.extend(dimensions.iter().flat_map(|size| size.to_le_bytes()));
        }
        _ => bytes.push(UNKNOWN),
    }
    bytes.extend((output.bytes.len() as u64).to_le_bytes());
    bytes.extend(&output.bytes);
}
