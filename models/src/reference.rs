//! What a person writes for a model, `[NAME=]REF`, and the model that it means.
//!
//! REF is looked up in this order: an existing path, file or folder, then the name of an installed or
//! known model. A folder has a `model.toml`, is a SavedModel, or has exactly one model of any encoding;
//! a file may have a manifest of its stem beside it, and an OpenVINO IR has its `.bin` there. Every file
//! is then checked: it is there, it is inside the manifest's folder, it has the sha256 that the manifest
//! says (unless it had and was not changed since), and it holds a model and not something in its place.

use std::cell::LazyCell;
use std::fmt;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use infer_core::{
    Device, Encoding, Error, ErrorKind, LoadOptions, LoadRequest, Result, Signature, Source,
};

use crate::checked::Checked;
use crate::found::{Found, confined, looks_like_path};
use crate::manifest::invalid;
use crate::{Manifest, ModelStore, digest, file_error, open_file};

const LONGEST_NAME: usize = 128;
const LARGEST_LABELS: u64 = 16 * 1024 * 1024;

/// A model as a person names it: `[NAME=]REF`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ModelRef {
    /// The name for guests; taken from the reference where absent.
    pub name: Option<String>,
    /// A path, or the name of an installed or known model.
    pub reference: String,
}

/// A model's files, found and checked, not loaded.
#[derive(Clone, Debug)]
pub struct Model {
    /// The name for guests.
    pub name: String,
    /// What its manifest says; nothing where there is none.
    pub manifest: Manifest,
    /// The manifest's file, where there is one.
    pub manifest_path: Option<PathBuf>,
    /// The folder that the manifest's paths are relative to.
    pub folder: PathBuf,
    /// What an engine is given, in the order that the encoding defines; at least one. An OpenVINO IR has
    /// its XML and, unless it has no weights, its `.bin`; a SavedModel its folder; all others one file.
    pub files: Vec<PathBuf>,
    /// How they are encoded.
    pub encoding: Encoding,
}

/// Checks a name for guests: 1 to 128 bytes, no `#`, `=`, `/` and no control characters.
///
/// # Errors
/// `InvalidArgument` that says what is allowed.
pub fn check_name(name: &str) -> Result<()> {
    let sane = !name.is_empty()
        && name.len() <= LONGEST_NAME
        && name.trim() == name
        && !matches!(name, "." | "..")
        && !name.contains(|c: char| c.is_control() || "#=/\\".contains(c));
    if sane {
        return Ok(());
    }
    Err(invalid(format!(
        "expected a model name of 1 to {LONGEST_NAME} bytes with no `#`, `=`, `/`, `\\`, control characters or \
         blanks around it, got `{}`",
        name.escape_debug()
    )))
}

impl FromStr for ModelRef {
    type Err = Error;

    /// Parses `[NAME=]REF`. What stands before the first `=` is a name unless it has a `/`.
    fn from_str(text: &str) -> Result<ModelRef> {
        let (name, reference) = match text.split_once('=') {
            Some((name, reference)) if !name.contains('/') => (Some(name), reference),
            _ => (None, text),
        };
        if reference.is_empty() {
            let error = invalid(format!("expected [NAME=]REF, got `{text}` without a REF"));
            return Err(
                error.with_hint("REF is a model file, a folder or the name of a known model")
            );
        }
        name.map_or(Ok(()), check_name)?;
        Ok(ModelRef {
            name: name.map(str::to_owned),
            reference: reference.to_owned(),
        })
    }
}

impl fmt::Display for ModelRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.name {
            Some(name) => write!(f, "{name}={}", self.reference),
            None => f.write_str(&self.reference),
        }
    }
}

impl ModelRef {
    /// Finds the model and checks its files, their digests too.
    ///
    /// # Errors
    /// `NotFound` for what is not there, `InvalidArgument` for a bad name or manifest,
    /// `InvalidEncoding` for a file that is no model or has another digest, `Security` for a file that
    /// leads out of the manifest's folder.
    pub fn open(&self, store: &ModelStore) -> Result<Model> {
        let model = self.resolve(store)?;
        model.check_digests(store)?;
        Ok(model)
    }

    /// Finds the model without reading its files whole: their digests stay unchecked.
    ///
    /// # Errors
    /// As for [`ModelRef::open`].
    pub fn resolve(&self, store: &ModelStore) -> Result<Model> {
        let path = Path::new(&self.reference);
        let is_path = path.symlink_metadata().is_ok();
        let found = if path.is_dir() {
            Found::folder(path)
        } else if is_path {
            Found::file(path)
        } else {
            Found::folder(&self.installed(store)?)
        }?;
        let name = match (&self.name, &found.manifest.name) {
            (Some(name), _) => name.clone(),
            (None, Some(own)) if is_path => own.clone(),
            _ => self.default_name(&found)?,
        };
        Ok(Model {
            name,
            manifest: found.manifest,
            manifest_path: found.manifest_path,
            folder: found.folder,
            files: found.files,
            encoding: found.encoding,
        })
    }

    fn installed(&self, store: &ModelStore) -> Result<PathBuf> {
        let name = &self.reference;
        if looks_like_path(name) {
            let message = format!("model `{name}`: expected a file or folder, found nothing there");
            return Err(Error::new(ErrorKind::NotFound, message));
        }
        store.installed(name)
    }

    fn default_name(&self, found: &Found) -> Result<String> {
        // A SavedModel's name is its folder's: all their files are called the same.
        let path = match &found.files[..] {
            [folder] if found.manifest_path.is_none() && folder.is_dir() => folder,
            _ => Path::new(&self.reference),
        };
        let absolute = path.canonicalize();
        // `.` and `models/..` have names only once they are followed.
        let path = if path.file_name().is_some() {
            path
        } else {
            absolute.as_deref().unwrap_or(path)
        };
        let name = if path.is_dir() {
            path.file_name()
        } else {
            path.file_stem()
        };
        let known = (!path.exists()).then(|| self.reference.clone());
        let name = known
            .or_else(|| Some(name?.to_str()?.to_owned()))
            .unwrap_or_default();
        check_name(&name)
            .map_err(|error| error.with_hint(format!("name it: NAME={}", self.reference)))?;
        Ok(name)
    }
}

impl Model {
    /// What a backend is asked to load.
    pub fn load_request(&self, device: Device, options: LoadOptions) -> LoadRequest {
        LoadRequest {
            source: Source::Files(self.files.clone()),
            encoding: self.encoding,
            device,
            options,
        }
    }

    /// Every file that is known to belong to the model: those that an engine is given, those in a
    /// SavedModel's folder, and those that the manifest lists besides.
    ///
    /// # Errors
    /// `NotFound` or `RuntimeError` for what cannot be looked at.
    pub fn all_files(&self) -> Result<Vec<PathBuf>> {
        let listed = self.listed().map(|(file, _)| file);
        let mut all = Vec::new();
        for file in self.files.iter().cloned().chain(listed) {
            let files = match file.is_dir() {
                true => digest::files_below(&file)?,
                false => vec![file],
            };
            for file in files {
                if !all.contains(&file) {
                    all.push(file);
                }
            }
        }
        Ok(all)
    }

    /// The sizes of [`Model::all_files`] together, in bytes.
    ///
    /// # Errors
    /// `NotFound` or `RuntimeError` for a file that cannot be looked at.
    pub fn bytes(&self) -> Result<u64> {
        let size = |file: &PathBuf| {
            file.metadata()
                .map_err(|error| file_error("read", file, error))
        };
        let files = self.all_files()?;
        files.iter().map(|file| Ok(size(file)?.len())).sum()
    }

    /// The SHA-256 of what the model is, in lower-case hexadecimal: of the files that an engine is given and those
    /// that the manifest lists, without labels. Of one file or folder it is its own, of several that of the list of
    /// their digests, one in a line. A digest of the manifest is taken as it is: [`ModelRef::open`] has checked it.
    ///
    /// # Errors
    /// `NotFound` or `RuntimeError` for what cannot be read.
    pub fn sha256(&self) -> Result<String> {
        let digests: Result<Vec<String>> = self
            .own_files()
            .iter()
            .map(|(path, listed)| match listed {
                Some(listed) => Ok(listed.to_ascii_lowercase()),
                None => digest::of_path(path),
            })
            .collect();
        let digests = digests?;
        Ok(match &digests[..] {
            [one] => one.clone(),
            several => digest::of_lines(several),
        })
    }

    /// How many bytes [`Model::sha256`] is of.
    ///
    /// # Errors
    /// `NotFound` or `RuntimeError` for what cannot be looked at.
    pub fn sha256_bytes(&self) -> Result<u64> {
        let mut sum = 0;
        for (path, _) in self.own_files() {
            let files = match path.is_dir() {
                true => digest::files_below(&path)?,
                false => vec![path],
            };
            for file in files {
                let data = file.metadata();
                sum += data
                    .map_err(|error| file_error("read", &file, error))?
                    .len();
            }
        }
        Ok(sum)
    }

    /// The files and folders that make the model what it is, each once, and what digest the manifest gives them.
    fn own_files(&self) -> Vec<(PathBuf, Option<&str>)> {
        let outputs = self.manifest.outputs.iter();
        let labels: Vec<PathBuf> = outputs
            .filter_map(|output| Some(self.folder.join(output.labels.as_deref()?)))
            .collect();
        let listed: Vec<(PathBuf, Option<&str>)> = self
            .listed()
            .filter(|(path, _)| !labels.contains(path))
            .collect();
        let unlisted = self
            .files
            .iter()
            .filter(|file| listed.iter().all(|(path, _)| path != *file))
            .map(|file| (file.clone(), None));
        let mut own: Vec<(PathBuf, Option<&str>)> = unlisted.collect();
        own.extend(listed.iter().cloned());
        own
    }

    /// Checks that a loaded model is what the manifest speaks of, and that it has as many labels as
    /// classes.
    ///
    /// # Errors
    /// Those of [`Manifest::check_signature`] and [`Model::labels`]; `InvalidArgument` for a number of
    /// labels that does not fit.
    pub fn check_signature(&self, signature: &Signature) -> Result<()> {
        self.manifest.check_signature(signature)?;
        for output in &signature.outputs {
            let labels = self.labels(&output.name)?.map(|labels| labels.len());
            let classes = output.dimensions.last().copied().flatten();
            if let (Some(labels), Some(classes)) = (labels, classes)
                && labels != classes
            {
                let name = &output.name;
                return Err(invalid(format!(
                    "labels of output `{name}`: expected {classes}, one per line, got {labels}"
                )));
            }
        }
        Ok(())
    }

    /// The labels of the named output, one per class, where the manifest names a file of them.
    ///
    /// # Errors
    /// `NotFound` for a missing file, `TooLarge` over 16 MiB, `InvalidEncoding` for one that is no
    /// UTF-8, `Security` for a link out of the manifest's folder.
    pub fn labels(&self, output: &str) -> Result<Option<Vec<String>>> {
        let Some(path) = self
            .manifest
            .output(output)
            .and_then(|output| output.labels.as_deref())
        else {
            return Ok(None);
        };
        let path = confined(&self.folder, path)?;
        let file = open_file(&path)?;
        let mut bytes = Vec::new();
        file.take(LARGEST_LABELS + 1)
            .read_to_end(&mut bytes)
            .map_err(|error| file_error("read", &path, error))?;
        if bytes.len() as u64 > LARGEST_LABELS {
            let message = format!(
                "labels `{}`: expected at most {LARGEST_LABELS} bytes",
                path.display()
            );
            return Err(Error::new(ErrorKind::TooLarge, message));
        }
        let text = String::from_utf8(bytes).map_err(|error| {
            let message = format!("labels `{}`: expected UTF-8", path.display());
            Error::new(ErrorKind::InvalidEncoding, message).with_source(error)
        })?;
        Ok(Some(
            text.trim_start_matches('\u{feff}')
                .lines()
                .map(str::to_owned)
                .collect(),
        ))
    }

    fn check_digests(&self, store: &ModelStore) -> Result<()> {
        let hint = match store.known_in(&self.folder) {
            Some(name) => format!("run `infer models get {name}` to get it again"),
            None => "get the file again, or correct the sha256 in the manifest".to_owned(),
        };
        let checked = LazyCell::new(Checked::of_user);
        self.listed()
            .filter_map(|(file, sha256)| Some((file, sha256?)))
            .try_for_each(|(file, sha256)| checked.check(&file, sha256, &hint))
    }

    /// The manifest's files and folders, and what digest it gives them.
    fn listed(&self) -> impl Iterator<Item = (PathBuf, Option<&str>)> {
        let files = self.manifest.files.iter();
        files.map(|file| (self.folder.join(&file.path), file.sha256.as_deref()))
    }
}

#[cfg(test)]
mod tests;
