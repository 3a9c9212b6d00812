//! What a TensorFlow Lite file says of itself: the few fields of its flatbuffer that are worth printing.
//!
//! Follows offsets in the file and reads a few bytes at each; an offset that leads nowhere is a missing
//! field. Slots are those of TensorFlow's `schema.fbs`.

use std::io::{Read, Seek, SeekFrom};

use crate::protobuf::LONGEST;

const MODEL_VERSION: u64 = 0;
const MODEL_SUBGRAPHS: u64 = 2;
const MODEL_DESCRIPTION: u64 = 3;
const SUBGRAPH_OPERATORS: u64 = 3;
// More subgraphs than this are not counted.
const MOST_SUBGRAPHS: u32 = 10_000;

/// The head of a TensorFlow Lite model.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct LiteHead {
    /// The version of the schema.
    pub(crate) version: u32,
    /// What the file says of itself; often empty.
    pub(crate) description: String,
    /// How many graphs there are; the first one is run.
    pub(crate) subgraphs: u32,
    /// The operators of all graphs.
    pub(crate) operators: u64,
}

/// Reads the head; `None` for what is no such file.
pub(crate) fn lite_head(source: impl Read + Seek) -> Option<LiteHead> {
    let mut file = Flatbuffer(source);
    let model = file.follow(0)?;
    let subgraphs = match file.slot(model, MODEL_SUBGRAPHS)? {
        Some(slot) => Some(file.follow(slot)?),
        None => None,
    };
    let mut head = LiteHead {
        version: match file.slot(model, MODEL_VERSION)? {
            Some(slot) => file.number32(slot)?,
            None => 0,
        },
        description: file.text(model, MODEL_DESCRIPTION)?,
        ..LiteHead::default()
    };
    let Some(subgraphs) = subgraphs else {
        return Some(head);
    };
    head.subgraphs = file.number32(subgraphs)?;
    for index in 0..head.subgraphs.min(MOST_SUBGRAPHS) {
        let graph = file.follow(subgraphs.checked_add(4 + 4 * u64::from(index))?)?;
        if let Some(slot) = file.slot(graph, SUBGRAPH_OPERATORS)? {
            let operators = file.follow(slot)?;
            head.operators += u64::from(file.number32(operators)?);
        }
    }
    Some(head)
}

struct Flatbuffer<R>(R);

impl<R: Read + Seek> Flatbuffer<R> {
    fn bytes<const N: usize>(&mut self, at: u64) -> Option<[u8; N]> {
        let mut bytes = [0; N];
        self.0.seek(SeekFrom::Start(at)).ok()?;
        self.0.read_exact(&mut bytes).ok()?;
        Some(bytes)
    }

    fn number32(&mut self, at: u64) -> Option<u32> {
        self.bytes(at).map(u32::from_le_bytes)
    }

    fn number16(&mut self, at: u64) -> Option<u64> {
        self.bytes(at).map(u16::from_le_bytes).map(u64::from)
    }

    /// Where the offset at this place leads.
    fn follow(&mut self, at: u64) -> Option<u64> {
        at.checked_add(u64::from(self.number32(at)?))
    }

    /// Where a table's field is; `Some(None)` where the table leaves it out.
    #[allow(
        clippy::option_option,
        reason = "an absent field and a fault are two things"
    )]
    fn slot(&mut self, table: u64, index: u64) -> Option<Option<u64>> {
        let back = i32::from_le_bytes(self.bytes(table)?);
        let slots = table.checked_add_signed(-i64::from(back))?;
        let place = 4 + 2 * index;
        if place + 2 > self.number16(slots)? {
            return Some(None);
        }
        Some(match self.number16(slots.checked_add(place)?)? {
            0 => None,
            offset => Some(table.checked_add(offset)?),
        })
    }

    fn text(&mut self, table: u64, index: u64) -> Option<String> {
        let Some(slot) = self.slot(table, index)? else {
            return Some(String::new());
        };
        let text = self.follow(slot)?;
        let length = u64::from(self.number32(text)?).min(LONGEST);
        self.0.seek(SeekFrom::Start(text.checked_add(4)?)).ok()?;
        let mut bytes = Vec::new();
        self.0.by_ref().take(length).read_to_end(&mut bytes).ok()?;
        Some(String::from_utf8_lossy(&bytes).into_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Cursor;

    const LITE: &[u8] = include_bytes!("../testdata/network.tflite");

    #[test]
    fn a_head_is_read() {
        let expected = LiteHead {
            version: 3,
            description: "network".to_owned(),
            subgraphs: 1,
            operators: 4,
        };
        assert_eq!(lite_head(Cursor::new(LITE)), Some(expected));
    }

    #[test]
    fn hostile_offsets_lead_nowhere() {
        for at in 0..LITE.len() {
            for value in [0, 0x7f, 0x80, 0xff] {
                let mut broken = LITE.to_vec();
                broken[at] = value;
                lite_head(Cursor::new(&broken));
            }
            lite_head(Cursor::new(&LITE[..at]));
        }
        assert_eq!(lite_head(Cursor::new(&[0xff; 64])), None);
    }
}
