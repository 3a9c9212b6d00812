//! Compiled guests, kept for the next start in a private folder of this user's.
//!
//! A file is named by its key: the digest of the guest's bytes and of all that its code depends on (versions,
//! settings, processor). It holds the native code and, behind that, its digest. Native code has all rights of this
//! process, so only what nobody else could have written is used: folder and file are this user's, nobody else can
//! write them, no link is followed below the folder, and the code has the digest that was written with it.
//! A file is written whole under another name and renamed; it is never changed or cut afterwards, so that it can be
//! mapped.

use std::ffi::CStr;
use std::fs::File;
use std::hash::{Hash, Hasher};
use std::io::{Read, Seek, Write};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use infer_core::Result;
use infer_models::install::{is_private, open_private_folder, user_cache};
use rustix::fs::{
    AtFlags, Dir, FileType, Mode, OFlags, Timespec, Timestamps, UTIME_NOW, UTIME_OMIT,
};
use sha2::{Digest, Sha256};

use crate::engine::Engine;

/// All files of a cache together, in bytes; past this the ones that were not used for longest go.
const LARGEST: u64 = 512 << 20;

/// Marks the end of a file, and the form that it has.
const MAGIC: &[u8; 8] = b"inferwc1";

/// What follows the code: its digest, and the mark.
const TRAILER: usize = DIGEST + MAGIC.len();
const DIGEST: usize = 32;

/// How much is read in one go, in bytes: it stays in the processor's own cache.
const PIECE: usize = 64 << 10;

/// How often a file's time of use is written at most, in seconds.
const USED: i64 = 24 * 60 * 60;

/// After this a file that was begun and not finished belongs to nobody, in seconds.
const LEFT_OVER: i64 = 60 * 60;

/// A folder of compiled guests.
#[derive(Debug)]
pub struct GuestCache {
    folder: OwnedFd,
    largest: u64,
}

/// What a compiled guest's code depends on, as a digest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Key([u8; DIGEST]);

impl Key {
    /// The key of a guest's bytes on this engine.
    pub(crate) fn of(engine: &Engine, bytes: &[u8]) -> Key {
        let mut hasher = Sha256Hasher(Sha256::new());
        // Both versions, the compiler's settings and the processor's features.
        env!("CARGO_PKG_VERSION").hash(&mut hasher);
        engine
            .wasmtime()
            .precompile_compatibility_hash()
            .hash(&mut hasher);
        let mut hasher = hasher.0;
        hasher.update(bytes);
        Key(hasher.finalize().into())
    }

    fn file_name(&self) -> String {
        self.0.iter().map(|byte| format!("{byte:02x}")).collect()
    }
}

/// Lets `Hash` write into a digest.
struct Sha256Hasher(Sha256);

impl Hasher for Sha256Hasher {
    fn write(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    /// Asked for by nobody: the digest is taken instead.
    fn finish(&self) -> u64 {
        0
    }
}

impl GuestCache {
    /// The user's folder: `$INFER_HOME/cache/guests`, else `$XDG_CACHE_HOME/infer/guests`, else
    /// `~/.cache/infer/guests`; `None` where no variable says where that is.
    pub fn user_folder() -> Option<PathBuf> {
        user_cache().map(|own| own.join("guests"))
    }

    /// Opens a cache, and makes its folder if there is none.
    ///
    /// # Errors
    /// `Security` for a folder that is a link, another user's, or for others to write; those of the file system.
    pub fn open(path: &Path) -> Result<GuestCache> {
        let folder = open_private_folder(path)?;
        Ok(GuestCache {
            folder,
            largest: LARGEST,
        })
    }

    /// The same cache, with at most so many bytes in all of its files.
    pub fn with_largest(mut self, bytes: u64) -> GuestCache {
        self.largest = bytes;
        self
    }

    /// The compiled guest of this key, checked; `None` where there is none that can be used.
    pub(crate) fn find(&self, key: &Key) -> Option<File> {
        let name = key.file_name();
        // A pipe that somebody put there would block, which `NONBLOCK` prevents.
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let file = match rustix::fs::openat(&self.folder, name.as_str(), flags, Mode::empty()) {
            Ok(file) => File::from(file),
            Err(rustix::io::Errno::NOENT) => return None,
            Err(error) => {
                tracing::info!("the compiled guest `{name}` cannot be opened: {error}");
                return None;
            }
        };
        match self.check(&file, key) {
            Ok(()) => Some(file),
            Err(reason) => {
                tracing::info!("the compiled guest `{name}` is not used: {reason}");
                None
            }
        }
    }

    /// Keeps a compiled guest under its key, in place of what was there, and gives its file.
    pub(crate) fn keep(&self, key: &Key, code: &[u8]) -> std::io::Result<File> {
        let name = key.file_name();
        let temporary = temporary_name();
        let flags =
            OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let mode = Mode::RUSR | Mode::WUSR;
        let file = rustix::fs::openat(&self.folder, temporary.as_str(), flags, mode)?;
        let written = write(File::from(file), key, code).and_then(|()| {
            Ok(rustix::fs::renameat(
                &self.folder,
                &temporary,
                &self.folder,
                &name,
            )?)
        });
        if let Err(error) = written {
            // What went wrong first is what counts.
            let _ = rustix::fs::unlinkat(&self.folder, &temporary, AtFlags::empty());
            return Err(error);
        }
        self.evict(&name);
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        Ok(rustix::fs::openat(&self.folder, name.as_str(), flags, Mode::empty())?.into())
    }

    fn check(&self, file: &File, key: &Key) -> std::result::Result<(), String> {
        let io = |error: std::io::Error| error.to_string();
        let data = rustix::fs::fstat(file).map_err(|error| error.to_string())?;
        let is_file = FileType::from_raw_mode(data.st_mode) == FileType::RegularFile;
        if !is_file || !is_private(&data) {
            return Err("it is no file of this user that nobody else can write".to_owned());
        }
        let code = usize::try_from(data.st_size)
            .ok()
            .and_then(|size| size.checked_sub(TRAILER));
        let code = code.ok_or("it is cut off")?;
        let mut file = file;
        let digest = digest(file, key, code).map_err(io)?;
        let mut trailer = [0; TRAILER];
        file.read_exact(&mut trailer).map_err(io)?;
        file.rewind().map_err(io)?;
        if trailer[DIGEST..] != *MAGIC || trailer[..DIGEST] != digest {
            return Err("its content is not what was written".to_owned());
        }
        let now = seconds(SystemTime::now());
        if now.saturating_sub(data.st_mtime) > USED {
            // Only for the choice of what goes first.
            let _ = rustix::fs::futimens(file, &used_now());
        }
        Ok(())
    }

    /// Removes what was not used for longest until the rest fits; `kept` stays.
    fn evict(&self, kept: &str) {
        let now = seconds(SystemTime::now());
        let mut files = self.files();
        files.retain(|file| {
            let left_over = file.name.starts_with('.') && now.saturating_sub(file.used) > LEFT_OVER;
            if left_over {
                self.remove(file);
            }
            !left_over
        });
        files.sort_by_key(|file| file.used);
        let mut total: u64 = files.iter().map(|file| file.size).sum();
        for file in files.iter().filter(|file| file.name != kept) {
            if total <= self.largest {
                return;
            }
            self.remove(file);
            total -= file.size;
        }
    }

    fn files(&self) -> Vec<Kept> {
        let Ok(entries) = Dir::read_from(&self.folder) else {
            return Vec::new();
        };
        let kept = |name: &CStr| {
            let data = rustix::fs::statat(&self.folder, name, AtFlags::SYMLINK_NOFOLLOW).ok()?;
            let is_file = FileType::from_raw_mode(data.st_mode) == FileType::RegularFile;
            is_file.then_some(Kept {
                name: name.to_str().ok()?.to_owned(),
                size: u64::try_from(data.st_size).unwrap_or(0),
                used: data.st_mtime,
            })
        };
        entries
            .filter_map(|entry| kept(entry.ok()?.file_name()))
            .collect()
    }

    fn remove(&self, file: &Kept) {
        // Another process may have been faster.
        let _ = rustix::fs::unlinkat(&self.folder, &file.name, AtFlags::empty());
    }
}

/// A file of the cache.
struct Kept {
    name: String,
    size: u64,
    used: i64,
}

/// A name that no other process and no other thread of this one uses.
fn temporary_name() -> String {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let next = NEXT.fetch_add(1, Ordering::Relaxed);
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    format!(".{}-{next}-{}", std::process::id(), now.as_nanos())
}

fn write(mut file: File, key: &Key, code: &[u8]) -> std::io::Result<()> {
    let digest = digest(code, key, code.len())?;
    file.write_all(code)?;
    file.write_all(&digest)?;
    file.write_all(MAGIC)
}

/// The digest of a key and of so many bytes.
fn digest(mut code: impl Read, key: &Key, length: usize) -> std::io::Result<[u8; DIGEST]> {
    let (mut hasher, mut piece) = (Sha256::new(), vec![0; PIECE]);
    hasher.update(key.0);
    let mut left = length;
    while left > 0 {
        let piece = &mut piece[..left.min(PIECE)];
        code.read_exact(piece)?;
        hasher.update(&*piece);
        left -= piece.len();
    }
    Ok(hasher.finalize().into())
}

fn used_now() -> Timestamps {
    let time = |nanoseconds| Timespec {
        tv_sec: 0,
        tv_nsec: nanoseconds,
    };
    Timestamps {
        last_access: time(UTIME_OMIT),
        last_modification: time(UTIME_NOW),
    }
}

fn seconds(time: SystemTime) -> i64 {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
    i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
}
