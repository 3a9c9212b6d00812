//! Folders of this user's that nobody else can write.

use std::fs::DirBuilder;
use std::os::fd::OwnedFd;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use infer_core::{Error, ErrorKind, Result};
use rustix::fs::{Mode, OFlags, Stat};

/// The user's folder of what can be made anew: `$INFER_HOME/cache`, else `$XDG_CACHE_HOME/infer`, else `~/.cache/infer`;
/// `None` where no variable says where that is.
pub fn user_cache() -> Option<PathBuf> {
    let path = |name: &str| {
        std::env::var_os(name)
            .filter(|value| !value.is_empty())
            .map(PathBuf::from)
    };
    let home = path("INFER_HOME").map(|home| home.join("cache"));
    home.or_else(|| {
        let cache = path("XDG_CACHE_HOME").filter(|path| path.is_absolute());
        cache.map(|cache| cache.join("infer"))
    })
    .or_else(|| std::env::home_dir().map(|home| home.join(".cache/infer")))
}

/// Opens such a folder, and makes it if there is none.
///
/// # Errors
/// `Security` for a folder that is a link, another user's, or for others to write; those of the file system.
pub fn open_private_folder(path: &Path) -> Result<OwnedFd> {
    let failed = |error: std::io::Error| {
        let message = format!("cannot use the folder `{}`", path.display());
        Error::new(ErrorKind::RuntimeError, message).with_source(error)
    };
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let open = || rustix::fs::open(path, flags, Mode::empty());
    let folder = match open() {
        Err(rustix::io::Errno::NOENT) => {
            let mut builder = DirBuilder::new();
            builder
                .recursive(true)
                .mode(0o700)
                .create(path)
                .map_err(failed)?;
            open()
        }
        opened => opened,
    };
    let folder = match folder {
        Ok(folder) => folder,
        Err(rustix::io::Errno::NOTDIR | rustix::io::Errno::LOOP) => {
            return Err(not_private(path, "a link or a file"));
        }
        Err(error) => return Err(failed(error.into())),
    };
    let data = rustix::fs::fstat(&folder).map_err(|error| failed(error.into()))?;
    if !is_private(&data) {
        let got = format!("mode {:o} of user {}", data.st_mode & 0o7777, data.st_uid);
        return Err(not_private(path, &got));
    }
    Ok(folder)
}

/// Whether a file or folder is this user's, and nobody else can write it.
pub fn is_private(data: &Stat) -> bool {
    data.st_uid == rustix::process::geteuid().as_raw() && is_closed(data)
}

/// Whether nobody but this user and root can write a file.
pub(crate) fn is_users_or_roots(data: &Stat) -> bool {
    is_private(data) || data.st_uid == 0 && is_closed(data)
}

/// Whether nobody but its owner can write it.
fn is_closed(data: &Stat) -> bool {
    data.st_mode & 0o022 == 0
}

fn not_private(path: &Path, got: &str) -> Error {
    let message = format!(
        "expected `{}` to be a folder of this user that nobody else can write, got {got}",
        path.display()
    );
    Error::new(ErrorKind::Security, message)
}
