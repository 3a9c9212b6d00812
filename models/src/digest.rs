//! SHA-256 of files and folders, read in pieces, and the error for one that has another than expected.

use std::io::Read;
use std::path::{Path, PathBuf};

use infer_core::{Error, ErrorKind, Result};
use sha2::{Digest, Sha256};

use crate::{file_error, open_file};

const PIECE: usize = 256 * 1024;
const MOST_FILES: usize = 100_000;

/// The SHA-256 of a file in lower-case hexadecimal.
///
/// # Errors
/// Those of the file system.
pub fn sha256(path: &Path) -> Result<String> {
    sha256_of(open_file(path)?, path)
}

/// The same of a file that is open at its beginning.
pub(crate) fn sha256_of(mut file: impl Read, path: &Path) -> Result<String> {
    let (mut hasher, mut piece) = (Sha256::new(), vec![0; PIECE]);
    loop {
        let count = file
            .read(&mut piece)
            .map_err(|error| file_error("read", path, error))?;
        if count == 0 {
            return Ok(hexadecimal(hasher));
        }
        hasher.update(&piece[..count]);
    }
}

/// The files below a folder, those of folders in it too, sorted by their path's bytes.
///
/// # Errors
/// `TooLarge` for more than a model has; those of the file system.
pub(crate) fn files_below(folder: &Path) -> Result<Vec<PathBuf>> {
    let (mut folders, mut files) = (vec![folder.to_owned()], Vec::new());
    while let Some(folder) = folders.pop() {
        let read = |error| file_error("read", &folder, error);
        for entry in folder.read_dir().map_err(read)? {
            let entry = entry.map_err(read)?;
            // A link to a folder is not followed: it could lead round in a circle.
            match entry.file_type().map_err(read)?.is_dir() {
                true => folders.push(entry.path()),
                false => files.push(entry.path()),
            }
        }
        if files.len() + folders.len() > MOST_FILES {
            let message = format!(
                "`{}`: expected at most {MOST_FILES} files",
                folder.display()
            );
            return Err(Error::new(ErrorKind::TooLarge, message));
        }
    }
    files.sort_by(|a, b| {
        a.as_os_str()
            .as_encoded_bytes()
            .cmp(b.as_os_str().as_encoded_bytes())
    });
    Ok(files)
}

/// The SHA-256 of a list of a folder's files, each line the file's digest, two blanks and its path below
/// the folder: in the folder, `find * -type f | LC_ALL=C sort | xargs sha256sum | sha256sum`.
fn folder_sha256(folder: &Path) -> Result<String> {
    let mut hasher = Sha256::new();
    for file in files_below(folder)? {
        let path = file.strip_prefix(folder).unwrap_or(&file);
        hasher.update(format!("{}  ", sha256(&file)?));
        hasher.update(path.as_os_str().as_encoded_bytes());
        hasher.update("\n");
    }
    Ok(hexadecimal(hasher))
}

fn hexadecimal(hasher: Sha256) -> String {
    hasher
        .finalize()
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

/// The SHA-256 of a file, or of the list of a folder's files.
///
/// # Errors
/// As for [`sha256`] and [`files_below`].
pub(crate) fn of_path(path: &Path) -> Result<String> {
    match path.is_dir() {
        true => folder_sha256(path),
        false => sha256(path),
    }
}

/// The SHA-256 of these lines.
pub(crate) fn of_lines(lines: &[String]) -> String {
    let mut hasher = Sha256::new();
    for line in lines {
        hasher.update(line);
        hasher.update("\n");
    }
    hexadecimal(hasher)
}

/// Fails with both digests where the file or folder has another; `hint` is the remedy.
///
/// # Errors
/// `InvalidEncoding` for another digest, and those of the file system.
pub fn check(path: &Path, expected: &str, hint: &str) -> Result<()> {
    compare((path, &of_path(path)?), expected, hint)
}

/// Fails for a path whose digest is not the expected one.
pub(crate) fn compare((path, got): (&Path, &str), expected: &str, hint: &str) -> Result<()> {
    if got.eq_ignore_ascii_case(expected) {
        return Ok(());
    }
    let message = format!(
        "`{}`: expected sha256 {expected}, got {got}",
        path.display()
    );
    Err(Error::new(ErrorKind::InvalidEncoding, message).with_hint(hint))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn a_folder_has_the_digest_of_its_list() {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("b")).unwrap();
        fs::write(folder.path().join("b/x"), "1").unwrap();
        fs::write(folder.path().join("b.y"), "2").unwrap();
        fs::write(folder.path().join("a"), "").unwrap();
        let lines = [("", "a"), ("2", "b.y"), ("1", "b/x")].map(|(content, path)| {
            let digest = hexadecimal(Sha256::new_with_prefix(content));
            format!("{digest}  {path}\n")
        });
        let expected = hexadecimal(Sha256::new_with_prefix(lines.concat()));
        check(folder.path(), &expected, "").unwrap();
        fs::write(folder.path().join("b/z"), "").unwrap();
        let error = check(folder.path(), &expected, "get it").unwrap_err();
        assert_eq!(error.hint(), Some("get it"));
    }
}
