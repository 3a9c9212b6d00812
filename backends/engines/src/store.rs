//! The user's folder of engines: one flat folder per engine, named after it.

use std::fs;
use std::path::{Path, PathBuf};

use infer_core::{Error, ErrorKind, Result};
use infer_models::install::{file_error, hint_for_unknown, lock, remove_folder, user_folder};

use crate::install::{Installation, Origin, Progress};
use crate::manifest::{EngineManifest, RECORD, Record};
use crate::places::Places;
use crate::{Role, cuda};

/// The folder that engines are installed in.
#[derive(Clone, Debug)]
pub struct EngineStore {
    folder: PathBuf,
    pub(crate) python: PathBuf,
}

/// A known engine and whether it is there.
#[derive(Clone, Debug)]
pub struct EngineEntry {
    /// How it is brought.
    pub manifest: EngineManifest,
    /// Whether it is there.
    pub state: EngineState,
    /// How much is downloaded to install it here, in bytes.
    pub download_bytes: u64,
    /// Where it is, or would be.
    pub folder: PathBuf,
}

/// Whether an engine is there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EngineState {
    /// It is, in this version, which an earlier infer may have installed.
    Installed {
        /// The version.
        version: String,
    },
    /// Something lacks, or an installation was interrupted or is under way.
    Incomplete,
    /// It is not.
    Missing,
}

impl EngineStore {
    /// The user's store: `$INFER_HOME/engines`, else `$XDG_DATA_HOME/infer/engines`, else
    /// `~/.local/share/infer/engines`. Nothing needs to be there yet.
    ///
    /// # Errors
    /// `NotFound` where a relative folder is meant and the current one is gone.
    pub fn from_environment() -> Result<EngineStore> {
        Ok(EngineStore::at(user_folder()?.join("engines")))
    }

    /// A store in the given folder.
    pub fn at(folder: impl Into<PathBuf>) -> EngineStore {
        EngineStore {
            folder: folder.into(),
            python: PathBuf::from("python3"),
        }
    }

    /// The same store, filled by another Python than the `python3` in `PATH`.
    pub fn with_python(mut self, python: impl Into<PathBuf>) -> EngineStore {
        self.python = python.into();
        self
    }

    /// The folder of all engines.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// The known engines, by name. Files are looked for and measured, not read.
    ///
    /// # Errors
    /// `InvalidArgument` for a manifest that is wrong.
    pub fn list(&self) -> Result<Vec<EngineEntry>> {
        let known = EngineManifest::known()?;
        Ok(known
            .into_iter()
            .map(|manifest| self.entry(manifest))
            .collect())
    }

    /// Installs a known engine, or finds that it is there already, and gives its folder.
    ///
    /// Every file is checked against its digest; what is broken is replaced. Two at once, in one process
    /// or in several, do no harm: the second waits. Whatever stops it half way, the engine is there whole
    /// or not at all. CUDA's libraries are brought unless the system or a Python has them all.
    ///
    /// # Errors
    /// `NotFound` for an unknown name, a missing Python or pip, and wheels that were not given;
    /// `InvalidArgument` for a file that is not wanted; `InvalidEncoding` for a wheel with another digest;
    /// `UnsupportedOperation` on a machine without wheels; `RuntimeError` for what failed on the way.
    pub fn install(
        &self,
        name: &str,
        origin: &Origin,
        progress: &mut dyn FnMut(Progress<'_>),
    ) -> Result<PathBuf> {
        let manifest = known(name)?;
        let installation = Installation {
            store: self,
            cuda: cuda_elsewhere(&manifest),
            manifest: &manifest,
            origin,
        };
        installation.run(progress)
    }

    /// Removes an installed engine and what an interrupted installation left of it. A process that has
    /// loaded it keeps it until it ends.
    ///
    /// # Errors
    /// `NotFound` for an unknown name and for an engine that is not there, and those of the file system.
    pub fn remove(&self, name: &str) -> Result<()> {
        known(name)?;
        let (target, removed) = (self.folder.join(name), self.removed_path(name));
        let partial = self.partial_path(name);
        let there = [&target, &partial, &removed];
        if !there.iter().any(|path| path.symlink_metadata().is_ok()) {
            let message = format!("engine `{name}` is not installed");
            return Err(Error::new(ErrorKind::NotFound, message)
                .with_hint("run `infer engines list` to see what is"));
        }
        let _lock = lock(&self.lock_path(name), &mut || {})?;
        remove_folder(&removed)?;
        if target.symlink_metadata().is_ok() {
            // At once, so that nobody finds half of it.
            fs::rename(&target, &removed).map_err(|error| file_error("remove", &target, error))?;
        }
        remove_folder(&removed)?;
        remove_folder(&partial)
    }

    /// The library of an installed engine.
    pub(crate) fn library(&self, name: &str) -> Option<PathBuf> {
        let manifest = known(name).ok()?;
        let folder = self.folder.join(name);
        let library = folder.join(manifest.library);
        // The record is written last, so the engine is whole where there is one.
        (folder.join(RECORD).is_file() && library.exists()).then_some(library)
    }

    pub(crate) fn lock_path(&self, name: &str) -> PathBuf {
        self.folder.join(format!(".{name}.lock"))
    }

    pub(crate) fn partial_path(&self, name: &str) -> PathBuf {
        self.folder.join(format!(".{name}.partial"))
    }

    fn removed_path(&self, name: &str) -> PathBuf {
        self.folder.join(format!(".{name}.removed"))
    }

    fn entry(&self, manifest: EngineManifest) -> EngineEntry {
        let folder = self.folder.join(&manifest.name);
        let without_cuda = !cuda_elsewhere(&manifest).is_empty();
        let needed = manifest
            .packages
            .iter()
            .filter(|package| package.role == Role::Engine || !without_cuda);
        EngineEntry {
            state: self.state(&manifest.name),
            download_bytes: needed.map(|package| package.wheel.bytes).sum(),
            manifest,
            folder,
        }
    }

    fn state(&self, name: &str) -> EngineState {
        let folder = self.folder.join(name);
        match Record::read(&folder) {
            Ok(record) if is_there(&record, &folder) => EngineState::Installed {
                version: record.version,
            },
            Err(_) if !folder.exists() && !self.partial_path(name).exists() => EngineState::Missing,
            _ => EngineState::Incomplete,
        }
    }
}

/// Whether every file is there with its length, and every link leads to one.
fn is_there(record: &Record, folder: &Path) -> bool {
    let mut files = record.files.iter();
    let mut links = record.links.keys();
    files.all(|file| {
        let data = folder.join(&file.path).metadata();
        data.is_ok_and(|data| data.is_file() && data.len() == file.bytes)
    }) && links.all(|name| folder.join(name).is_file())
}

fn known(name: &str) -> Result<EngineManifest> {
    let known = EngineManifest::known()?;
    let names: Vec<String> = known.iter().map(|engine| engine.name.clone()).collect();
    let found = known.into_iter().find(|engine| engine.name == name);
    found.ok_or_else(|| {
        let message = format!("engine `{}`: no such engine", name.escape_debug());
        Error::new(ErrorKind::NotFound, message)
            .with_hint(hint_for_unknown(name, &names, "engines"))
    })
}

/// The folders outside of the store that hold all of CUDA's libraries, where the engine wants them.
fn cuda_elsewhere(manifest: &EngineManifest) -> Vec<PathBuf> {
    match manifest.wants_cuda() {
        true => cuda::usable_set(&Places::here()).unwrap_or_default(),
        false => Vec::new(),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;

    fn state(store: &EngineStore, name: &str) -> EngineState {
        let entries = store.list().unwrap();
        let entry = entries
            .into_iter()
            .find(|entry| entry.manifest.name == name);
        entry.unwrap().state
    }

    fn put(store: &EngineStore, record: &str) {
        let folder = store.folder().join("openvino");
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join(RECORD), record).unwrap();
    }

    const RECORDED: &str = "name = \"openvino\"\nversion = \"2025.1\"\nwheels = []\n[links]\n\
        \"libopenvino_c.so\" = \"libx.so\"\n[[files]]\npath = \"libx.so\"\nbytes = 3\nsha256 = \"\"\n";

    #[test]
    fn states() {
        let folder = tempfile::tempdir().unwrap();
        let store = EngineStore::at(folder.path());
        assert_eq!(state(&store, "openvino"), EngineState::Missing);
        fs::create_dir(store.partial_path("openvino")).unwrap();
        assert_eq!(state(&store, "openvino"), EngineState::Incomplete);
        put(&store, RECORDED);
        assert_eq!(state(&store, "openvino"), EngineState::Incomplete);
        let library = store.folder().join("openvino/libx.so");
        fs::write(&library, "abc").unwrap();
        assert_eq!(state(&store, "openvino"), EngineState::Incomplete);
        assert_eq!(store.library("openvino"), None);
        let link = store.folder().join("openvino/libopenvino_c.so");
        std::os::unix::fs::symlink("libx.so", &link).unwrap();
        let version = "2025.1".to_owned();
        assert_eq!(
            state(&store, "openvino"),
            EngineState::Installed { version }
        );
        assert_eq!(store.library("openvino"), Some(link));
        fs::write(&library, "ab").unwrap();
        assert_eq!(state(&store, "openvino"), EngineState::Incomplete);
        put(&store, &RECORDED.replace("libx.so", "../libx.so"));
        assert_eq!(state(&store, "openvino"), EngineState::Incomplete);
    }

    #[test]
    fn removal() {
        let folder = tempfile::tempdir().unwrap();
        let store = EngineStore::at(folder.path().join("engines"));
        let error = store.remove("openvino").unwrap_err();
        assert_eq!(error.to_string(), "engine `openvino` is not installed");
        assert!(!store.folder().exists(), "asking makes nothing");
        let error = store.remove("../engines").unwrap_err();
        assert_eq!(error.to_string(), "engine `../engines`: no such engine");
        let error = store.remove("opnvino").unwrap_err();
        assert_eq!(error.hint(), Some("did you mean `openvino`?"));
        put(&store, RECORDED);
        fs::create_dir(store.partial_path("openvino")).unwrap();
        fs::create_dir(store.removed_path("openvino")).unwrap();
        store.remove("openvino").unwrap();
        assert_eq!(
            crate::places::entries(store.folder()),
            [store.lock_path("openvino")]
        );
        assert!(store.remove("openvino").is_err());
    }
}
