//! The encoding of Protocol Buffers, as far as a tensor needs it.
//!
//! <https://protobuf.dev/programming-guides/encoding/>

/// The value of a field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Value<'a> {
    /// A number of at most 64 bits.
    Varint(u64),
    /// 8 bytes.
    Fixed64([u8; 8]),
    /// A text, a message or packed numbers.
    Bytes(&'a [u8]),
    /// 4 bytes.
    Fixed32([u8; 4]),
}

/// Reads the fields of a message, each with its number, in the order in which they stand.
pub(crate) struct Fields<'a>(pub(crate) &'a [u8]);

/// What bytes that are no message are answered with.
const CUT_OFF: &str = "the message is cut off or damaged";

impl<'a> Iterator for Fields<'a> {
    type Item = Result<(u64, Value<'a>), &'static str>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.0.is_empty() {
            return None;
        }
        let field = self.field().ok_or(CUT_OFF);
        if field.is_err() {
            self.0 = &[];
        }
        Some(field)
    }
}

impl<'a> Fields<'a> {
    fn field(&mut self) -> Option<(u64, Value<'a>)> {
        let key = varint(&mut self.0)?;
        let value = match key & 7 {
            0 => Value::Varint(varint(&mut self.0)?),
            1 => Value::Fixed64(*take(&mut self.0, 8)?.first_chunk()?),
            2 => {
                let length = varint(&mut self.0)?;
                Value::Bytes(take(&mut self.0, usize::try_from(length).ok()?)?)
            }
            5 => Value::Fixed32(*take(&mut self.0, 4)?.first_chunk()?),
            _ => return None,
        };
        Some((key >> 3, value))
    }
}

/// The varints that a field holds: one, or several packed.
///
/// # Errors
/// For what is neither.
pub(crate) fn varints(value: Value<'_>) -> Result<Vec<u64>, &'static str> {
    match value {
        Value::Varint(number) => Ok(vec![number]),
        Value::Bytes(mut packed) => {
            let mut numbers = Vec::new();
            while !packed.is_empty() {
                numbers.push(varint(&mut packed).ok_or(CUT_OFF)?);
            }
            Ok(numbers)
        }
        Value::Fixed32(_) | Value::Fixed64(_) => Err("expected varints"),
    }
}

/// The little-endian numbers of a fixed size that a field holds, as bytes: one, or several packed.
///
/// # Errors
/// For varints.
pub(crate) fn fixed<'a>(value: &'a Value<'a>) -> Result<&'a [u8], &'static str> {
    match value {
        Value::Fixed32(bytes) => Ok(bytes),
        Value::Fixed64(bytes) => Ok(bytes),
        Value::Bytes(bytes) => Ok(bytes),
        Value::Varint(_) => Err("expected numbers of a fixed size"),
    }
}

fn varint(bytes: &mut &[u8]) -> Option<u64> {
    let mut number = 0u64;
    for place in 0..10 {
        let (first, rest) = bytes.split_first()?;
        *bytes = rest;
        number |= u64::from(first & 0x7f) << (7 * place);
        if first & 0x80 == 0 {
            return Some(number);
        }
    }
    None
}

fn take<'a>(bytes: &mut &'a [u8], length: usize) -> Option<&'a [u8]> {
    let (taken, rest) = bytes.split_at_checked(length)?;
    *bytes = rest;
    Some(taken)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_of_field_is_read() {
        let message = [
            0x08, 0x96, 0x01, 0x12, 0x02, 0x05, 0x06, 0x1d, 1, 2, 3, 4, 0x21, 1, 2, 3, 4, 5, 6, 7,
            8,
        ];
        let fields: Result<Vec<_>, _> = Fields(&message).collect();
        let expected = vec![
            (1, Value::Varint(150)),
            (2, Value::Bytes(&[5, 6])),
            (3, Value::Fixed32([1, 2, 3, 4])),
            (4, Value::Fixed64([1, 2, 3, 4, 5, 6, 7, 8])),
        ];
        assert_eq!(fields, Ok(expected));
    }

    #[test]
    fn a_message_that_is_cut_off_is_told() {
        for message in [
            &[0x08][..],
            &[0x08, 0x80],
            &[0x12, 5, 1],
            &[0x1d, 1],
            &[0x0b],
        ] {
            let fields: Result<Vec<_>, _> = Fields(message).collect();
            assert_eq!(fields, Err(CUT_OFF), "{message:?}");
        }
    }
}
