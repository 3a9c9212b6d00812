//! Files that had the digest that was expected of them: reading a large model whole at every start would take longer than
//! what the engine does.
//!
//! A file that was checked leaves a stamp, an empty file in a private folder of this user's. Its name is a digest of the
//! expected digest and of what the file system says of the file: which it is, how long it is, and when it was changed
//! last. Whoever may write a file may write it without a trace (through memory that is mapped), so only files that nobody
//! but this user or root can write leave stamps.

use std::fs::File;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use infer_core::Result;
use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags};

use crate::private::{is_users_or_roots, open_private_folder, user_cache};
use crate::{digest, open_file};

/// How long ago a file must have been changed to leave a stamp: another change within what a file system's clock
/// distinguishes would not be seen. In seconds.
const SETTLED: i128 = 2;

/// With more stamps than this all are let go of: what is still used leaves one again.
const MOST: usize = 4096;

/// A folder of stamps.
#[derive(Debug)]
pub(crate) struct Checked(Option<OwnedFd>);

/// What a file is now, and the digest that is expected of it.
#[derive(PartialEq, Eq)]
struct Stamp {
    name: String,
    /// In seconds since 1970.
    changed: i128,
}

impl Stamp {
    /// None for what is no file, since a folder's own times say nothing of the files in it, and for what others can write.
    fn of(file: &File, expected: &str) -> Option<Stamp> {
        let data = rustix::fs::fstat(file).ok()?;
        let is_file = FileType::from_raw_mode(data.st_mode) == FileType::RegularFile;
        if !is_file || !is_users_or_roots(&data) {
            return None;
        }
        let numbers = [
            i128::from(data.st_dev),
            data.st_ino.into(),
            data.st_size.into(),
            data.st_mtime.into(),
            data.st_mtime_nsec.into(),
            data.st_ctime.into(),
            data.st_ctime_nsec.into(),
        ];
        let facts = numbers.iter().map(i128::to_string);
        let facts: Vec<String> = std::iter::once(expected.to_owned()).chain(facts).collect();
        Some(Stamp {
            name: digest::of_lines(&facts),
            changed: data.st_ctime.into(),
        })
    }

    /// Whether another change would be seen.
    fn is_settled(&self) -> bool {
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        let seconds = now.map_or(0, |now| now.as_secs().into());
        self.changed + SETTLED < seconds
    }
}

impl Checked {
    /// The user's own, `checked` in [`user_cache`]; without one that can be used every file is read.
    pub(crate) fn of_user() -> Checked {
        let folder = user_cache().map(|cache| cache.join("checked"));
        Checked::at(folder.as_deref())
    }

    fn at(folder: Option<&Path>) -> Checked {
        Checked(folder.and_then(|folder| open_private_folder(folder).ok()))
    }

    /// Fails as [`digest::check`] does, and reads the file only where it is not known to have this digest.
    pub(crate) fn check(&self, path: &Path, expected: &str, hint: &str) -> Result<()> {
        if self.0.is_none() || path.is_dir() {
            return digest::check(path, expected, hint);
        }
        let file = open_file(path)?;
        let before = Stamp::of(&file, expected);
        if before.as_ref().is_some_and(|stamp| self.has(stamp)) {
            return Ok(());
        }
        // What is settled before it is read cannot change while it is without another time.
        let before = before.filter(Stamp::is_settled);
        digest::compare((path, &digest::sha256_of(&file, path)?), expected, hint)?;
        if let Some(stamp) =
            before.filter(|stamp| Stamp::of(&file, expected).as_ref() == Some(stamp))
        {
            self.leave(&stamp);
        }
        Ok(())
    }

    fn has(&self, stamp: &Stamp) -> bool {
        let nofollow = AtFlags::SYMLINK_NOFOLLOW;
        self.0
            .as_ref()
            .is_some_and(|folder| rustix::fs::statat(folder, &stamp.name, nofollow).is_ok())
    }

    /// Where that cannot be done, the file is read again next time.
    fn leave(&self, stamp: &Stamp) {
        let Some(folder) = &self.0 else {
            return;
        };
        let names: Vec<_> = Dir::read_from(folder)
            .into_iter()
            .flatten()
            .filter_map(|entry| Some(entry.ok()?.file_name().to_owned()))
            .collect();
        if names.len() > MOST {
            for name in names {
                let _ = rustix::fs::unlinkat(folder, name, AtFlags::empty());
            }
        }
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let _ = rustix::fs::openat(folder, &stamp.name, flags, Mode::RUSR | Mode::WUSR);
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;
    use std::fs;
    use std::time::Duration;

    #[test]
    fn a_file_is_read_again_when_it_was_changed_and_only_then() {
        let folder = tempfile::tempdir().unwrap();
        let (model, stamps) = (folder.path().join("m"), folder.path().join("checked"));
        let checked = Checked::at(Some(&stamps));
        let count = || fs::read_dir(&stamps).unwrap().count();
        fs::write(&model, "1").unwrap();
        let expected = digest::sha256(&model).unwrap();
        checked.check(&model, &expected, "").unwrap();
        assert_eq!(count(), 0, "it may still change without a trace");
        let stamp = |digest: &str| Stamp::of(&File::open(&model).unwrap(), digest);
        while !stamp(&expected).unwrap().is_settled() {
            std::thread::sleep(Duration::from_millis(100));
        }
        checked.check(&model, &expected, "").unwrap();
        assert_eq!(count(), 1);
        // What is not read cannot be found to be wrong: a stamp of another digest, made by hand, is believed.
        let other = "0".repeat(64);
        checked.check(&model, &other, "").unwrap_err();
        checked.leave(&stamp(&other).unwrap());
        checked.check(&model, &other, "").unwrap();
        // The same length, and the times that it had.
        let times = fs::metadata(&model).unwrap();
        let file = fs::OpenOptions::new().write(true).open(&model).unwrap();
        fs::write(&model, "2").unwrap();
        file.set_modified(times.modified().unwrap()).unwrap();
        for wrong in [&expected, &other] {
            checked.check(&model, wrong, "").unwrap_err();
        }
        rustix::fs::chmod(&model, Mode::from_raw_mode(0o664)).unwrap();
        assert!(
            stamp(&expected).is_none(),
            "others may write it without a trace"
        );
    }

    #[test]
    fn stamps_do_not_pile_up_and_a_folder_for_others_to_write_has_none() {
        let folder = tempfile::tempdir().unwrap();
        let stamps = folder.path().join("checked");
        let checked = Checked::at(Some(&stamps));
        let stamp = |name: usize| Stamp {
            name: name.to_string(),
            changed: 0,
        };
        for number in 0..=MOST {
            fs::write(stamps.join(number.to_string()), "").unwrap();
        }
        checked.leave(&stamp(MOST + 1));
        assert!(fs::read_dir(&stamps).unwrap().count() < MOST);
        assert!(checked.has(&stamp(MOST + 1)) && !checked.has(&stamp(0)));
        rustix::fs::chmod(&stamps, Mode::from_raw_mode(0o777)).unwrap();
        assert!(Checked::at(Some(&stamps)).0.is_none());
    }
}
