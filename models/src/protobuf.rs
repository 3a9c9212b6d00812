//! Walks protobuf messages in a file, field by field, seeking over contents and decoding nothing else.
//!
//! Costs the same for a message of any size, allocates only what [`Reader::bytes`] is asked for, and takes
//! any bytes: a fault ends the walk.

use std::io::{BufReader, Read, Seek, SeekFrom};

/// The longest text or message that is read whole, in bytes.
pub(crate) const LONGEST: u64 = 64 * 1024;

const BUFFER: usize = 4096;

/// A file that is walked.
pub(crate) struct Reader<R> {
    source: BufReader<R>,
    at: u64,
    length: u64,
}

/// One field of a message: its number and what it holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Field {
    pub(crate) number: u64,
    pub(crate) value: Value,
}

/// What a field holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Value {
    /// A number of variable length.
    Number(u64),
    /// Bytes: a text or another message.
    Bytes(Span),
    /// Four or eight bytes, skipped.
    Fixed,
}

/// Where bytes are in the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Span {
    pub(crate) start: u64,
    pub(crate) end: u64,
}

impl Span {
    /// The length in bytes.
    pub(crate) fn length(self) -> u64 {
        self.end - self.start
    }
}

/// What comes next in a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// A field that lies whole in the message.
    Field(Field),
    /// A field of this number that ends after the end of the message.
    CutShort(u64),
    /// The end.
    End,
    /// What is no protobuf.
    Fault,
}

impl<R: Read + Seek> Reader<R> {
    /// Reads from the start of a file.
    pub(crate) fn new(mut source: R) -> std::io::Result<Reader<R>> {
        let length = source.seek(SeekFrom::End(0))?;
        source.rewind()?;
        Ok(Reader {
            source: BufReader::with_capacity(BUFFER, source),
            at: 0,
            length,
        })
    }

    /// The whole file.
    pub(crate) fn whole(&self) -> Span {
        Span {
            start: 0,
            end: self.length,
        }
    }

    /// The field at the start of this part of a message, and the part that is left after it.
    pub(crate) fn next(&mut self, message: &mut Span) -> Step {
        if message.start >= message.end {
            return Step::End;
        }
        let Some(tag) = self.varint(message) else {
            return Step::Fault;
        };
        let number = tag >> 3;
        let value = match tag & 7 {
            0 => self.varint(message).map(Value::Number),
            1 => skip(message, 8),
            2 => match self.varint(message) {
                Some(length) => match message.start.checked_add(length) {
                    Some(end) if end <= message.end => {
                        let start = std::mem::replace(&mut message.start, end);
                        Some(Value::Bytes(Span { start, end }))
                    }
                    _ => return Step::CutShort(number),
                },
                None => None,
            },
            5 => skip(message, 4),
            _ => None,
        };
        match value {
            Some(value) if number > 0 => Step::Field(Field { number, value }),
            _ => Step::Fault,
        }
    }

    /// The fields of a message up to its end, a fault, or so many.
    pub(crate) fn fields(&mut self, message: Span, most: usize) -> Vec<Field> {
        let (mut left, mut fields) = (message, Vec::new());
        while fields.len() < most
            && let Step::Field(field) = self.next(&mut left)
        {
            fields.push(field);
        }
        fields
    }

    /// The bytes of a span, where they are not longer than [`LONGEST`].
    pub(crate) fn bytes(&mut self, span: Span) -> Option<Vec<u8>> {
        if span.length() > LONGEST {
            return None;
        }
        let mut bytes = vec![0; usize::try_from(span.length()).ok()?];
        self.seek(span.start)?;
        self.source.read_exact(&mut bytes).ok()?;
        self.at = span.end;
        Some(bytes)
    }

    /// A span's bytes as text; faults in it are replaced.
    pub(crate) fn text(&mut self, span: Span) -> Option<String> {
        Some(String::from_utf8_lossy(&self.bytes(span)?).into_owned())
    }

    fn varint(&mut self, message: &mut Span) -> Option<u64> {
        let mut value = 0u64;
        for shift in (0..64).step_by(7) {
            if message.start >= message.end {
                return None;
            }
            let mut byte = [0];
            self.seek(message.start)?;
            self.source.read_exact(&mut byte).ok()?;
            (self.at, message.start) = (self.at + 1, message.start + 1);
            value |= u64::from(byte[0] & 0x7f) << shift;
            if byte[0] & 0x80 == 0 {
                return Some(value);
            }
        }
        None
    }

    fn seek(&mut self, to: u64) -> Option<()> {
        let distance = i64::try_from(to)
            .ok()?
            .checked_sub(i64::try_from(self.at).ok()?)?;
        self.source.seek_relative(distance).ok()?;
        self.at = to;
        Some(())
    }
}

fn skip(message: &mut Span, length: u64) -> Option<Value> {
    message.start = message
        .start
        .checked_add(length)
        .filter(|start| *start <= message.end)?;
    Some(Value::Fixed)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;
    use std::io::Cursor;

    fn steps(bytes: &[u8]) -> Vec<Step> {
        let mut reader = Reader::new(Cursor::new(bytes)).unwrap();
        let mut left = reader.whole();
        let mut steps = Vec::new();
        loop {
            steps.push(reader.next(&mut left));
            if !matches!(steps.last(), Some(Step::Field(_))) {
                return steps;
            }
        }
    }

    #[test]
    fn fields_are_walked() {
        let field = |number, value| Step::Field(Field { number, value });
        let expected = vec![
            field(1, Value::Number(300)),
            field(2, Value::Bytes(Span { start: 5, end: 7 })),
            field(3, Value::Fixed),
            Step::End,
        ];
        assert_eq!(steps(b"\x08\xac\x02\x12\x02hi\x1d\0\0\0\0"), expected);
    }

    #[test]
    fn faults_end_the_walk() {
        let cases: [(&[u8], Step); 6] = [
            (b"\x12\x03hi", Step::CutShort(2)),
            (
                b"\x12\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01",
                Step::CutShort(2),
            ),
            (b"\x08", Step::Fault),
            (b"\x0f", Step::Fault),
            (b"\x1d\0", Step::Fault),
            (&[0xff; 32], Step::Fault),
        ];
        for (bytes, last) in cases {
            assert_eq!(steps(bytes), [last], "{bytes:?}");
        }
    }

    #[test]
    fn long_bytes_are_not_read() {
        let bytes = vec![b'a'; LONGEST as usize + 1];
        let mut reader = Reader::new(Cursor::new(bytes)).unwrap();
        let whole = reader.whole();
        assert_eq!(reader.bytes(whole), None);
        assert_eq!(
            reader.text(Span { start: 3, end: 5 }).as_deref(),
            Some("aa")
        );
    }
}
