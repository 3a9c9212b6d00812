//! What a zip archive holds, by the names in its directory: PyTorch and Keras pack models this way.
//!
//! Unpacks nothing. Reads the end of the file and at most [`LARGEST_DIRECTORY`] bytes of the directory.

use std::io::{Read, Seek, SeekFrom};

use infer_core::Encoding;

use crate::Content;

const LARGEST_DIRECTORY: u64 = 256 * 1024;
const END_RECORD: usize = 22;
const LONGEST_COMMENT: u64 = 65_535;
const ENTRY: usize = 46;

/// Tells a model from other archives.
pub(crate) fn content(source: &mut (impl Read + Seek)) -> std::io::Result<Content> {
    let directory = directory(source)?;
    let (mut names, mut left) = (Vec::new(), &directory[..]);
    while let Some((name, rest)) = entry(left) {
        names.push(name);
        left = rest;
    }
    Ok(by_names(&names))
}

fn by_names(names: &[&[u8]]) -> Content {
    let has = |end: &[u8]| names.iter().any(|name| name.ends_with(end));
    // TorchScript keeps its code and its constants beside the tensors, a checkpoint has tensors alone.
    if has(b"/constants.pkl") {
        Content::Model(Encoding::PyTorch)
    } else if has(b"/data.pkl") {
        Content::TorchCheckpoint
    } else if names.contains(&&b"model.weights.h5"[..]) && names.contains(&&b"config.json"[..]) {
        Content::Keras
    } else {
        Content::Zip
    }
}

/// The beginning of the archive's directory; nothing where the archive has no end.
fn directory(source: &mut (impl Read + Seek)) -> std::io::Result<Vec<u8>> {
    let length = source.seek(SeekFrom::End(0))?;
    let tail_length = length.min(LONGEST_COMMENT + END_RECORD as u64);
    let tail = part(source, length - tail_length, tail_length)?;
    let end = tail
        .windows(END_RECORD)
        .rposition(|record| record.starts_with(b"PK\x05\x06"));
    let Some(record) = end.map(|at| &tail[at..at + END_RECORD]) else {
        return Ok(Vec::new());
    };
    let (size, start) = (number32(record, 12), number32(record, 16));
    part(
        source,
        u64::from(start).min(length),
        u64::from(size).min(LARGEST_DIRECTORY),
    )
}

fn part(source: &mut (impl Read + Seek), start: u64, length: u64) -> std::io::Result<Vec<u8>> {
    source.seek(SeekFrom::Start(start))?;
    let mut bytes = Vec::new();
    source.take(length).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// The name of the first entry, and the entries after it.
fn entry(directory: &[u8]) -> Option<(&[u8], &[u8])> {
    let (head, rest) = directory.split_at_checked(ENTRY)?;
    if !head.starts_with(b"PK\x01\x02") {
        return None;
    }
    let length = |at: usize| usize::from(u16::from_le_bytes([head[at], head[at + 1]]));
    let (name, rest) = rest.split_at_checked(length(28))?;
    Some((name, rest.get(length(30) + length(32)..)?))
}

fn number32(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
pub(crate) mod tests {
    use super::*;
    use std::io::Cursor;

    /// An archive of empty files.
    pub(crate) fn zip(names: &[&str]) -> Vec<u8> {
        let mut bytes = b"PK\x03\x04".to_vec();
        let start = bytes.len() as u32;
        for name in names {
            let mut head = [0; ENTRY];
            head[..4].copy_from_slice(b"PK\x01\x02");
            head[28..30].copy_from_slice(&(name.len() as u16).to_le_bytes());
            bytes.extend(head);
            bytes.extend(name.as_bytes());
        }
        let mut end = [0; END_RECORD];
        end[..4].copy_from_slice(b"PK\x05\x06");
        end[12..16].copy_from_slice(&(bytes.len() as u32 - start).to_le_bytes());
        end[16..20].copy_from_slice(&start.to_le_bytes());
        bytes.extend(end);
        bytes
    }

    #[test]
    fn archives_are_told_apart() {
        let cases: [(&[&str], Content); 5] = [
            (
                &["m/data.pkl", "m/code/__torch__.py", "m/constants.pkl"],
                Content::Model(Encoding::PyTorch),
            ),
            (
                &["archive/data.pkl", "archive/data/0"],
                Content::TorchCheckpoint,
            ),
            (
                &["metadata.json", "config.json", "model.weights.h5"],
                Content::Keras,
            ),
            (&["tiny-1.0.dist-info/WHEEL", "config.json"], Content::Zip),
            (&[], Content::Zip),
        ];
        for (names, expected) in cases {
            assert_eq!(
                content(&mut Cursor::new(zip(names))).unwrap(),
                expected,
                "{names:?}"
            );
        }
    }

    #[test]
    fn broken_archives_are_archives() {
        let whole = zip(&["m/data.pkl", "m/constants.pkl"]);
        for length in 0..whole.len() {
            content(&mut Cursor::new(&whole[..length])).unwrap();
        }
        for at in 0..whole.len() {
            let mut broken = whole.clone();
            broken[at] ^= 0xff;
            content(&mut Cursor::new(broken)).unwrap();
        }
    }
}
