//! What a person writes for a model, `[NAME=]REF`, and the model that it means.
//!
//! REF is looked up in this order: an existing path, file or folder, then the name of an installed or
//! known model. A folder has a `model.toml`, is a SavedModel, or has exactly one model of any encoding;
//! a file may have a manifest of its stem beside it, and an OpenVINO IR has its `.bin` there. Every file
//! is then checked: it is there, it is inside the manifest's folder, it has the sha256 that the manifest
//! says, and it holds a model and not something in its place.

use std::fmt;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use infer_core::{
    Device, Encoding, Error, ErrorKind, LoadOptions, LoadRequest, Result, Signature, Source,
};

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
        for (file, sha256) in self.listed() {
            if let Some(sha256) = sha256 {
                digest::check(&file, sha256, &hint)?;
            }
        }
        Ok(())
    }

    /// The manifest's files and folders, and what digest it gives them.
    fn listed(&self) -> impl Iterator<Item = (PathBuf, Option<&str>)> {
        let files = self.manifest.files.iter();
        files.map(|file| (self.folder.join(&file.path), file.sha256.as_deref()))
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
                "expected a model.toml, a saved_model.pb or one model (.onnx, .xml, .tflite or .pb), found none",
                "",
            ),
            ("./two", "expected one model, found 2", "a.onnx` say"),
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
                "correct or remove `encoding` in `",
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
                "known models: ",
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

    const XML: &[u8] = include_bytes!("../testdata/network.xml");
    const WEIGHTS: &[u8] = include_bytes!("../testdata/network.bin");
    const LITE: &[u8] = include_bytes!("../testdata/network.tflite");
    const GRAPH: &[u8] = include_bytes!("../testdata/network.pb");
    const SAVED_MODEL: &[u8] = include_bytes!("../testdata/network-saved-model/saved_model.pb");
    const NO_WEIGHTS: &[u8] = b"<net name=\"a\" version=\"11\"><layers><layer type=\"Parameter\"/>";

    #[test]
    fn every_encoding_is_found() {
        let folder = folder(&[
            ("ir/m.xml", XML),
            ("ir/m.bin", WEIGHTS),
            ("ir/project.xml", b"<project/>"),
            ("plain.xml", NO_WEIGHTS),
            ("lite/m.tflite", LITE),
            ("graph/m.pb", GRAPH),
            ("graph/other.pb", b"\x08\x01"),
            ("saved/saved_model.pb", SAVED_MODEL),
            ("saved/variables/variables.index", b"x"),
            ("data/m.onnx", ADD),
            ("data/m.onnx.data", b"x"),
            (
                "data/model.toml",
                b"[[files]]\npath = \"m.onnx\"\n[[files]]\npath = \"m.onnx.data\"",
            ),
            (
                "two/model.toml",
                b"[[files]]\npath = \"a.xml\"\n[[files]]\npath = \"b.bin\"",
            ),
            ("two/a.xml", XML),
            ("two/b.bin", WEIGHTS),
            (
                "one/model.toml",
                b"name = \"own\"\n[[files]]\npath = \"a.xml\"",
            ),
            ("one/a.xml", XML),
            ("one/a.bin", WEIGHTS),
            (
                "list/model.toml",
                b"encoding = \"tensorflow\"\n[[files]]\npath = \"s/saved_model.pb\"",
            ),
            ("list/s/saved_model.pb", SAVED_MODEL),
            ("sub/model.toml", b"[[files]]\npath = \"s\""),
            ("sub/s/saved_model.pb", SAVED_MODEL),
            ("frozen/saved_model.pb", GRAPH),
        ]);
        let openvino = Encoding::OpenVino;
        let tensorflow = Encoding::TensorFlow;
        let cases: [(&str, &str, &[&str], Encoding, usize); 16] = [
            ("ir/m.xml", "m", &["ir/m.xml", "ir/m.bin"], openvino, 2),
            ("./ir", "ir", &["ir/m.xml", "ir/m.bin"], openvino, 2),
            ("plain.xml", "plain", &["plain.xml"], openvino, 1),
            ("./two", "two", &["two/a.xml", "two/b.bin"], openvino, 2),
            ("./one", "own", &["one/a.xml", "one/a.bin"], openvino, 2),
            ("n=./one", "n", &["one/a.xml", "one/a.bin"], openvino, 2),
            (
                "lite/m.tflite",
                "m",
                &["lite/m.tflite"],
                Encoding::TensorFlowLite,
                1,
            ),
            (
                "./lite",
                "lite",
                &["lite/m.tflite"],
                Encoding::TensorFlowLite,
                1,
            ),
            ("graph/m.pb", "m", &["graph/m.pb"], tensorflow, 1),
            ("./graph", "graph", &["graph/m.pb"], tensorflow, 1),
            ("./saved", "saved", &["saved"], tensorflow, 2),
            ("saved/saved_model.pb", "saved", &["saved"], tensorflow, 2),
            ("./list", "list", &["list/s"], tensorflow, 1),
            ("./sub", "sub", &["sub/s"], tensorflow, 1),
            (
                "frozen/saved_model.pb",
                "saved_model",
                &["frozen/saved_model.pb"],
                tensorflow,
                1,
            ),
            ("./data", "data", &["data/m.onnx"], Encoding::Onnx, 2),
        ];
        for (reference, name, files, encoding, all) in cases {
            let model = open(&folder, reference)
                .unwrap_or_else(|error| panic!("{reference}: {}", error.report()));
            let expected: Vec<PathBuf> = files
                .iter()
                .map(|file| folder.path().join(file).canonicalize().unwrap())
                .collect();
            let got: Vec<PathBuf> = model
                .files
                .iter()
                .map(|file| file.canonicalize().unwrap())
                .collect();
            assert_eq!((model.name.as_str(), got), (name, expected), "{reference}");
            assert_eq!(model.encoding, encoding, "{reference}");
            assert_eq!(model.all_files().unwrap().len(), all, "{reference}");
            let request = model.load_request(Device::Cpu, LoadOptions::default());
            assert!(matches!(request.source, Source::Files(parts) if parts == model.files));
        }
    }

    #[test]
    fn what_does_not_run_says_what_does() {
        let sha = format!("[[files]]\npath = \"s\"\nsha256 = \"{}\"", "0".repeat(64));
        let folder = folder(&[
            ("bare/m.xml", XML),
            ("loose/m.bin", WEIGHTS),
            ("loose/m.xml", XML),
            ("lost/m.bin", WEIGHTS),
            ("llm/m.gguf", b"GGUF\x03\0\0\0"),
            ("ckpt.pth", b"\x80\x02\x8a\x0al\xfc"),
            ("tensors.safetensors", b"\x02\0\0\0\0\0\0\0{}"),
            ("old.h5", b"\x89HDF\r\n\x1a\n"),
            ("renamed.pb", SAVED_MODEL),
            ("three/model.toml", b"[[files]]\npath = \"a.xml\"\n[[files]]\npath = \"a.bin\"\n[[files]]\npath = \"b.bin\""),
            ("three/a.xml", XML),
            ("three/a.bin", b""),
            ("three/b.bin", b""),
            ("empty/model.toml", b"[[files]]\npath = \"s\""),
            ("empty/s/readme", b""),
            ("digest/model.toml", sha.as_bytes()),
            ("digest/s/saved_model.pb", SAVED_MODEL),
            ("said/m.pb", GRAPH),
            ("said/m.toml", b"encoding = \"openvino\""),
        ]);
        let runs = "infer runs ONNX, OpenVINO IR, TensorFlow (frozen graph or SavedModel) and TensorFlow Lite";
        let cases = [
            (
                "bare/m.xml",
                "expected its weights in `",
                "put the .bin file beside",
            ),
            (
                "loose/m.bin",
                "got bytes of no known model encoding",
                "m.xml`",
            ),
            ("lost/m.bin", "got bytes of no known", "give the .xml file"),
            ("llm/m.gguf", "got a GGUF or GGML model", runs),
            (
                "./llm",
                "found none",
                "`m.gguf` is a GGUF or GGML model: infer runs ONNX",
            ),
            ("ckpt.pth", "got Python objects", runs),
            ("tensors.safetensors", "got tensors without a network", runs),
            ("old.h5", "got an HDF5 file", runs),
            ("renamed.pb", "got the saved_model.pb of", "give the folder"),
            (
                "./three",
                "expected an OpenVINO IR of 2 files, .xml and .bin, got 3",
                "",
            ),
            ("./empty", "got a folder without saved_model.pb", ""),
            ("./digest", "expected sha256 0000", "correct the sha256"),
            (
                "said/m.pb",
                "expected openvino as the manifest says, got tensorflow",
                "m.toml`",
            ),
            (
                "gone.pth",
                "expected a file or folder, found nothing there",
                "",
            ),
        ];
        for (reference, message, hint) in cases {
            let error = open(&folder, reference).expect_err(reference);
            let (report, got) = (error.report(), error.hint().unwrap_or_default());
            assert!(report.contains(message), "{reference}: {report}");
            assert!(got.contains(hint), "{reference}: {got}");
        }
    }

    #[cfg(unix)]
    #[test]
    fn what_would_block_is_refused_at_once() {
        let folder = folder(&[
            ("listed/model.toml", b"[[files]]\npath = \"pipe\""),
            ("ir/m.xml", XML),
        ]);
        for path in ["pipe.onnx", "listed/pipe", "ir/m.bin"] {
            let made = std::process::Command::new("mkfifo")
                .arg(folder.path().join(path))
                .status();
            assert!(made.unwrap().success());
        }
        for reference in ["pipe.onnx", "./listed", "ir/m.xml", "/dev/zero"] {
            let error = open(&folder, reference).expect_err(reference);
            assert!(
                error
                    .to_string()
                    .contains("expected a file, got a pipe or a device"),
                "{reference}: {}",
                error.report()
            );
        }
        assert!(crate::Content::of_file(&folder.path().join("pipe.onnx")).is_err());
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
