//! From a path to the files of a model: the manifest beside them, the parts that an engine is given, and
//! the encoding.
//!
//! What belongs together is found: the `.bin` of an OpenVINO IR, the folder of a SavedModel. Every listed
//! file is inside the manifest's folder, and what is neither file nor folder is refused before it is read.

use std::path::{Path, PathBuf};

use infer_core::{Encoding, Error, ErrorKind, Result};

use crate::digest::files_below;
use crate::manifest::invalid;
use crate::{Content, Manifest, check_kind, file_error, open_file, xml};

pub(crate) const FOLDER_MANIFEST: &str = "model.toml";
const SAVED_MODEL: &str = "saved_model.pb";
const WEIGHTS: &str = "bin";

/// The extensions of files that may be a model that runs.
const MODELS: [&str; 4] = ["onnx", "xml", "tflite", "pb"];
/// The extensions of models that do not run.
const OTHERS: [&str; 9] = [
    "pt",
    "pth",
    "ckpt",
    "gguf",
    "ggml",
    "safetensors",
    "h5",
    "keras",
    "mlmodel",
];

/// Where a reference led to.
pub(crate) struct Found {
    pub(crate) folder: PathBuf,
    pub(crate) manifest_path: Option<PathBuf>,
    pub(crate) manifest: Manifest,
    /// The parts that an engine is given, in the order that the encoding defines.
    pub(crate) files: Vec<PathBuf>,
    pub(crate) encoding: Encoding,
}

/// Whether a reference can only be a path.
pub fn looks_like_path(reference: &str) -> bool {
    let extension = Path::new(reference)
        .extension()
        .and_then(|extension| extension.to_str());
    let is_model = |extension| {
        MODELS.contains(&extension) || OTHERS.contains(&extension) || extension == WEIGHTS
    };
    reference.contains(['/', '\\']) || extension.is_some_and(is_model)
}

impl Found {
    /// The model of a folder: what its `model.toml` lists, a SavedModel, or its only model.
    pub(crate) fn folder(folder: &Path) -> Result<Found> {
        let path = folder.join(FOLDER_MANIFEST);
        let manifest_path = path.is_file().then_some(path);
        let manifest = read_manifest(manifest_path.as_deref())?;
        let files = match manifest.files.is_empty() {
            true => vec![only_model(folder)?],
            false => confined_files(folder, &manifest)?,
        };
        Found::new(folder, manifest_path, manifest, files)
    }

    /// The model of a file, with the manifest of its stem where that is beside it.
    pub(crate) fn file(file: &Path) -> Result<Found> {
        check_kind(file)?;
        let folder = file
            .parent()
            .filter(|parent| !parent.as_os_str().is_empty())
            .unwrap_or(Path::new("."));
        let path = file.with_extension("toml");
        let manifest_path = (path != file && path.is_file()).then_some(path);
        let manifest = read_manifest(manifest_path.as_deref())?;
        let files = match &manifest_path {
            Some(path) if !manifest.files.is_empty() => {
                listed_with(file, path, confined_files(folder, &manifest)?)?
            }
            _ => vec![file.to_owned()],
        };
        Found::new(folder, manifest_path, manifest, files)
    }

    fn new(
        folder: &Path,
        manifest_path: Option<PathBuf>,
        manifest: Manifest,
        listed: Vec<PathBuf>,
    ) -> Result<Found> {
        let said = manifest.encoding.zip(manifest_path.as_deref());
        let encoding = encoding(&listed[0], said)?;
        let files = parts(listed, encoding)?;
        if manifest_path.is_some() {
            files
                .iter()
                .try_for_each(|file| stays_in_with_contents(folder, file))?;
        }
        Ok(Found {
            folder: folder.to_owned(),
            manifest_path,
            manifest,
            files,
            encoding,
        })
    }
}

fn read_manifest(path: Option<&Path>) -> Result<Manifest> {
    path.map_or(Ok(Manifest::default()), Manifest::read)
}

/// The listed files, where this one is among them.
fn listed_with(file: &Path, manifest: &Path, listed: Vec<PathBuf>) -> Result<Vec<PathBuf>> {
    if listed
        .iter()
        .any(|other| other.file_name() == file.file_name())
    {
        return Ok(listed);
    }
    let (file, manifest) = (file.display(), manifest.display());
    let message = format!("manifest `{manifest}` lists other files than `{file}`");
    let hint =
        format!("add it to `files`, or name the manifest after its own file, not `{manifest}`");
    Err(invalid(message).with_hint(hint))
}

fn confined_files(folder: &Path, manifest: &Manifest) -> Result<Vec<PathBuf>> {
    manifest
        .files
        .iter()
        .map(|file| confined(folder, &file.path))
        .collect()
}

/// The path below the folder, after following links: none may lead out of it.
pub(crate) fn confined(folder: &Path, path: &str) -> Result<PathBuf> {
    let file = folder.join(path);
    stays_in(folder, &file)?;
    check_kind(&file)?;
    Ok(file)
}

fn stays_in(folder: &Path, file: &Path) -> Result<()> {
    let real = |path: &Path| {
        path.canonicalize()
            .map_err(|error| file_error("open", path, error))
    };
    if real(file)?.starts_with(real(folder)?) {
        return Ok(());
    }
    let message = format!(
        "`{}`: expected a file inside the manifest's folder, got a link out of it",
        file.display()
    );
    Err(Error::new(ErrorKind::Security, message))
}

/// As `stays_in`, and for a folder every file in it too.
fn stays_in_with_contents(folder: &Path, file: &Path) -> Result<()> {
    stays_in(folder, file)?;
    match file.is_dir() {
        true => files_below(file)?
            .iter()
            .try_for_each(|file| stays_in(folder, file)),
        false => Ok(()),
    }
}

/// The only model of a folder without a list of files: the folder itself where it is a SavedModel.
fn only_model(folder: &Path) -> Result<PathBuf> {
    if folder.join(SAVED_MODEL).is_file() {
        return Ok(folder.to_owned());
    }
    let mut models = with_extension(folder, &MODELS)?;
    models.retain(|path| is_model_of_its_name(path));
    match models.len() {
        1 => Ok(models.remove(0)),
        0 => Err(no_model(folder)?),
        count => {
            let message = format!(
                "folder `{}`: expected one model, found {count}",
                folder.display()
            );
            Err(invalid(message)
                .with_hint(format!("give one of them, `{}` say", models[0].display())))
        }
    }
}

/// Whether a file with a model's extension may be meant as one: XML and protobuf are much else too.
fn is_model_of_its_name(path: &Path) -> bool {
    let shared = path
        .extension()
        .is_some_and(|extension| extension == "xml" || extension == "pb");
    !shared || matches!(Content::of_file(path), Ok(Content::Model(_)))
}

fn no_model(folder: &Path) -> Result<Error> {
    let message = format!(
        "folder `{}`: expected a model.toml, a saved_model.pb or one model (.onnx, .xml, .tflite or .pb), \
         found none",
        folder.display()
    );
    let error = Error::new(ErrorKind::NotFound, message);
    let other = with_extension(folder, &OTHERS)?.into_iter().next();
    let Some(Ok(content)) = other.as_deref().map(Content::of_file) else {
        return Ok(error);
    };
    let name = other
        .as_deref()
        .and_then(Path::file_name)
        .unwrap_or_default();
    Ok(error.with_hint(format!(
        "`{}` is {content}: {}",
        name.display(),
        content.hint()
    )))
}

fn with_extension(folder: &Path, extensions: &[&str]) -> Result<Vec<PathBuf>> {
    let entries = folder
        .read_dir()
        .map_err(|error| file_error("read", folder, error))?;
    let mut files: Vec<PathBuf> = entries
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| {
            let extension = path.extension().and_then(|extension| extension.to_str());
            extension.is_some_and(|extension| extensions.contains(&extension)) && path.is_file()
        })
        .collect();
    files.sort();
    Ok(files)
}

/// The encoding by content, which a manifest must agree with; `said` is the manifest's and its path.
fn encoding(file: &Path, said: Option<(Encoding, &Path)>) -> Result<Encoding> {
    let content = match file.is_dir() {
        true => Content::of_file(&saved_model_in(file)?)?,
        false => Content::of_file(file)?,
    };
    let got = match content {
        Content::Model(Encoding::PyTorch | Encoding::Ggml) => None,
        Content::Model(encoding) => Some(encoding),
        Content::SavedModel if names_saved_model(file) => Some(Encoding::TensorFlow),
        _ => None,
    };
    match (said, got) {
        (None, Some(encoding)) => Ok(encoding),
        (Some((said, _)), Some(encoding)) if said == encoding => Ok(said),
        (Some((said, path)), Some(_)) => {
            Err(
                wrong(file, &format!("{said} as the manifest says"), content).with_hint(format!(
                    "correct or remove `encoding` in `{}`",
                    path.display()
                )),
            )
        }
        // No signature that is sure.
        (Some((said, _)), None) if content == Content::Unknown && may_be_unsure(said) => Ok(said),
        (said, None) => {
            let expected = said.map_or("a model".to_owned(), |(said, _)| {
                format!("{said} as the manifest says")
            });
            Err(wrong(file, &expected, content).with_hint(hint(file, content)))
        }
    }
}

fn wrong(file: &Path, expected: &str, got: Content) -> Error {
    let message = format!("model `{}`: expected {expected}, got {got}", file.display());
    Error::new(ErrorKind::InvalidEncoding, message)
}

/// Encodings whose files can begin in ways that [`Content`] does not know.
fn may_be_unsure(said: Encoding) -> bool {
    matches!(said, Encoding::OpenVino | Encoding::TensorFlow)
}

fn hint(file: &Path, content: Content) -> String {
    let xml = file.with_extension("xml");
    if is_weights(file) && content == Content::Unknown {
        return match xml.is_file() {
            true => format!(
                "these are the weights of an OpenVINO IR: give `{}`",
                xml.display()
            ),
            false => {
                "if these are the weights of an OpenVINO IR, give the .xml file that they belong to"
                    .to_owned()
            }
        };
    }
    content.hint().to_owned()
}

fn is_weights(file: &Path) -> bool {
    file.extension()
        .is_some_and(|extension| extension == WEIGHTS)
}

fn saved_model_in(folder: &Path) -> Result<PathBuf> {
    let file = folder.join(SAVED_MODEL);
    if file.is_file() {
        return Ok(file);
    }
    let message = format!(
        "model `{}`: expected a file or the folder of a SavedModel, got a folder without {SAVED_MODEL}",
        folder.display()
    );
    Err(invalid(message))
}

/// Whether this is a SavedModel's folder, or the file that engines look for in it.
fn names_saved_model(file: &Path) -> bool {
    file.is_dir() || file.file_name().is_some_and(|name| name == SAVED_MODEL)
}

/// What an engine is given, out of the files that belong to a model.
///
/// Of ONNX, TensorFlow Lite and a frozen graph the first file: weights in other files are found from
/// there. Of an IR the XML and the weights beside it. Of a SavedModel its folder.
fn parts(mut listed: Vec<PathBuf>, encoding: Encoding) -> Result<Vec<PathBuf>> {
    match encoding {
        Encoding::OpenVino => {
            let rest = listed.split_off(1);
            listed.extend(match rest.len() {
                0 => weights_beside(&listed[0])?,
                1 => Some(rest.into_iter().next().unwrap_or_default()),
                count => {
                    let message = format!(
                        "model `{}`: expected an OpenVINO IR of 2 files, .xml and .bin, got {}",
                        listed[0].display(),
                        count + 1
                    );
                    return Err(invalid(message));
                }
            });
        }
        Encoding::TensorFlow if !listed[0].is_dir() && names_saved_model(&listed[0]) => {
            let is_graph = Content::of_file(&listed[0])? == Content::Model(Encoding::TensorFlow);
            listed.truncate(1);
            if !is_graph {
                listed[0] = folder_of(&listed[0]).to_owned();
            }
        }
        _ => listed.truncate(1),
    }
    Ok(listed)
}

fn folder_of(file: &Path) -> &Path {
    match file.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    }
}

/// The `.bin` beside an IR's XML; nothing where the model has no weights.
fn weights_beside(xml: &Path) -> Result<Option<PathBuf>> {
    let weights = xml.with_extension(WEIGHTS);
    if weights.symlink_metadata().is_ok() {
        check_kind(&weights)?;
        return Ok(Some(weights));
    }
    let head = xml::ir_head(open_file(xml)?).map_err(|error| file_error("read", xml, error))?;
    if head.constants == 0 {
        return Ok(None);
    }
    let message = format!(
        "model `{}`: expected its weights in `{}`, found nothing there",
        xml.display(),
        weights.display()
    );
    Err(Error::new(ErrorKind::NotFound, message)
        .with_hint("an OpenVINO IR is two files: put the .bin file beside the .xml"))
}
