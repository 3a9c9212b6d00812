//! Element types of tensors: those that wasi-nn names, and those that models have beside them.

use std::fmt;

/// The type of a tensor's elements. Multi-byte elements are little-endian.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Dtype {
    /// IEEE 754 half precision, 2 bytes.
    F16,
    /// IEEE 754 single precision, 4 bytes.
    F32,
    /// IEEE 754 double precision, 8 bytes.
    F64,
    /// The upper half of an `F32`, 2 bytes.
    BF16,
    /// Unsigned, 1 byte.
    U8,
    /// Signed, 4 bytes.
    I32,
    /// Signed, 8 bytes.
    I64,
    /// True or false, 1 byte. wasi-nn does not carry it.
    Bool,
    /// Signed, 1 byte. wasi-nn does not carry it.
    I8,
    /// Signed, 2 bytes. wasi-nn does not carry it.
    I16,
    /// Unsigned, 2 bytes. wasi-nn does not carry it.
    U16,
    /// Unsigned, 4 bytes. wasi-nn does not carry it.
    U32,
    /// Unsigned, 8 bytes. wasi-nn does not carry it.
    U64,
    /// Text, without a fixed size. wasi-nn does not carry it.
    String,
}

impl Dtype {
    /// The dtypes that wasi-nn names, in the order of its WIT.
    pub const WASI_NN: [Dtype; 7] = [
        Dtype::F16,
        Dtype::F32,
        Dtype::F64,
        Dtype::BF16,
        Dtype::U8,
        Dtype::I32,
        Dtype::I64,
    ];

    /// The size of one element in bytes; `None` where elements have no fixed size.
    pub fn size(self) -> Option<usize> {
        Some(match self {
            Dtype::U8 | Dtype::I8 | Dtype::Bool => 1,
            Dtype::F16 | Dtype::BF16 | Dtype::I16 | Dtype::U16 => 2,
            Dtype::F32 | Dtype::I32 | Dtype::U32 => 4,
            Dtype::F64 | Dtype::I64 | Dtype::U64 => 8,
            Dtype::String => return None,
        })
    }

    /// Whether wasi-nn carries tensors of this dtype.
    pub fn in_wasi_nn(self) -> bool {
        Dtype::WASI_NN.contains(&self)
    }

    /// The name in capitals, as wasi-nn's WIT spells it.
    pub fn wasi_nn_name(self) -> &'static str {
        match self {
            Dtype::F16 => "FP16",
            Dtype::F32 => "FP32",
            Dtype::F64 => "FP64",
            Dtype::BF16 => "BF16",
            Dtype::U8 => "U8",
            Dtype::I32 => "I32",
            Dtype::I64 => "I64",
            Dtype::Bool => "BOOL",
            Dtype::I8 => "I8",
            Dtype::I16 => "I16",
            Dtype::U16 => "U16",
            Dtype::U32 => "U32",
            Dtype::U64 => "U64",
            Dtype::String => "STRING",
        }
    }
}

impl fmt::Display for Dtype {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Dtype::F16 => "f16",
            Dtype::F32 => "f32",
            Dtype::F64 => "f64",
            Dtype::BF16 => "bf16",
            Dtype::U8 => "u8",
            Dtype::I32 => "i32",
            Dtype::I64 => "i64",
            Dtype::Bool => "bool",
            Dtype::I8 => "i8",
            Dtype::I16 => "i16",
            Dtype::U16 => "u16",
            Dtype::U32 => "u32",
            Dtype::U64 => "u64",
            Dtype::String => "string",
        })
    }
}
