//! What a person writes for a model, `[NAME=]REF`, and the model that it means.
//!
//! REF is looked up in this order: an existing path, file or folder, then the name of an installed or
//! known model. A folder has a `model.toml` or exactly one `.onnx` file; a file may have a manifest of
//! its stem beside it. Every file is then checked: it is there, it is inside the manifest's folder, it
//! has the sha256 that the manifest says, and it holds a model and not something in its place.

use std::fmt;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use infer_core::{
    Device, Encoding, Error, ErrorKind, LoadOptions, LoadRequest, Result, Signature, Source,
};

use crate::manifest::invalid;
use crate::{Content, Manifest, ModelStore, digest, file_error};

const LONGEST_NAME: usize = 128;
const LARGEST_LABELS: u64 = 16 * 1024 * 1024;
const FOLDER_MANIFEST: &str = "model.toml";

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
    /// The model's files, in the order that the encoding defines; at least one.
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
                error.with_hint("REF is an ONNX file, a folder or the name of a known model")
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
        let found = if path.is_dir() {
            Found::folder(path)
        } else if path.symlink_metadata().is_ok() {
            Found::file(path)
        } else {
            Found::folder(&self.installed(store)?)
        }?;
        let name = self.name.clone().map_or_else(|| self.default_name(), Ok)?;
        found.into_model(name)
    }

    fn installed(&self, store: &ModelStore) -> Result<PathBuf> {
        let name = &self.reference;
        if looks_like_path(name) {
            let message = format!("model `{name}`: expected a file or folder, found nothing there");
            return Err(Error::new(ErrorKind::NotFound, message));
        }
        store.installed(name)
    }

    fn default_name(&self) -> Result<String> {
        let path = Path::new(&self.reference);
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

fn looks_like_path(reference: &str) -> bool {
    const EXTENSIONS: [&str; 7] = ["onnx", "xml", "bin", "tflite", "pb", "pt", "gguf"];
    let extension = Path::new(reference)
        .extension()
        .and_then(|extension| extension.to_str());
    reference.contains(['/', '\\'])
        || extension.is_some_and(|extension| EXTENSIONS.contains(&extension))
}

/// Where a reference led to, before the files are looked into.
struct Found {
    folder: PathBuf,
    manifest_path: Option<PathBuf>,
    manifest: Manifest,
    files: Vec<PathBuf>,
}

impl Found {
    fn folder(folder: &Path) -> Result<Found> {
        let path = folder.join(FOLDER_MANIFEST);
        let manifest_path = path.is_file().then_some(path);
        let manifest = read_manifest(manifest_path.as_deref())?;
        let files = match manifest.files.is_empty() {
            true => vec![only_onnx_file(folder)?],
            false => confined_files(folder, &manifest)?,
        };
        Ok(Found {
            folder: folder.to_owned(),
            manifest_path,
            manifest,
            files,
        })
    }

    fn file(file: &Path) -> Result<Found> {
        let folder = file
            .parent()
            .filter(|parent| !parent.as_os_str().is_empty())
            .unwrap_or(Path::new("."));
        let path = file.with_extension("toml");
        let manifest_path = (path != file && path.is_file()).then_some(path);
        let manifest = read_manifest(manifest_path.as_deref())?;
        let files = match &manifest_path {
            Some(path) if !manifest.files.is_empty() => {
                let listed = confined_files(folder, &manifest)?;
                if !listed
                    .iter()
                    .any(|other| other.file_name() == file.file_name())
                {
                    let (file, path) = (file.display(), path.display());
                    let message = format!("manifest `{path}` lists other files than `{file}`");
                    let hint = format!(
                        "add it to `files`, or name the manifest after its own file, not `{path}`"
                    );
                    return Err(invalid(message).with_hint(hint));
                }
                listed
            }
            _ => vec![file.to_owned()],
        };
        Ok(Found {
            folder: folder.to_owned(),
            manifest_path,
            manifest,
            files,
        })
    }

    fn into_model(self, name: String) -> Result<Model> {
        let Found {
            folder,
            manifest_path,
            manifest,
            files,
        } = self;
        let encoding = encoding(&files[0], manifest.encoding)?;
        Ok(Model {
            name,
            manifest,
            manifest_path,
            folder,
            files,
            encoding,
        })
    }
}

fn read_manifest(path: Option<&Path>) -> Result<Manifest> {
    path.map_or(Ok(Manifest::default()), Manifest::read)
}

fn confined_files(folder: &Path, manifest: &Manifest) -> Result<Vec<PathBuf>> {
    manifest
        .files
        .iter()
        .map(|file| confined(folder, &file.path))
        .collect()
}

/// The path below the folder, after following links: none may lead out of it.
fn confined(folder: &Path, path: &str) -> Result<PathBuf> {
    let file = folder.join(path);
    let real = |path: &Path| {
        path.canonicalize()
            .map_err(|error| file_error("open", path, error))
    };
    if real(&file)?.starts_with(real(folder)?) {
        return Ok(file);
    }
    let message = format!(
        "`{}`: expected a file inside the manifest's folder, got a link out of it",
        file.display()
    );
    Err(Error::new(ErrorKind::Security, message))
}

fn only_onnx_file(folder: &Path) -> Result<PathBuf> {
    let entries = folder
        .read_dir()
        .map_err(|error| file_error("read", folder, error))?;
    let mut models: Vec<PathBuf> = entries
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| {
            path.extension()
                .is_some_and(|extension| extension == "onnx")
        })
        .collect();
    models.sort();
    match models.len() {
        1 => Ok(models.remove(0)),
        0 => {
            let message = format!(
                "folder `{}`: expected a model.toml or an .onnx file, found neither",
                folder.display()
            );
            Err(Error::new(ErrorKind::NotFound, message))
        }
        count => {
            let message = format!(
                "folder `{}`: expected one .onnx file, found {count}",
                folder.display()
            );
            Err(invalid(message)
                .with_hint(format!("give one of them, `{}` say", models[0].display())))
        }
    }
}

/// The encoding by the manifest and by content, which must agree.
fn encoding(file: &Path, said: Option<Encoding>) -> Result<Encoding> {
    if file.is_dir() {
        // A SavedModel, for one.
        let message = format!("`{}`: expected a file, got a folder", file.display());
        return said.ok_or_else(|| invalid(message).with_hint("say `encoding` in the manifest"));
    }
    let content = Content::of_file(file)?;
    match (said, content) {
        (None, Content::Model(encoding)) => Ok(encoding),
        (Some(said), Content::Model(encoding)) if said == encoding => Ok(said),
        // No signature that is sure, or one that is shared.
        (Some(said), Content::Unknown) if said != Encoding::Onnx => Ok(said),
        (Some(Encoding::PyTorch), Content::Zip) => Ok(Encoding::PyTorch),
        (said, got) => {
            let expected = said.map_or("a model".to_owned(), |said| {
                format!("{said} as the manifest says")
            });
            let message = format!("model `{}`: expected {expected}, got {got}", file.display());
            Err(Error::new(ErrorKind::InvalidEncoding, message).with_hint(got.hint()))
        }
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

    /// The sizes of the files together, in bytes.
    ///
    /// # Errors
    /// `NotFound` or `RuntimeError` for a file that cannot be looked at.
    pub fn bytes(&self) -> Result<u64> {
        let size = |file: &PathBuf| {
            file.metadata()
                .map_err(|error| file_error("read", file, error))
        };
        self.files.iter().map(|file| Ok(size(file)?.len())).sum()
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
        let file = File::open(&path).map_err(|error| file_error("open", &path, error))?;
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
        for (file, listed) in self.files.iter().zip(&self.manifest.files) {
            if let Some(sha256) = &listed.sha256 {
                digest::check(file, sha256, &hint)?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;
    use infer_core::{Dtype, TensorInfo};
    use std::fs;
    use tempfile::TempDir;

    const ADD: &[u8] = include_bytes!("../testdata/add.onnx");

    fn folder(files: &[(&str, &[u8])]) -> TempDir {
        let folder = tempfile::tempdir().unwrap();
        for (path, content) in files {
            let path = folder.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, content).unwrap();
        }
        folder
    }

    fn open(folder: &TempDir, reference: &str) -> Result<Model> {
        let (name, reference) = reference
            .split_once('=')
            .map_or((None, reference), |(n, r)| (Some(n), r));
        let path = folder.path().join(reference);
        let known = !reference.contains(['/', '.']);
        let reference = if known {
            reference.to_owned()
        } else {
            path.to_str().unwrap().to_owned()
        };
        let reference = ModelRef {
            name: name.map(str::to_owned),
            reference,
        };
        reference.open(&ModelStore::at(folder.path().join("store")))
    }

    #[test]
    fn references_are_parsed() {
        let cases = [
            ("a.onnx", None, "a.onnx"),
            ("m=a.onnx", Some("m"), "a.onnx"),
            ("m=a=b.onnx", Some("m"), "a=b.onnx"),
            ("./a=b.onnx", None, "./a=b.onnx"),
            ("mein Modell=x", Some("mein Modell"), "x"),
        ];
        for (text, name, reference) in cases {
            let parsed: ModelRef = text.parse().unwrap();
            assert_eq!(
                (parsed.name.as_deref(), parsed.reference.as_str()),
                (name, reference)
            );
            assert_eq!(parsed.to_string(), text);
        }
        for text in [
            "",
            "m=",
            "=a.onnx",
            "a#b=x",
            "a\nb=x",
            " a=x",
            "..=x",
            &format!("{}=x", "a".repeat(129)),
        ] {
            let error = text.parse::<ModelRef>().expect_err(text);
            assert_eq!(error.kind(), ErrorKind::InvalidArgument);
            assert!(error.to_string().starts_with("expected "), "{error}");
        }
    }

    #[test]
    fn models_are_found() {
        let manifest = b"description = \"x\"\n[[files]]\npath = \"a.onnx\"\n";
        let folder = folder(&[
            ("one/a.onnx", ADD),
            ("both/a.onnx", ADD),
            ("both/b.onnx", ADD),
            ("both/model.toml", manifest),
            ("stem/a.onnx", ADD),
            ("stem/a.toml", manifest),
            ("any.name", ADD),
            ("store/mine/a.onnx", ADD),
            ("store/mine/model.toml", manifest),
        ]);
        let cases = [
            ("one/a.onnx", "a", "one/a.onnx", false),
            ("m=one/a.onnx", "m", "one/a.onnx", false),
            ("./one", "one", "one/a.onnx", false),
            ("./both", "both", "both/a.onnx", true),
            ("both/b.onnx", "b", "both/b.onnx", false),
            ("stem/a.onnx", "a", "stem/a.onnx", true),
            ("one/../both/.", "both", "both/a.onnx", true),
            ("any.name", "any", "any.name", false),
            ("mine", "mine", "store/mine/a.onnx", true),
        ];
        for (reference, name, file, manifest) in cases {
            let model = open(&folder, reference)
                .unwrap_or_else(|error| panic!("{reference}: {}", error.report()));
            assert_eq!(model.name, name, "{reference}");
            let (got, expected) = (
                model.files[0].canonicalize(),
                folder.path().join(file).canonicalize(),
            );
            assert_eq!(got.unwrap(), expected.unwrap(), "{reference}");
            assert_eq!(
                model.manifest.description.is_some(),
                manifest,
                "{reference}"
            );
            assert_eq!(model.encoding, Encoding::Onnx);
        }
    }

    #[test]
    fn errors_say_what_came_and_what_to_do() {
        let with_sha = format!(
            "[[files]]\npath = \"a.onnx\"\nsha256 = \"{}\"",
            "0".repeat(64)
        );
        let folder = folder(&[
            ("empty.onnx", b""),
            ("page.onnx", b"<!doctype html>"),
            ("lfs.onnx", b"version https://git-lfs.github.com/spec/v1"),
            ("wheel.onnx", b"PK\x03\x04"),
            ("text.onnx", b"hello"),
            ("short.onnx", &ADD[..60]),
            ("a#b.onnx", ADD),
            ("none/readme", b""),
            ("two/a.onnx", ADD),
            ("two/b.onnx", ADD),
            ("sha/a.onnx", ADD),
            ("sha/model.toml", with_sha.as_bytes()),
            ("gone/model.toml", with_sha.as_bytes()),
            ("store/magika/a.onnx", ADD),
            ("store/magika/model.toml", with_sha.as_bytes()),
            ("other/a.onnx", ADD),
            ("other/a.toml", b"[[files]]\npath = \"b.onnx\""),
            ("other/b.onnx", ADD),
            ("tflite/a.onnx", ADD),
            ("tflite/a.toml", b"encoding = \"tensorflowlite\""),
            ("key/a.onnx", ADD),
            ("key/a.toml", b"file = \"x\""),
        ]);
        let cases = [
            (
                "empty.onnx",
                "expected a model, got an empty file",
                "get the file again",
            ),
            (
                "page.onnx",
                "expected a model, got a web page (HTML)",
                "get the file again",
            ),
            (
                "lfs.onnx",
                "expected a model, got a Git LFS pointer",
                "git lfs pull",
            ),
            (
                "wheel.onnx",
                "expected a model, got a zip archive",
                "unpack it",
            ),
            (
                "text.onnx",
                "expected a model, got bytes of no known model encoding",
                "convert the model to ONNX",
            ),
            (
                "short.onnx",
                "the beginning of an ONNX model, cut short",
                "get the file again",
            ),
            ("a#b.onnx", "no `#`", "name it: NAME="),
            (
                "./none",
                "expected a model.toml or an .onnx file, found neither",
                "",
            ),
            ("./two", "expected one .onnx file, found 2", "a.onnx` say"),
            ("./sha", "expected sha256 0000", "correct the sha256"),
            ("magika", "expected sha256 0000", "infer models get magika"),
            ("./gone", "cannot open", ""),
            (
                "no/such.onnx",
                "expected a file or folder, found nothing there",
                "",
            ),
            (
                "other/a.onnx",
                "lists other files than",
                "add it to `files`",
            ),
            (
                "tflite/a.onnx",
                "expected tensorflowlite as the manifest says, got onnx",
                "",
            ),
            (
                "key/a.onnx",
                "unknown field `file`, expected one of `name`",
                "",
            ),
            (
                "efficientnet-lite0",
                "is known and not installed",
                "run `infer models get efficientnet-lite0`",
            ),
            (
                "eficientnet-lite0",
                "no such file, folder or known model",
                "did you mean `efficientnet-lite0`?",
            ),
            (
                "llama",
                "no such file, folder or known model",
                "known models: efficientnet-lite0, magika, opennsfw",
            ),
        ];
        for (reference, message, hint) in cases {
            let error = open(&folder, reference).expect_err(reference);
            assert!(
                error.report().contains(message),
                "{reference}: {}",
                error.report()
            );
            assert!(
                error.hint().unwrap_or_default().contains(hint),
                "{reference}: {:?}",
                error.hint()
            );
        }
    }

    #[cfg(unix)]
    #[test]
    fn links_do_not_lead_out_of_the_folder() {
        let folder = folder(&[
            ("out.onnx", ADD),
            ("in/model.toml", b"[[files]]\npath = \"a.onnx\""),
        ]);
        std::os::unix::fs::symlink("../out.onnx", folder.path().join("in/a.onnx")).unwrap();
        let error = open(&folder, "./in").unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Security);
    }

    #[test]
    fn labels_are_lines() {
        let manifest = b"[[outputs]]\nname = \"y\"\nlabels = \"l.txt\"\n[[outputs]]\nname = \"z\"\nlabels = \"bad\"\n";
        let folder = folder(&[
            ("m/a.onnx", ADD),
            ("m/model.toml", manifest),
            ("m/l.txt", b"\xef\xbb\xbftench\r\ngreat white shark\n"),
            ("m/bad", b"\xff"),
        ]);
        let model = open(&folder, "./m").unwrap();
        assert_eq!(
            model.labels("y").unwrap().unwrap(),
            ["tench", "great white shark"]
        );
        assert_eq!(model.labels("other").unwrap(), None);
        let classes = |number| Signature {
            outputs: vec![TensorInfo {
                name: "y".to_owned(),
                dtype: Dtype::F32,
                dimensions: vec![None, number],
            }],
            ..Signature::default()
        };
        // The manifest also speaks of `z`, which this model does not have.
        assert!(model.check_signature(&classes(Some(2))).is_err());
        let mut model = model;
        model.manifest.outputs.truncate(1);
        model.check_signature(&classes(Some(2))).unwrap();
        model.check_signature(&classes(None)).unwrap();
        let error = model.check_signature(&classes(Some(3))).unwrap_err();
        assert!(error.to_string().contains("expected 3"), "{error}");
        model = open(&folder, "./m").unwrap();
        assert_eq!(
            model.labels("z").unwrap_err().kind(),
            ErrorKind::InvalidEncoding
        );
        assert_eq!(model.bytes().unwrap(), ADD.len() as u64);
    }
}
