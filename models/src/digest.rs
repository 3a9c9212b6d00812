//! SHA-256 of files, read in pieces, and the error for a file that has another than expected.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use infer_core::{Error, ErrorKind, Result};
use sha2::{Digest, Sha256};

use crate::file_error;

const PIECE: usize = 256 * 1024;

/// The SHA-256 of a file in lower-case hexadecimal.
///
/// # Errors
/// Those of the file system.
pub fn sha256(path: &Path) -> Result<String> {
    let mut file = File::open(path).map_err(|error| file_error("open", path, error))?;
    let (mut hasher, mut piece) = (Sha256::new(), vec![0; PIECE]);
    loop {
        let count = file
            .read(&mut piece)
            .map_err(|error| file_error("read", path, error))?;
        if count == 0 {
            return Ok(hasher
                .finalize()
                .iter()
                .map(|byte| format!("{byte:02x}"))
                .collect());
        }
        hasher.update(&piece[..count]);
    }
}

/// Fails with both digests where the file has another; `hint` is the remedy.
///
/// # Errors
/// `InvalidEncoding` for another digest, and those of the file system.
pub fn check(path: &Path, expected: &str, hint: &str) -> Result<()> {
    let got = sha256(path)?;
    if got.eq_ignore_ascii_case(expected) {
        return Ok(());
    }
    let message = format!(
        "`{}`: expected sha256 {expected}, got {got}",
        path.display()
    );
    Err(Error::new(ErrorKind::InvalidEncoding, message).with_hint(hint))
}
