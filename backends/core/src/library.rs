//! The library of a native engine: where it may be, and whether its file is whole before the system's loader maps it.
//!
//! The loader believes a file's own description: where a part of it is cut off, the process is killed at the first
//! access to that part, with no message.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use crate::{Error, ErrorKind, Result};

/// A place where the library of a native engine may be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// The library: a file, or a bare name that the system's loader looks for.
    pub path: PathBuf,
    /// Who says so, for people: a variable's name, `installed`, `system`.
    pub origin: String,
    /// Whether this place was asked for, so that no later one may stand in for it.
    pub exclusive: bool,
}

/// All places where the library of a native engine may be.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Candidates {
    /// What would come first and names nothing, with what is to say of it: `--ort-lib (not given)`.
    pub absent: Vec<String>,
    /// The places, in the order in which they are tried.
    pub places: Vec<Candidate>,
}

impl Candidates {
    /// Everything that was looked at, in order, for an error.
    pub fn looked_for(&self) -> String {
        let places = self
            .places
            .iter()
            .map(|place| format!("`{}` ({})", place.path.display(), place.origin));
        let all: Vec<String> = self.absent.iter().cloned().chain(places).collect();
        match all.is_empty() {
            true => "nowhere".to_owned(),
            false => all.join(", "),
        }
    }
}

impl From<Vec<Candidate>> for Candidates {
    fn from(places: Vec<Candidate>) -> Candidates {
        let absent = Vec::new();
        Candidates { absent, places }
    }
}

/// Fails for a library that is cut short, and for one beside it whose file name begins as one of `companions` does.
/// What is no ELF file of 64 bits is left to the loader, which names it.
///
/// # Errors
/// `RuntimeError`, with the file and how many bytes are missing.
pub fn check_whole(library: &Path, companions: &[&str]) -> Result<()> {
    check(library)?;
    let Some(folder) = library.parent() else {
        return Ok(());
    };
    let Ok(entries) = folder.read_dir() else {
        return Ok(());
    };
    for path in entries.filter_map(|entry| Some(entry.ok()?.path())) {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        if companions.iter().any(|start| name.starts_with(start)) && name.contains(".so") {
            check(&path)?;
        }
    }
    Ok(())
}

fn check(path: &Path) -> Result<()> {
    let Some((needed, length)) = File::open(path).ok().and_then(|file| sizes(&file)) else {
        return Ok(());
    };
    if needed <= length {
        return Ok(());
    }
    let message = format!(
        "the library `{}` is cut short: expected at least {needed} bytes, got {length}",
        path.display()
    );
    Err(Error::new(ErrorKind::RuntimeError, message))
}

/// How long the file must be for what the loader maps of it, and how long it is.
fn sizes(file: &File) -> Option<(u64, u64)> {
    /// The segments that are mapped.
    const LOAD: u32 = 1;
    let length = file.metadata().ok()?.len();
    let mut header = [0; 64];
    file.read_exact_at(&mut header, 0).ok()?;
    // ELF, 64 bits, little-endian.
    if !header.starts_with(b"\x7fELF\x02\x01") {
        return None;
    }
    let number = |bytes: &[u8], at: usize, size: usize| {
        let bytes = bytes.get(at..at + size)?;
        Some(
            bytes
                .iter()
                .rev()
                .fold(0u64, |sum, byte| sum << 8 | u64::from(*byte)),
        )
    };
    let (table, size, count) = (
        number(&header, 32, 8)?,
        number(&header, 54, 2)?,
        number(&header, 56, 2)?,
    );
    let mut needed = table.saturating_add(size * count);
    for index in 0..count {
        let mut segment = [0; 56];
        let at = table.checked_add(size * index)?;
        if file.read_exact_at(&mut segment, at).is_err() {
            break;
        }
        if number(&segment, 0, 4)? as u32 == LOAD {
            let end = number(&segment, 8, 8)?.saturating_add(number(&segment, 32, 8)?);
            needed = needed.max(end);
        }
    }
    Some((needed, length))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_is_whole_and_its_beginning_is_not() {
        let program = std::env::current_exe().expect("this test");
        check_whole(&program, &[]).expect("it runs");
        let bytes = std::fs::read(&program).expect("readable");
        let folder = std::env::temp_dir().join(format!("infer-cut-{}", std::process::id()));
        std::fs::create_dir_all(&folder).expect("a folder");
        let (whole, cut) = (folder.join("whole.txt"), folder.join("libcut.so.1"));
        std::fs::write(&whole, "no library").expect("writes");
        for length in [64, 100, 5000] {
            std::fs::write(&cut, &bytes[..length]).expect("writes");
            let error = check_whole(&cut, &[]).expect_err("cut short");
            assert!(error.to_string().contains("is cut short"), "{error}");
            assert!(
                check_whole(&whole, &["libcut"]).is_err(),
                "the one beside it"
            );
            check_whole(&whole, &["libother"]).expect("nothing is said of others");
        }
        std::fs::remove_dir_all(&folder).expect("removes");
    }
}
