//! ONNX's `TensorProto`: its element type, its dimensions, and its elements as wasi-nn carries them.
//!
//! Elements stand in `raw_data`, little-endian, or in a field of their kind. Of the second, `int32_data` holds
//! every integer of at most 32 bits and the bit patterns of the 16-bit floats, one number per element.

use std::borrow::Cow;

use crate::wire::{Fields, fixed, varints};

/// ONNX's number of an element type, its name, wasi-nn's name if one is carried, and the size of an element
/// in bytes, 0 for text.
const DTYPES: [(u64, &str, Option<&str>, usize); 26] = [
    (1, "float32", Some("FP32"), 4),
    (2, "uint8", Some("U8"), 1),
    (3, "int8", Some("I8"), 1),
    (4, "uint16", Some("U16"), 2),
    (5, "int16", Some("I16"), 2),
    (6, "int32", Some("I32"), 4),
    (7, "int64", Some("I64"), 8),
    (8, "string", Some("STRING"), 0),
    (9, "bool", Some("BOOL"), 1),
    (10, "float16", Some("FP16"), 2),
    (11, "float64", Some("FP64"), 8),
    (12, "uint32", Some("U32"), 4),
    (13, "uint64", Some("U64"), 8),
    (14, "complex64", None, 8),
    (15, "complex128", None, 16),
    (16, "bfloat16", Some("BF16"), 2),
    (17, "float8e4m3fn", None, 1),
    (18, "float8e4m3fnuz", None, 1),
    (19, "float8e5m2", None, 1),
    (20, "float8e5m2fnuz", None, 1),
    (21, "uint4", None, 1),
    (22, "int4", None, 1),
    (23, "float4e2m1", None, 1),
    (24, "float8e8m0", None, 1),
    (25, "uint2", None, 1),
    (26, "int2", None, 1),
];

/// A tensor as the file has it.
#[derive(Debug, Default)]
pub(crate) struct TensorProto<'a> {
    dimensions: Vec<u64>,
    dtype: u64,
    raw: Option<&'a [u8]>,
    floats: Vec<u8>,
    doubles: Vec<u8>,
    numbers: Vec<u64>,
    strings: Vec<&'a [u8]>,
    external: bool,
}

impl<'a> TensorProto<'a> {
    /// Reads a message.
    pub(crate) fn parse(message: &'a [u8]) -> Result<TensorProto<'a>, &'static str> {
        let mut tensor = TensorProto::default();
        for field in Fields(message) {
            let (number, value) = field?;
            match number {
                1 => tensor.dimensions.extend(varints(value)?),
                2 => tensor.dtype = varints(value)?.last().copied().unwrap_or(0),
                4 => tensor.floats.extend(fixed(&value)?),
                // int32_data, int64_data and uint64_data; a tensor has one of them.
                5 | 7 | 11 => tensor.numbers.extend(varints(value)?),
                6 | 9 => {
                    let crate::wire::Value::Bytes(bytes) = value else {
                        return Err("expected bytes");
                    };
                    match number {
                        6 => tensor.strings.push(bytes),
                        _ => tensor.raw = Some(bytes),
                    }
                }
                10 => tensor.doubles.extend(fixed(&value)?),
                13 => tensor.external = true,
                _ => {}
            }
        }
        Ok(tensor)
    }

    /// wasi-nn's name of the element type.
    ///
    /// # Errors
    /// ONNX's name, where wasi-nn has none.
    pub(crate) fn dtype_name(&self) -> Result<&'static str, Cow<'static, str>> {
        match self.row() {
            Some((_, name, carried, _)) => carried.ok_or(Cow::Borrowed(*name)),
            None => Err(Cow::Owned(format!("ONNX dtype {}", self.dtype))),
        }
    }

    /// The size of each dimension, in elements.
    pub(crate) fn dimensions(&self) -> Result<Vec<u32>, &'static str> {
        let sizes = self.dimensions.iter().map(|size| u32::try_from(*size));
        sizes
            .collect::<Result<_, _>>()
            .map_err(|_| "a dimension is negative or over 32 bits")
    }

    /// The elements, little-endian; of a text its length in 4 bytes, then its bytes.
    pub(crate) fn into_bytes(self) -> Result<Vec<u8>, &'static str> {
        if self.external {
            return Err("the elements are in another file");
        }
        if let Some(raw) = self.raw {
            return Ok(raw.to_vec());
        }
        match self.row().map(|(_, name, _, size)| (*name, *size)) {
            Some(("float32", _)) => Ok(self.floats),
            Some(("float64", _)) => Ok(self.doubles),
            Some(("string", _)) => Ok(self.strings.iter().flat_map(|text| framed(text)).collect()),
            Some((_, size @ 1..=8)) => Ok(self
                .numbers
                .iter()
                .flat_map(|number| number.to_le_bytes().into_iter().take(size))
                .collect()),
            _ => Err("the elements are of a type that is not read"),
        }
    }

    fn row(&self) -> Option<&'static (u64, &'static str, Option<&'static str>, usize)> {
        DTYPES.iter().find(|row| row.0 == self.dtype)
    }
}

fn framed(text: &[u8]) -> Vec<u8> {
    let length = text.len() as u32;
    [&length.to_le_bytes()[..], text].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Type, dimensions `[2]` and a field with its length.
    fn message(dtype: u8, field: u8, bytes: &[u8]) -> Vec<u8> {
        [
            &[0x08, 2, 0x10, dtype, field << 3 | 2, bytes.len() as u8][..],
            bytes,
        ]
        .concat()
    }

    #[test]
    fn elements_are_found_wherever_they_stand() {
        let one = 1f32.to_le_bytes();
        // int32 -1 as a varint of ten bytes, then 3.
        let negative = [0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1, 3];
        let cases: [(Vec<u8>, &str, Vec<u8>); 7] = [
            (
                message(1, 9, &[1, 2, 3, 4, 5, 6, 7, 8]),
                "FP32",
                vec![1, 2, 3, 4, 5, 6, 7, 8],
            ),
            (
                message(1, 4, &[one, one].concat()),
                "FP32",
                [one, one].concat(),
            ),
            (
                message(6, 5, &negative),
                "I32",
                vec![0xff, 0xff, 0xff, 0xff, 3, 0, 0, 0],
            ),
            (message(3, 5, &negative), "I8", vec![0xff, 3]),
            (
                message(10, 5, &[0x80, 0x78, 0]),
                "FP16",
                vec![0, 0x3c, 0, 0],
            ),
            (
                message(7, 7, &[5, 6]),
                "I64",
                vec![5, 0, 0, 0, 0, 0, 0, 0, 6, 0, 0, 0, 0, 0, 0, 0],
            ),
            (message(8, 6, b"ab"), "STRING", vec![2, 0, 0, 0, b'a', b'b']),
        ];
        for (message, name, bytes) in cases {
            let tensor = TensorProto::parse(&message).expect("a tensor");
            assert_eq!(tensor.dimensions(), Ok(vec![2]));
            assert_eq!(tensor.dtype_name(), Ok(name));
            assert_eq!(tensor.into_bytes(), Ok(bytes), "{name}");
        }
    }

    #[test]
    fn what_is_not_carried_is_named() {
        let tensor = TensorProto::parse(&[0x10, 17]).expect("a tensor");
        assert_eq!(tensor.dtype_name(), Err(Cow::Borrowed("float8e4m3fn")));
        let tensor = TensorProto::parse(&[0x10, 99]).expect("a tensor");
        assert_eq!(tensor.dtype_name(), Err(Cow::Borrowed("ONNX dtype 99")));
    }
}
