//! What everything that is installed has in common: the user's folder, a lock, private folders that are
//! moved into place at once, digests, and the name that a person probably meant.

use std::env;
use std::fs::{self, File, TryLockError};
use std::path::{Path, PathBuf};

use infer_core::{Error, ErrorKind, Result};

pub use crate::digest::{check as check_digest, sha256};
pub use crate::manifest::check_path;
pub use crate::private::{is_private, open_private_folder, user_cache};

// What is shorter than this, in bytes, is not taken for the beginning of a name.
const SHORTEST_BEGINNING: usize = 3;

/// Where the system keeps what users without a home have.
const SYSTEMS: &str = "/var/lib/infer";

/// The user's folder for what infer installs: `$INFER_HOME`, else `$XDG_DATA_HOME/infer`, else
/// `~/.local/share/infer`, and `/var/lib/infer` for who has no home. It is absolute and need not be there yet.
///
/// # Errors
/// `NotFound` where a relative one is meant and the current folder is gone.
pub fn user_folder() -> Result<PathBuf> {
    let path = |name: &str| {
        env::var_os(name)
            .filter(|value| !value.is_empty())
            .map(PathBuf::from)
    };
    let home = path("INFER_HOME")
        .or_else(|| {
            path("XDG_DATA_HOME")
                .filter(|path| path.is_absolute())
                .map(|path| path.join("infer"))
        })
        .or_else(|| env::home_dir().map(|path| path.join(".local/share/infer")));
    // A user that has no home, as in containers, may still have what the system has.
    let home = home.unwrap_or_else(|| SYSTEMS.into());
    // Absolute, since programs that fill it run in folders of their own.
    std::path::absolute(&home).map_err(|error| file_error("find", &home, error))
}

/// Waits for the lock in this file, which the operating system takes back however the process ends;
/// dropping the file gives it back. `waiting` is called once where another has it.
///
/// # Errors
/// Those of the file system.
pub fn lock(path: &Path, waiting: &mut dyn FnMut()) -> Result<File> {
    let file = File::create(path).map_err(|error| file_error("create", path, error))?;
    let locked = match file.try_lock() {
        Ok(()) => Ok(()),
        Err(TryLockError::WouldBlock) => {
            waiting();
            file.lock()
        }
        Err(TryLockError::Error(error)) => Err(error),
    };
    locked.map_err(|error| file_error("lock", path, error))?;
    Ok(file)
}

/// Moves the new folder into place, and the old one, if any, out of the way to `replaced`.
///
/// # Errors
/// Those of the file system.
pub fn replace(made: &Path, target: &Path, replaced: &Path) -> Result<()> {
    if target.symlink_metadata().is_ok() {
        fs::rename(target, replaced).map_err(|error| file_error("replace", target, error))?;
    }
    fs::rename(made, target).map_err(|error| file_error("create", target, error))
}

/// Makes a folder and those above it; one that is there is fine.
///
/// # Errors
/// Those of the file system.
pub fn create_folder(path: &Path) -> Result<()> {
    fs::create_dir_all(path).map_err(|error| file_error("create", path, error))
}

/// Removes a folder and what is in it; one that is not there is fine.
///
/// # Errors
/// Those of the file system.
pub fn remove_folder(path: &Path) -> Result<()> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(file_error("remove", path, error))
        }
        _ => Ok(()),
    }
}

/// An error of the file system, with the path and what was tried.
pub fn file_error(action: &str, path: &Path, error: std::io::Error) -> Error {
    let kind = match error.kind() {
        std::io::ErrorKind::NotFound => ErrorKind::NotFound,
        _ => ErrorKind::RuntimeError,
    };
    Error::new(kind, format!("cannot {action} `{}`", path.display())).with_source(error)
}

/// The hint for a name that is not known: the one that is nearly the same, else all (`what` are they).
pub fn hint_for_unknown(name: &str, names: &[String], what: &str) -> String {
    let near = names.iter().min_by_key(|other| distance(name, other));
    let long_enough = name.len() >= SHORTEST_BEGINNING;
    let begun = || {
        names
            .iter()
            .find(|other| long_enough && other.starts_with(name))
    };
    match near
        .filter(|other| distance(name, other) <= 1 + other.len() / 4)
        .or_else(begun)
    {
        Some(other) => format!("did you mean `{other}`?"),
        None => format!("known {what}: {}", names.join(", ")),
    }
}

/// How many letters must be added, removed or replaced to come from one name to the other.
fn distance(from: &str, to: &str) -> usize {
    let to: Vec<char> = to.chars().collect();
    let mut row: Vec<usize> = (0..=to.len()).collect();
    for (i, letter) in from.chars().take(2 * to.len() + 8).enumerate() {
        let mut diagonal = std::mem::replace(&mut row[0], i + 1);
        for (j, other) in to.iter().enumerate() {
            let replaced = diagonal + usize::from(letter != *other);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(row[j] + 1).min(row[j + 1] + 1);
        }
    }
    row[to.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distances() {
        for (from, to, expected) in [
            ("", "", 0),
            ("a", "", 1),
            ("magica", "magika", 1),
            ("abc", "bcd", 2),
        ] {
            assert_eq!(distance(from, to), expected, "{from} {to}");
        }
    }
}
