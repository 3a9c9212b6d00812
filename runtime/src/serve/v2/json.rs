//! Tensors in JSON: numbers, bools and strings, flat or nested as their shape says.

use std::fmt;

use infer_core::{Dtype, Error, ErrorKind, Result, Tensor, clip};
use serde::de::{self, DeserializeSeed, Deserializer, SeqAccess, Visitor};
use serde_json::value::RawValue;

use crate::serve::v2::datatype;

/// Reads a tensor's elements.
///
/// # Errors
/// `InvalidArgument` for elements that are not of this type, too many or too few, and for types that JSON does not
/// carry.
pub(crate) fn read(name: &str, dtype: Dtype, shape: Vec<usize>, data: &RawValue) -> Result<Tensor> {
    if matches!(dtype, Dtype::F16 | Dtype::BF16) {
        return Err(only_binary(&format!("input `{}`", clip(name)), dtype));
    }
    let invalid = |what: String| {
        let message = format!("input `{}`: {what}", clip(name));
        Error::new(ErrorKind::InvalidArgument, message)
    };
    let count = shape
        .iter()
        .try_fold(1usize, |product, &size| product.checked_mul(size))
        .ok_or_else(|| invalid(format!("the dimensions {shape:?} overflow")))?;
    let mut elements = Elements {
        dtype,
        left: count,
        // Each element takes at least one byte of text.
        bytes: Vec::with_capacity(count.min(data.get().len()) * dtype.size().unwrap_or(4)),
    };
    let mut reader = serde_json::Deserializer::from_str(data.get());
    Nested(&mut elements)
        .deserialize(&mut reader)
        .map_err(|error| invalid(error.to_string()))?;
    if elements.left > 0 {
        let got = count - elements.left;
        return Err(invalid(format!("expected {count} elements, got {got}")));
    }
    Tensor::new(dtype, shape, elements.bytes.into()).map_err(|error| invalid(error.to_string()))
}

/// Writes a tensor's elements as a flat list.
///
/// # Errors
/// `UnsupportedOperation` for what JSON does not carry.
pub(crate) fn write(name: &str, tensor: &Tensor) -> Result<Box<RawValue>> {
    let bytes = tensor.host()?;
    let text = match tensor.dtype() {
        dtype @ (Dtype::F16 | Dtype::BF16) => {
            return Err(only_binary(&format!("output `{}`", clip(name)), dtype));
        }
        Dtype::String => strings(name, tensor)?,
        Dtype::Bool => list(bytes.iter().map(|&byte| byte != 0)),
        Dtype::U8 => list(bytes.iter()),
        Dtype::I8 => list(bytes.iter().map(|&byte| byte.cast_signed())),
        Dtype::U16 => list(elements(&bytes).map(u16::from_le_bytes)),
        Dtype::I16 => list(elements(&bytes).map(i16::from_le_bytes)),
        Dtype::U32 => list(elements(&bytes).map(u32::from_le_bytes)),
        Dtype::I32 => list(elements(&bytes).map(i32::from_le_bytes)),
        Dtype::U64 => list(elements(&bytes).map(u64::from_le_bytes)),
        Dtype::I64 => list(elements(&bytes).map(i64::from_le_bytes)),
        Dtype::F32 => {
            check_finite(
                name,
                elements(&bytes).all(|e| f32::from_le_bytes(e).is_finite()),
            )?;
            list(elements(&bytes).map(f32::from_le_bytes))
        }
        Dtype::F64 => {
            check_finite(
                name,
                elements(&bytes).all(|e| f64::from_le_bytes(e).is_finite()),
            )?;
            list(elements(&bytes).map(f64::from_le_bytes))
        }
    };
    text.and_then(RawValue::from_string).map_err(|error| {
        let message = format!("output `{}` cannot be written", clip(name));
        Error::new(ErrorKind::RuntimeError, message).with_source(error)
    })
}

type Text = std::result::Result<String, serde_json::Error>;

fn list<T: serde::Serialize>(values: impl Iterator<Item = T>) -> Text {
    let mut text = Vec::new();
    let mut writer = serde_json::Serializer::new(&mut text);
    serde::Serializer::collect_seq(&mut writer, values)?;
    String::from_utf8(text).map_err(de::Error::custom)
}

fn elements<const SIZE: usize>(bytes: &[u8]) -> impl Iterator<Item = [u8; SIZE]> {
    bytes.as_chunks().0.iter().copied()
}

fn strings(name: &str, tensor: &Tensor) -> Result<Text> {
    let strings = tensor.strings()?;
    let texts: std::result::Result<Vec<&str>, _> = strings
        .iter()
        .map(|bytes| std::str::from_utf8(bytes))
        .collect();
    let texts = texts.map_err(|_| {
        let message = format!("output `{}` has bytes that are no UTF-8", clip(name));
        Error::new(ErrorKind::UnsupportedOperation, message).with_hint(BINARY)
    })?;
    Ok(list(texts.into_iter()))
}

const BINARY: &str = "ask for it as binary data: the parameter `binary_data` of the output";

fn check_finite(name: &str, finite: bool) -> Result<()> {
    if finite {
        return Ok(());
    }
    let message = format!(
        "output `{}` is not finite, which JSON does not carry",
        clip(name)
    );
    Err(Error::new(ErrorKind::UnsupportedOperation, message).with_hint(BINARY))
}

fn only_binary(what: &str, dtype: Dtype) -> Error {
    let message = format!(
        "{what} is {}, which JSON does not carry",
        datatype::name(dtype)
    );
    Error::new(ErrorKind::InvalidArgument, message).with_hint("send and ask for it as binary data")
}

/// The elements that have been read.
struct Elements {
    dtype: Dtype,
    left: usize,
    bytes: Vec<u8>,
}

impl Elements {
    fn add<E: de::Error>(&mut self, bytes: &[u8]) -> std::result::Result<(), E> {
        self.left = self
            .left
            .checked_sub(1)
            .ok_or_else(|| E::custom("more elements than the shape has"))?;
        self.bytes.extend_from_slice(bytes);
        Ok(())
    }

    fn integer<E: de::Error>(&mut self, value: i128) -> std::result::Result<(), E> {
        macro_rules! add_in_range {
            ($($dtype:ident $type:ty),*) => {
                match self.dtype {
                    $(Dtype::$dtype => <$type>::try_from(value).map(|v| self.add(&v.to_le_bytes())).ok(),)*
                    // As the nearest float, as any other number.
                    Dtype::F32 => Some(self.add(&(value as f32).to_le_bytes())),
                    Dtype::F64 => Some(self.add(&(value as f64).to_le_bytes())),
                    _ => None,
                }
            };
        }
        let added =
            add_in_range!(U8 u8, U16 u16, U32 u32, U64 u64, I8 i8, I16 i16, I32 i32, I64 i64);
        added.unwrap_or_else(|| {
            let dtype = datatype::name(self.dtype);
            Err(E::custom(format!("{value} is no {dtype}")))
        })
    }
}

/// A list of lists, or an element.
struct Nested<'a>(&'a mut Elements);

impl<'de> DeserializeSeed<'de> for Nested<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(
        self,
        deserializer: D,
    ) -> std::result::Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Nested<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a list of {}", datatype::name(self.0.dtype))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> std::result::Result<(), A::Error> {
        while list.next_element_seed(Nested(&mut *self.0))?.is_some() {}
        Ok(())
    }

    fn visit_bool<E: de::Error>(self, value: bool) -> std::result::Result<(), E> {
        match self.0.dtype {
            Dtype::Bool => self.0.add(&[value.into()]),
            dtype => Err(E::custom(format!(
                "{value} is no {}",
                datatype::name(dtype)
            ))),
        }
    }

    fn visit_u64<E: de::Error>(self, value: u64) -> std::result::Result<(), E> {
        self.0.integer(value.into())
    }

    fn visit_i64<E: de::Error>(self, value: i64) -> std::result::Result<(), E> {
        self.0.integer(value.into())
    }

    fn visit_f64<E: de::Error>(self, value: f64) -> std::result::Result<(), E> {
        match self.0.dtype {
            Dtype::F32 if (value as f32).is_finite() => self.0.add(&(value as f32).to_le_bytes()),
            Dtype::F64 => self.0.add(&value.to_le_bytes()),
            dtype => Err(E::custom(format!(
                "{value} is no {}",
                datatype::name(dtype)
            ))),
        }
    }

    fn visit_str<E: de::Error>(self, text: &str) -> std::result::Result<(), E> {
        match (self.0.dtype, u32::try_from(text.len())) {
            (Dtype::String, Ok(length)) => {
                let bytes = [&length.to_le_bytes()[..], text.as_bytes()].concat();
                self.0.add(&bytes)
            }
            (dtype, _) => Err(E::custom(format!("a text is no {}", datatype::name(dtype)))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn raw(text: &str) -> Box<RawValue> {
        RawValue::from_string(text.to_owned()).expect("JSON")
    }

    #[test]
    fn what_is_read_is_written() {
        let cases = [
            (Dtype::Bool, "[true,false]"),
            (Dtype::U8, "[0,255]"),
            (Dtype::I8, "[-128,127]"),
            (Dtype::U16, "[0,65535]"),
            (Dtype::I16, "[-32768,32767]"),
            (Dtype::U32, "[0,4294967295]"),
            (Dtype::I32, "[-2147483648,2147483647]"),
            (Dtype::U64, "[0,18446744073709551615]"),
            (Dtype::I64, "[-9223372036854775808,9223372036854775807]"),
            (Dtype::F32, "[0.1,-3.4028235e38]"),
            (Dtype::F64, "[0.1,1.7976931348623157e308]"),
            (Dtype::String, "[\"caf\u{e9}\",\"\"]"),
        ];
        for (dtype, text) in cases {
            let tensor = read("x", dtype, vec![2], &raw(text)).expect("valid");
            let written = write("x", &tensor).expect("valid");
            assert_eq!(written.get().replace("e+", "e"), text);
        }
        let nested = read("x", Dtype::I32, vec![2, 2], &raw("[[1,2],[3,4]]")).expect("valid");
        assert_eq!(write("x", &nested).expect("valid").get(), "[1,2,3,4]");
    }

    #[test]
    fn what_does_not_fit_is_said() {
        let cases = [
            (Dtype::U8, "[256,0]", "256 is no UINT8"),
            (Dtype::U64, "[-1,0]", "-1 is no UINT64"),
            (Dtype::I32, "[1.5,0]", "1.5 is no INT32"),
            (Dtype::F32, "[1e39,0]", "is no FP32"),
            (Dtype::F32, "[\"1\",0]", "a text is no FP32"),
            (Dtype::Bool, "[1,0]", "1 is no BOOL"),
            (Dtype::String, "[1,\"\"]", "1 is no BYTES"),
            (Dtype::I32, "[1]", "expected 2 elements, got 1"),
            (Dtype::I32, "[1,2,3]", "more elements than the shape has"),
            (Dtype::I32, "[null,1]", "a list of INT32"),
            (Dtype::I32, "{}", "a list of INT32"),
            (Dtype::F16, "[1,2]", "which JSON does not carry"),
        ];
        for (dtype, text, expected) in cases {
            let error = read("x", dtype, vec![2], &raw(text)).expect_err(text);
            assert!(error.to_string().contains(expected), "{text}: {error}");
        }
        let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
        // serde_json itself refuses such a text before it is one.
        if let Ok(deep) = RawValue::from_string(deep) {
            assert!(read("x", Dtype::I32, vec![0], &deep).is_err());
        }
        let infinite = Tensor::new(Dtype::F32, vec![1], f32::NAN.to_le_bytes().to_vec().into());
        assert!(write("x", &infinite.expect("valid")).is_err());
    }
}
