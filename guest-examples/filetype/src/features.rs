//! The model's view of a file: 1024 bytes from its beginning and 1024 from its end, white space stripped.
//!
//! The facts are those of Magika's model `standard_v3_3` (its `config.min.json`): of the first 4096 bytes,
//! without leading white space, the first 1024; of the last 4096 bytes, without trailing white space, the last
//! 1024; 256 where a file has fewer, after the former and before the latter. A file with fewer than 8 bytes
//! left at its beginning is not for the model.

use std::io::{self, Read, Seek, SeekFrom};

/// Features per file.
pub(crate) const FEATURES: usize = 2 * SIDE;

const SIDE: usize = 1024;
const BLOCK: u64 = 4096;
const PADDING: i32 = 256;
const FEWEST_BYTES: usize = 8;

/// A file as far as it matters here.
#[derive(Debug, PartialEq)]
pub(crate) enum Sample {
    /// What it is needs no model.
    Known(&'static str),
    /// What the model is to see.
    Features(Vec<i32>),
}

impl Sample {
    /// Reads both ends of a file, never the whole of it.
    pub(crate) fn read(mut file: impl Read + Seek) -> io::Result<Sample> {
        let length = file.seek(SeekFrom::End(0))?;
        let block = BLOCK.min(length);
        let beginning = read_block(&mut file, 0, block)?;
        let end = read_block(&mut file, length - block, block)?;
        Ok(Sample::of(&beginning, &end))
    }

    fn of(beginning: &[u8], end: &[u8]) -> Sample {
        let head = trim_start(beginning);
        let head = &head[..head.len().min(SIDE)];
        if head.len() < FEWEST_BYTES {
            return Sample::Known(tell_short(beginning));
        }
        let tail = trim_end(end);
        let tail = &tail[tail.len().saturating_sub(SIDE)..];
        let padding = |missing: usize| std::iter::repeat_n(PADDING, missing);
        let features = (head
            .iter()
            .map(|byte| i32::from(*byte))
            .chain(padding(SIDE - head.len())))
        .chain(padding(SIDE - tail.len()).chain(tail.iter().map(|byte| i32::from(*byte))));
        Sample::Features(features.collect())
    }
}

fn read_block(file: &mut (impl Read + Seek), start: u64, length: u64) -> io::Result<Vec<u8>> {
    let mut block = Vec::new();
    file.seek(SeekFrom::Start(start))?;
    file.take(length).read_to_end(&mut block)?;
    Ok(block)
}

/// What a file is that is too short for the model.
fn tell_short(bytes: &[u8]) -> &'static str {
    match bytes {
        [] => "empty",
        bytes if std::str::from_utf8(bytes).is_ok() => "txt",
        _ => "unknown",
    }
}

/// White space as the model was trained with: ASCII's six, vertical tab among them.
fn is_space(byte: u8) -> bool {
    matches!(byte, b'\t'..=b'\r' | b' ')
}

fn trim_start(bytes: &[u8]) -> &[u8] {
    let start = bytes
        .iter()
        .position(|byte| !is_space(*byte))
        .unwrap_or(bytes.len());
    &bytes[start..]
}

fn trim_end(bytes: &[u8]) -> &[u8] {
    let end = bytes
        .iter()
        .rposition(|byte| !is_space(*byte))
        .map_or(0, |last| last + 1);
    &bytes[..end]
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Cursor;

    fn read(bytes: &[u8]) -> Sample {
        Sample::read(Cursor::new(bytes)).expect("memory is readable")
    }

    #[test]
    fn short_files_need_no_model() {
        assert_eq!(read(b""), Sample::Known("empty"));
        assert_eq!(read(b"hello\n"), Sample::Known("txt"));
        assert_eq!(read(b"\xff\xfe"), Sample::Known("unknown"));
        assert_eq!(read("  \t\n\x0b hello\n ".as_bytes()), Sample::Known("txt"));
    }

    #[test]
    fn a_small_file_is_padded_outwards() {
        let Sample::Features(features) = read(b" \n12345678 ") else {
            panic!("long enough")
        };
        assert_eq!(features.len(), FEATURES);
        assert_eq!(
            features[..10],
            [49, 50, 51, 52, 53, 54, 55, 56, 32, PADDING]
        );
        assert_eq!(
            features[FEATURES - 11..],
            [PADDING, 32, 10, 49, 50, 51, 52, 53, 54, 55, 56]
        );
    }

    #[test]
    fn of_a_large_file_both_ends_are_seen() {
        let bytes: Vec<u8> = (0..20_000u32)
            .map(|i| if i < 10_000 { b'a' } else { b'z' })
            .collect();
        let Sample::Features(features) = read(&bytes) else {
            panic!("long enough")
        };
        assert!(
            features[..SIDE]
                .iter()
                .all(|feature| *feature == i32::from(b'a'))
        );
        assert!(
            features[SIDE..]
                .iter()
                .all(|feature| *feature == i32::from(b'z'))
        );
    }
}
