//! Tensors in JSON: numbers, bools and strings, in one flat list or nested as their shape says.

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
    // Each element takes at least two bytes of text.
    let most = count.min(data.get().len() / 2);
    let mut elements = Elements {
        dtype,
        shape: &shape,
        left: count,
        bytes: Vec::with_capacity(most * dtype.size().unwrap_or(4)),
    };
    let mut reader = serde_json::Deserializer::from_str(data.get());
    let list = List {
        elements: &mut elements,
        depth: 0,
    };
    list.deserialize(&mut reader)
        .map_err(|error| invalid(error.to_string()))?;
    if elements.left > 0 {
        let got = count - elements.left;
        return Err(invalid(format!("expected {count} elements, got {got}")));
    }
    let bytes = elements.bytes;
    Tensor::new(dtype, shape, bytes.into()).map_err(|error| invalid(error.to_string()))
}

/// Writes a tensor's elements as a flat list.
///
/// # Errors
/// `InvalidArgument` for what JSON does not carry.
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
        Error::new(ErrorKind::InvalidArgument, message).with_hint(BINARY)
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
    Err(Error::new(ErrorKind::InvalidArgument, message).with_hint(BINARY))
}

fn only_binary(what: &str, dtype: Dtype) -> Error {
    let message = format!(
        "{what} is {}, which JSON does not carry",
        datatype::name(dtype)
    );
    Error::new(ErrorKind::InvalidArgument, message).with_hint("send and ask for it as binary data")
}

/// The elements that have been read.
struct Elements<'a> {
    dtype: Dtype,
    shape: &'a [usize],
    left: usize,
    bytes: Vec<u8>,
}

impl Elements<'_> {
    fn add<E: de::Error>(&mut self, bytes: &[u8]) -> std::result::Result<(), E> {
        self.left = self
            .left
            .checked_sub(1)
            .ok_or_else(|| E::custom("more elements than the shape has"))?;
        self.bytes.extend_from_slice(bytes);
        Ok(())
    }

    fn integer<E: de::Error>(&mut self, value: i128) -> std::result::Result<(), E> {
        macro_rules! in_range {
            ($type:ty) => {
                match <$type>::try_from(value) {
                    Ok(value) => self.add(&value.to_le_bytes()),
                    Err(_) => Err(self.no(value)),
                }
            };
        }
        match self.dtype {
            Dtype::U8 => in_range!(u8),
            Dtype::U16 => in_range!(u16),
            Dtype::U32 => in_range!(u32),
            Dtype::U64 => in_range!(u64),
            Dtype::I8 => in_range!(i8),
            Dtype::I16 => in_range!(i16),
            Dtype::I32 => in_range!(i32),
            Dtype::I64 => in_range!(i64),
            // As the nearest float, as any other number.
            Dtype::F32 => self.add(&(value as f32).to_le_bytes()),
            Dtype::F64 => self.add(&(value as f64).to_le_bytes()),
            Dtype::Bool | Dtype::F16 | Dtype::BF16 | Dtype::String => Err(self.no(value)),
        }
    }

    fn no<E: de::Error>(&self, value: impl fmt::Display) -> E {
        E::custom(format!("{value} is no {}", datatype::name(self.dtype)))
    }

    fn not_nested<E: de::Error>(&self) -> E {
        E::custom(format!(
            "expected one flat list or lists nested as the shape {:?} says",
            self.shape
        ))
    }
}

/// A list at a depth.
struct List<'a, 'e> {
    elements: &'a mut Elements<'e>,
    depth: usize,
}

impl<'de> DeserializeSeed<'de> for List<'_, '_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> std::result::Result<(), D::Error> {
        from.deserialize_seq(self)
    }
}

impl<'de> Visitor<'de> for List<'_, '_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a list of {}", datatype::name(self.elements.dtype))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> std::result::Result<(), A::Error> {
        let List { elements, depth } = self;
        let (mut lists, mut others) = (0, 0);
        loop {
            let mut is_list = false;
            let item = Item {
                elements: &mut *elements,
                depth,
                is_list: &mut is_list,
            };
            if list.next_element_seed(item)?.is_none() {
                break;
            }
            match is_list {
                true => lists += 1,
                false => others += 1,
            }
        }
        let rank = elements.shape.len();
        let is_flat = depth == 0 && lists == 0;
        let size = elements.shape.get(depth);
        let is_nested =
            size == Some(&(lists + others)) && (others == 0 || lists == 0 && depth + 1 == rank);
        match is_flat || is_nested {
            true => Ok(()),
            false => Err(elements.not_nested()),
        }
    }
}

/// What stands in a list: an element, or a list.
struct Item<'a, 'e> {
    elements: &'a mut Elements<'e>,
    /// That of the list that it stands in.
    depth: usize,
    is_list: &'a mut bool,
}

impl<'de> DeserializeSeed<'de> for Item<'_, '_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> std::result::Result<(), D::Error> {
        from.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Item<'_, '_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(datatype::name(self.elements.dtype))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, list: A) -> std::result::Result<(), A::Error> {
        *self.is_list = true;
        let depth = self.depth + 1;
        if depth >= self.elements.shape.len() {
            return Err(self.elements.not_nested());
        }
        let elements = self.elements;
        List { elements, depth }.visit_seq(list)
    }

    fn visit_bool<E: de::Error>(self, value: bool) -> std::result::Result<(), E> {
        match self.elements.dtype {
            Dtype::Bool => self.elements.add(&[value.into()]),
            _ => Err(self.elements.no(value)),
        }
    }

    fn visit_u64<E: de::Error>(self, value: u64) -> std::result::Result<(), E> {
        self.elements.integer(value.into())
    }

    fn visit_i64<E: de::Error>(self, value: i64) -> std::result::Result<(), E> {
        self.elements.integer(value.into())
    }

    fn visit_f64<E: de::Error>(self, value: f64) -> std::result::Result<(), E> {
        let single = value as f32;
        match self.elements.dtype {
            Dtype::F32 if single.is_finite() => self.elements.add(&single.to_le_bytes()),
            Dtype::F64 => self.elements.add(&value.to_le_bytes()),
            _ => Err(self.elements.no(format_args!("{value:?}"))),
        }
    }

    fn visit_str<E: de::Error>(self, text: &str) -> std::result::Result<(), E> {
        match (self.elements.dtype, u32::try_from(text.len())) {
            (Dtype::String, Ok(length)) => {
                let bytes = [&length.to_le_bytes()[..], text.as_bytes()].concat();
                self.elements.add(&bytes)
            }
            _ => Err(self.elements.no("a text")),
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
        let cases: [(&[usize], &str); 8] = [
            (&[2, 2], "[[1,2],[3,4]]"),
            (&[2, 2], "[1,2,3,4]"),
            (&[1, 2, 2], "[[[1,2],[3,4]]]"),
            (&[], "[1]"),
            (&[0], "[]"),
            (&[2, 0], "[[],[]]"),
            (&[2, 0], "[]"),
            (&[0, 2], "[]"),
        ];
        for (shape, text) in cases {
            let tensor = read("x", Dtype::I32, shape.to_vec(), &raw(text)).expect(text);
            let flat: Vec<&str> = text
                .split(['[', ']', ','])
                .filter(|part| !part.is_empty())
                .collect();
            let written = write("x", &tensor).expect("valid");
            assert_eq!(written.get(), format!("[{}]", flat.join(",")));
        }
    }

    #[test]
    fn what_does_not_fit_is_said() {
        let cases = [
            (Dtype::U8, "[256,0]", "256 is no UINT8"),
            (Dtype::U64, "[-1,0]", "-1 is no UINT64"),
            (Dtype::I32, "[1.5,0]", "1.5 is no INT32"),
            (Dtype::I32, "[1.0,0]", "1.0 is no INT32"),
            (Dtype::F32, "[1e39,0]", "is no FP32"),
            (Dtype::F32, "[\"1\",0]", "a text is no FP32"),
            (Dtype::Bool, "[1,0]", "1 is no BOOL"),
            (Dtype::String, "[1,\"\"]", "1 is no BYTES"),
            (Dtype::I32, "[1]", "expected 2 elements, got 1"),
            (Dtype::I32, "[1,2,3]", "more elements than the shape has"),
            (Dtype::I32, "[null,1]", "expected INT32"),
            (Dtype::I32, "{}", "a list of INT32"),
            (Dtype::I32, "7", "a list of INT32"),
            (Dtype::I32, "[[1,2]]", "one flat list"),
            (Dtype::F16, "[1,2]", "which JSON does not carry"),
        ];
        for (dtype, text, expected) in cases {
            let error = read("x", dtype, vec![2], &raw(text)).expect_err(text);
            assert!(error.to_string().contains(expected), "{text}: {error}");
        }
        let nested = [
            "[[1],[2,3,4]]",
            "[1,[2],3,4]",
            "[[1,2],3,4]",
            "[[[1,2],[3,4]]]",
            "[[],[1,2,3,4]]",
        ];
        let deep = format!("{}1{}", "[".repeat(100_000), "]".repeat(100_000));
        for text in nested.into_iter().chain([&*deep]) {
            let error = read("x", Dtype::I32, vec![2, 2], &raw(text)).expect_err("another nesting");
            assert!(
                error.to_string().contains("nested as the shape [2, 2]"),
                "{error}"
            );
        }
        let infinite = Tensor::new(Dtype::F32, vec![1], f32::NAN.to_le_bytes().to_vec().into());
        assert!(write("x", &infinite.expect("valid")).is_err());
    }
}
