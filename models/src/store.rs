//! The folder of installed models, and the known models that it can be filled with.
//!
//! One folder per model, named after it, with a `model.toml`. The known models' manifests are built in
//! (`models/known`); [`ModelStore::get`] installs one. A folder that a person put there works as well.

use std::path::{Path, PathBuf};

use infer_core::{Error, ErrorKind, Result};

use crate::found::looks_like_path;
use crate::install::{hint_for_unknown, user_folder};
use crate::manifest::invalid;
use crate::{Manifest, Progress, check_name, fetch};

/// The name and text of a manifest in `models/known`.
macro_rules! manifest {
    ($name:literal) => {
        (
            $name,
            include_str!(concat!("../known/", $name, "/model.toml")),
        )
    };
}

/// The manifests that are built in, by name.
const KNOWN: [(&str, &str); 19] = [
    manifest!("all-minilm-l6-v2"),
    manifest!("basic-pitch"),
    manifest!("basic-pitch-saved-model"),
    manifest!("basic-pitch-tflite"),
    manifest!("efficientnet-lite0"),
    manifest!("efficientnet-lite0-ir"),
    manifest!("efficientnet-lite0-tf"),
    manifest!("efficientnet-lite0-tflite"),
    manifest!("magika"),
    manifest!("magika-dynamic"),
    manifest!("opennsfw"),
    manifest!("opennsfw-dynamic"),
    manifest!("pp-ocrv4-cls"),
    manifest!("pp-ocrv4-det"),
    manifest!("pp-ocrv4-rec"),
    manifest!("resnet50-imgsim"),
    manifest!("silero-vad"),
    manifest!("silero-vad-rate"),
    manifest!("silero-vad-sequence"),
];

/// The folder that models are installed in.
#[derive(Clone, Debug)]
pub struct ModelStore {
    folder: PathBuf,
    pub(crate) python: PathBuf,
}

/// A known or installed model.
#[derive(Clone, Debug)]
pub struct ModelEntry {
    /// Its name.
    pub name: String,
    /// What its manifest says.
    pub manifest: Manifest,
    /// Whether it can be fetched by name.
    pub known: bool,
    /// Whether it is there.
    pub installed: bool,
    /// Where it is, or would be.
    pub folder: PathBuf,
}

impl ModelEntry {
    /// How much is downloaded to install it, in bytes; `None` for a model that is not known.
    pub fn download_bytes(&self) -> Option<u64> {
        let fetch = self.manifest.fetch.as_ref().filter(|_| self.known)?;
        Some(fetch.packages.iter().map(|package| package.bytes).sum())
    }
}

impl ModelStore {
    /// The user's store: `$INFER_HOME/models`, else `$XDG_DATA_HOME/infer/models`, else
    /// `~/.local/share/infer/models`. Nothing needs to be there yet.
    ///
    /// # Errors
    /// `NotFound` where a relative folder is meant and the current one is gone.
    pub fn from_environment() -> Result<ModelStore> {
        Ok(ModelStore::at(user_folder()?.join("models")))
    }

    /// A store in the given folder.
    pub fn at(folder: impl Into<PathBuf>) -> ModelStore {
        ModelStore {
            folder: folder.into(),
            python: PathBuf::from("python3"),
        }
    }

    /// The same store, filled by another Python than the `python3` in `PATH`.
    pub fn with_python(mut self, python: impl Into<PathBuf>) -> ModelStore {
        self.python = python.into();
        self
    }

    /// The folder of all models.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// The known models, then those that a person put into the folder, by name.
    ///
    /// # Errors
    /// `InvalidArgument` for a manifest that is wrong.
    pub fn list(&self) -> Result<Vec<ModelEntry>> {
        let known: Result<Vec<ModelEntry>> = KNOWN
            .iter()
            .map(|(name, text)| Ok(self.entry(name, Manifest::parse(text)?, true)))
            .collect();
        let mut entries = known?;
        for name in self.put_there() {
            let manifest = Manifest::read(&self.folder.join(&name).join("model.toml"))?;
            entries.push(self.entry(&name, manifest, false));
        }
        Ok(entries)
    }

    /// Installs a known model, or finds that it is there already, and gives its folder.
    ///
    /// Runs `python3` and its pip. Two at once, in one process or in several, do no harm: the second
    /// waits. Whatever stops it half way, the model is there whole or not at all.
    ///
    /// # Errors
    /// `NotFound` for an unknown name and for a missing Python or pip, `InvalidEncoding` for a file
    /// with another digest than the manifest says, `RuntimeError` for what failed on the way.
    pub fn get(&self, name: &str, progress: &mut dyn FnMut(Progress<'_>)) -> Result<PathBuf> {
        let manifest = known(name).ok_or_else(|| self.not_fetchable(name))?;
        fetch::install(self, name, manifest, progress)
    }

    /// The folder of an installed model.
    pub(crate) fn installed(&self, name: &str) -> Result<PathBuf> {
        let folder = self.folder.join(name);
        if check_name(name).is_ok() && !name.starts_with('.') && folder.join("model.toml").is_file()
        {
            return Ok(folder);
        }
        if known(name).is_none() {
            return Err(self.unknown(name));
        }
        let message = format!("model `{name}` is known and not installed");
        Err(Error::new(ErrorKind::NotFound, message)
            .with_hint(format!("run `infer models get {name}`")))
    }

    /// The known model that this folder of the store is for.
    pub(crate) fn known_in(&self, folder: &Path) -> Option<&'static str> {
        KNOWN
            .iter()
            .map(|(name, _)| *name)
            .find(|name| self.folder.join(name) == folder)
    }

    fn entry(&self, name: &str, manifest: Manifest, known: bool) -> ModelEntry {
        let folder = self.folder.join(name);
        let installed = manifest
            .files
            .iter()
            .all(|file| folder.join(&file.path).exists())
            && folder.join("model.toml").is_file();
        ModelEntry {
            name: name.to_owned(),
            manifest,
            known,
            installed,
            folder,
        }
    }

    fn put_there(&self) -> Vec<String> {
        let entries = self.folder.read_dir().into_iter().flatten();
        let mut names: Vec<String> = entries
            .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
            .filter(|name| !name.starts_with('.') && known(name).is_none())
            .filter(|name| self.folder.join(name).join("model.toml").is_file())
            .collect();
        names.sort();
        names
    }

    /// What is wrong with a name that was to be fetched: files and a person's own models cannot be.
    fn not_fetchable(&self, name: &str) -> Error {
        let hint = if self.put_there().iter().any(|other| other == name) {
            format!("it is installed already, not by infer: use it as `--model {name}`")
        } else if Path::new(name).exists() || looks_like_path(name) {
            format!("a file or folder needs no fetching: use it as `--model {name}`")
        } else {
            hint_for_unknown(name, &known_names(), "models")
        };
        let message = format!("no known model is named `{}`", name.escape_debug());
        Error::new(ErrorKind::NotFound, message).with_hint(hint)
    }

    fn unknown(&self, name: &str) -> Error {
        let names = [known_names(), self.put_there()].concat();
        let message = format!(
            "model `{}`: no such file, folder or known model",
            name.escape_debug()
        );
        Error::new(ErrorKind::NotFound, message).with_hint(hint_for_unknown(name, &names, "models"))
    }
}

fn known_names() -> Vec<String> {
    KNOWN.iter().map(|(name, _)| (*name).to_owned()).collect()
}

fn known(name: &str) -> Option<&'static str> {
    KNOWN
        .iter()
        .find(|(known, _)| *known == name)
        .map(|(_, manifest)| *manifest)
}

/// Checks that a manifest that is built in can be fetched.
pub(crate) fn needs_fetch(manifest: &Manifest) -> Result<&crate::Fetch> {
    manifest
        .fetch
        .as_ref()
        .ok_or_else(|| invalid("the manifest does not say how to fetch the model"))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;

    #[test]
    fn known_manifests_are_sound() {
        let store = ModelStore::at("/nonexistent");
        let entries = store.list().unwrap();
        assert_eq!(entries.len(), KNOWN.len());
        for entry in &entries {
            let manifest = &entry.manifest;
            assert_eq!(manifest.name.as_deref(), Some(entry.name.as_str()));
            assert!(
                manifest.description.is_some()
                    && manifest.license.is_some()
                    && manifest.source.is_some()
            );
            assert!(!entry.installed && entry.download_bytes().unwrap() > 500_000);
            let made = &needs_fetch(manifest).unwrap().files;
            let digest = |path: &str| {
                made.iter()
                    .find(|file| file.path == path)
                    .map(|file| file.sha256.clone())
            };
            for file in &manifest.files {
                assert_eq!(file.sha256, digest(&file.path), "{}", entry.name);
            }
            for labels in manifest
                .outputs
                .iter()
                .filter_map(|output| output.labels.as_deref())
            {
                assert!(digest(labels).is_some(), "{}: {labels}", entry.name);
            }
        }
    }

    #[test]
    fn what_cannot_be_fetched_says_so() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("mine")).unwrap();
        std::fs::write(folder.path().join("mine/model.toml"), "").unwrap();
        let store = ModelStore::at(folder.path());
        let cases = [
            ("magica", "did you mean `magika`?"),
            ("efficientnet", "did you mean `efficientnet-lite0`?"),
            ("llama", "known models: all-minilm-l6-v2, "),
            (
                "mine",
                "it is installed already, not by infer: use it as `--model mine`",
            ),
            ("mind", "known models: all-minilm-l6-v2, "),
            ("a/b", "needs no fetching: use it as `--model a/b`"),
            ("x.tflite", "needs no fetching"),
        ];
        for (name, hint) in cases {
            let error = store.get(name, &mut |_| {}).expect_err(name);
            assert_eq!(
                error.to_string(),
                format!("no known model is named `{name}`")
            );
            let got = error.hint().unwrap();
            assert!(
                got.contains(hint) && (name == "mine" || !got.contains("mine")),
                "{name}: {got}"
            );
        }
    }
}
