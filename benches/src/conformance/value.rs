//! Tensors on this side of all routes: dtype, shape and little-endian bytes.
//!
//! The files are decoded by tract's generated code; the guest has a decoder of its own, so that a fault in one
//! is seen.

use half::{bf16, f16};
use infer_core::Dtype;
use tract_onnx::pb::TensorProto;

/// A tensor that is known whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Value {
    /// The type of its elements.
    pub dtype: Dtype,
    /// Its dimensions, in elements.
    pub shape: Vec<usize>,
    /// The elements; a text is its length in 4 bytes, then its bytes.
    pub bytes: Vec<u8>,
}

/// What a route gave: preview1 may leave open what it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Output {
    /// The type of the elements, where it is known.
    pub dtype: Option<Dtype>,
    /// The dimensions, where they are known.
    pub shape: Option<Vec<usize>>,
    /// The elements.
    pub bytes: Vec<u8>,
}

impl From<Value> for Output {
    fn from(value: Value) -> Output {
        Output {
            dtype: Some(value.dtype),
            shape: Some(value.shape),
            bytes: value.bytes,
        }
    }
}

/// A number or truth value that can be an element.
pub trait Element: Copy {
    /// Its dtype.
    const DTYPE: Dtype;
    /// The element of these bytes, as many as the dtype has.
    fn read(bytes: &[u8]) -> Self;
    /// Adds the element's bytes.
    fn write(self, bytes: &mut Vec<u8>);
}

macro_rules! elements {
    ($($rust:ty => $dtype:ident),*) => {$(
        impl Element for $rust {
            const DTYPE: Dtype = Dtype::$dtype;
            fn read(bytes: &[u8]) -> $rust {
                let mut element = [0; size_of::<$rust>()];
                element.copy_from_slice(bytes);
                <$rust>::from_le_bytes(element)
            }
            fn write(self, bytes: &mut Vec<u8>) {
                bytes.extend(self.to_le_bytes());
            }
        }
    )*};
}

elements!(f16 => F16, bf16 => BF16, f32 => F32, f64 => F64, u8 => U8, u16 => U16, u32 => U32, u64 => U64,
    i8 => I8, i16 => I16, i32 => I32, i64 => I64);

impl Element for bool {
    const DTYPE: Dtype = Dtype::Bool;

    fn read(bytes: &[u8]) -> bool {
        bytes.first().is_some_and(|byte| *byte != 0)
    }

    fn write(self, bytes: &mut Vec<u8>) {
        bytes.push(self.into());
    }
}

/// Does something for the Rust type of a dtype; the last arm is for text.
macro_rules! with_element {
    ($dtype:expr, $element:ident => $work:expr, $text:expr) => {
        match $dtype {
            infer_core::Dtype::F16 => {
                type $element = half::f16;
                $work
            }
            infer_core::Dtype::BF16 => {
                type $element = half::bf16;
                $work
            }
            infer_core::Dtype::F32 => {
                type $element = f32;
                $work
            }
            infer_core::Dtype::F64 => {
                type $element = f64;
                $work
            }
            infer_core::Dtype::Bool => {
                type $element = bool;
                $work
            }
            infer_core::Dtype::U8 => {
                type $element = u8;
                $work
            }
            infer_core::Dtype::U16 => {
                type $element = u16;
                $work
            }
            infer_core::Dtype::U32 => {
                type $element = u32;
                $work
            }
            infer_core::Dtype::U64 => {
                type $element = u64;
                $work
            }
            infer_core::Dtype::I8 => {
                type $element = i8;
                $work
            }
            infer_core::Dtype::I16 => {
                type $element = i16;
                $work
            }
            infer_core::Dtype::I32 => {
                type $element = i32;
                $work
            }
            infer_core::Dtype::I64 => {
                type $element = i64;
                $work
            }
            infer_core::Dtype::String => $text,
        }
    };
}
pub(crate) use with_element;

impl Value {
    /// Decodes a `TensorProto`.
    ///
    /// # Errors
    /// For bytes that are none, a dtype that [`dtype_of`] does not know, and elements that do not fit the shape.
    pub fn parse(mut bytes: &[u8]) -> Result<Value, String> {
        let proto = tract_onnx::tensor::proto_from_reader(&mut bytes);
        let proto = proto.map_err(|error| format!("{error:#}"))?;
        let dtype = dtype_of(i64::from(proto.data_type));
        let dtype = dtype.ok_or_else(|| format!("dtype {}", dtype_name(proto.data_type.into())))?;
        let shape: Result<Vec<usize>, _> = proto.dims.iter().map(|&size| size.try_into()).collect();
        let shape = shape.map_err(|_| "a negative dimension")?;
        let value = Value {
            dtype,
            shape,
            bytes: elements(dtype, &proto),
        };
        match value.count() == Some(value.shape.iter().product()) {
            true => Ok(value),
            false => Err(format!(
                "{} bytes for {dtype} {:?}",
                value.bytes.len(),
                value.shape
            )),
        }
    }

    /// A tensor of these elements.
    pub fn of<T: Element>(shape: Vec<usize>, elements: &[T]) -> Value {
        let mut bytes = Vec::new();
        elements
            .iter()
            .for_each(|element| element.write(&mut bytes));
        Value {
            dtype: T::DTYPE,
            shape,
            bytes,
        }
    }

    /// A tensor of these texts.
    pub fn of_texts<T: AsRef<[u8]>>(shape: Vec<usize>, texts: &[T]) -> Value {
        let framed = texts.iter().flat_map(|text| framed(text.as_ref()));
        Value {
            dtype: Dtype::String,
            shape,
            bytes: framed.collect(),
        }
    }

    /// The elements; the dtype must be `T`'s.
    pub fn elements<T: Element>(&self) -> Vec<T> {
        elements_of(&self.bytes)
    }

    /// The texts of a tensor of texts, in UTF-8 with replacements.
    pub fn texts(&self) -> Vec<String> {
        let texts = texts(&self.bytes).unwrap_or_default();
        texts
            .iter()
            .map(|text| String::from_utf8_lossy(text).into_owned())
            .collect()
    }

    /// The number of elements; `None` where the bytes are no whole number of them.
    fn count(&self) -> Option<usize> {
        match self.dtype.size() {
            Some(size) => self
                .bytes
                .len()
                .is_multiple_of(size)
                .then(|| self.bytes.len() / size),
            None => texts(&self.bytes).map(|texts| texts.len()),
        }
    }
}

/// The elements that bytes hold.
pub fn elements_of<T: Element>(bytes: &[u8]) -> Vec<T> {
    bytes.chunks_exact(size_of::<T>()).map(T::read).collect()
}

/// The texts that bytes hold; `None` where the last is cut off.
pub fn texts(mut bytes: &[u8]) -> Option<Vec<&[u8]>> {
    let mut texts = Vec::new();
    while !bytes.is_empty() {
        let (length, rest) = bytes.split_first_chunk()?;
        let length = u32::from_le_bytes(*length) as usize;
        let (text, rest) = rest.split_at_checked(length)?;
        texts.push(text);
        bytes = rest;
    }
    Some(texts)
}

fn framed(text: &[u8]) -> Vec<u8> {
    [&(text.len() as u32).to_le_bytes()[..], text].concat()
}

fn elements(dtype: Dtype, proto: &TensorProto) -> Vec<u8> {
    if !proto.raw_data.is_empty() {
        return proto.raw_data.clone();
    }
    let short = |size: usize| {
        let numbers = proto.int32_data.iter();
        numbers
            .flat_map(move |number| number.to_le_bytes().into_iter().take(size))
            .collect()
    };
    match dtype {
        Dtype::String => proto
            .string_data
            .iter()
            .flat_map(|text| framed(text))
            .collect(),
        Dtype::F32 => proto
            .float_data
            .iter()
            .flat_map(|number| number.to_le_bytes())
            .collect(),
        Dtype::F64 => proto
            .double_data
            .iter()
            .flat_map(|number| number.to_le_bytes())
            .collect(),
        Dtype::I64 => proto
            .int64_data
            .iter()
            .flat_map(|number| number.to_le_bytes())
            .collect(),
        // tract's code does not know the field of these; `parse` finds that elements are missing.
        Dtype::U32 | Dtype::U64 => Vec::new(),
        _ => short(dtype.size().unwrap_or(0)),
    }
}

/// ONNX's name of each dtype number.
const NAMES: [&str; 27] = [
    "undefined",
    "float32",
    "uint8",
    "int8",
    "uint16",
    "int16",
    "int32",
    "int64",
    "string",
    "bool",
    "float16",
    "float64",
    "uint32",
    "uint64",
    "complex64",
    "complex128",
    "bfloat16",
    "float8e4m3fn",
    "float8e4m3fnuz",
    "float8e5m2",
    "float8e5m2fnuz",
    "uint4",
    "int4",
    "float4e2m1",
    "float8e8m0",
    "uint2",
    "int2",
];

/// ONNX's name of a dtype number.
pub fn dtype_name(number: i64) -> String {
    let name = usize::try_from(number)
        .ok()
        .and_then(|number| NAMES.get(number));
    name.map_or_else(|| format!("number {number}"), |name| (*name).to_owned())
}

/// Our dtype of ONNX's number.
pub fn dtype_of(number: i64) -> Option<Dtype> {
    Some(match number {
        1 => Dtype::F32,
        2 => Dtype::U8,
        3 => Dtype::I8,
        4 => Dtype::U16,
        5 => Dtype::I16,
        6 => Dtype::I32,
        7 => Dtype::I64,
        8 => Dtype::String,
        9 => Dtype::Bool,
        10 => Dtype::F16,
        11 => Dtype::F64,
        12 => Dtype::U32,
        13 => Dtype::U64,
        16 => Dtype::BF16,
        _ => return None,
    })
}
