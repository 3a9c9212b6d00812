//! From a model's files or bytes to a compiled model.
//!
//! Steps: options to properties; look at what was given (`onnx`, `ir`, `tensorflow`), so that the engine
//! gets nothing that is not of the stated encoding, reaches other files or is answered wrongly; have it
//! read and compile; take the signature from the compiled model (`describe`).

use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use infer_core::{
    Cancel, Dtype, Encoding, Error, ErrorKind, Graph, LoadRequest, Precision, Result, Source,
    Tensor,
};

use crate::checks::Checks;
use crate::describe::Naming;
use crate::graph::{Kept, OpenVinoGraph, Parts};
use crate::library::{Engine, INSTALL};
use crate::native::{Answer, Failure, Model, NativeTensor};
use crate::tensorflow::NamedFile;
use crate::{devices, ir, lite, options, parts, refuse, tensorflow};

/// What the engine reads of the contract's encodings.
pub(crate) const ENCODINGS: &[Encoding] = &[
    Encoding::OpenVino,
    Encoding::Onnx,
    Encoding::TensorFlow,
    Encoding::TensorFlowLite,
];

/// A model that was read, and what is known of it besides.
struct Read {
    model: Model,
    onnx: Option<infer_onnx::Model>,
    stateful: bool,
    kept: Kept,
    /// Until it is compiled, the engine may still read the file.
    _file: Option<NamedFile>,
}

/// Loads a model. The engine cannot be stopped while it reads or compiles.
pub(crate) fn load(
    engine: &'static Engine,
    request: &LoadRequest,
    cancel: &Cancel,
) -> Result<Arc<dyn Graph>> {
    check_parts(request)?;
    check_frontend(engine, request.encoding)?;
    let device = devices::name_of(engine, request.device)?;
    let properties = options::properties(engine, &device, &request.options)?;
    cancel.check()?;
    let read = read(engine, request)?;
    cancel.check()?;
    let compiled = engine
        .core
        .compile(&read.model, &device, &properties)
        .map_err(|failure| unsupported("OpenVINO could not compile the model", failure))?;
    let placement = options::placement(&compiled, request.options.precision, request.device)?;
    let checks = Checks::of(read.onnx.as_ref());
    let graph = OpenVinoGraph::new(
        Parts {
            compiled,
            placement,
            precision: request.options.precision,
            checks,
            naming: naming(request),
            stateful: read.stateful,
            dynamic: read.model.is_dynamic(),
            kept: read.kept,
        },
        read.onnx.as_ref(),
    )?;
    cancel.check()?;
    Ok(Arc::new(graph))
}

fn naming(request: &LoadRequest) -> Naming {
    let is_folder = match &request.source {
        Source::Files(paths) => paths
            .iter()
            .any(|path| path.is_dir() || is_saved_model(path)),
        Source::Memory(_) => false,
    };
    match request.encoding {
        Encoding::TensorFlow if !is_folder => Naming::Nodes,
        _ => Naming::Tensors,
    }
}

fn is_saved_model(path: &Path) -> bool {
    path.file_name()
        .is_some_and(|name| name == "saved_model.pb")
}

fn check_parts(request: &LoadRequest) -> Result<()> {
    let got = match &request.source {
        Source::Files(paths) => paths.len(),
        Source::Memory(parts) => parts.len(),
    };
    let (right, expected) = match request.encoding {
        Encoding::OpenVino => (matches!(got, 1 | 2), "1 or 2 parts"),
        _ => (got == 1, "1 part"),
    };
    match right {
        true => Ok(()),
        false => Err(Error::new(
            ErrorKind::InvalidArgument,
            format!(
                "a model of encoding {} has {expected}, got {got}",
                request.encoding
            ),
        )),
    }
}

/// Without its reader of an encoding the engine would call the model broken.
fn check_frontend(engine: &Engine, encoding: Encoding) -> Result<()> {
    let missing = parts::missing(engine).find(|part| part.reads(encoding));
    match missing {
        None => Ok(()),
        Some(part) => {
            let message = format!("OpenVINO is not whole: {part}");
            Err(Error::new(ErrorKind::UnsupportedOperation, message).with_hint(INSTALL))
        }
    }
}

fn read(engine: &Engine, request: &LoadRequest) -> Result<Read> {
    let precision = request.options.precision;
    match (request.encoding, &request.source) {
        (Encoding::Onnx, Source::Files(paths)) => read_onnx_file(engine, &paths[0], precision),
        (Encoding::Onnx, Source::Memory(parts)) => {
            read_onnx_bytes(engine, parts[0].clone(), precision)
        }
        (Encoding::OpenVino, Source::Files(paths)) => {
            let weights = paths.get(1).map(PathBuf::as_path);
            read_ir_files(engine, &paths[0], weights, precision)
        }
        (Encoding::OpenVino, Source::Memory(parts)) => {
            let weights = parts.get(1).cloned().unwrap_or_default();
            read_ir_bytes(engine, &parts[0], &weights, precision)
        }
        (Encoding::TensorFlow, Source::Files(paths)) => {
            read_tensorflow(engine, &paths[0], precision)
        }
        (Encoding::TensorFlow, Source::Memory(parts)) => {
            refuse::check_numbers(&tensorflow::read_frozen(parts[0].clone())?, precision)?;
            read_plain(engine, NamedFile::holding(&parts[0], "pb")?)
        }
        (_, Source::Files(paths)) => {
            let model = lite::read(&infer_onnx::map_file(&paths[0])?)?;
            refuse::check_numbers(&model, precision)?;
            read_plain(engine, NamedFile::of(&paths[0], "tflite")?)
        }
        (_, Source::Memory(parts)) => {
            refuse::check_numbers(&lite::read(&parts[0])?, precision)?;
            read_plain(engine, NamedFile::holding(&parts[0], "tflite")?)
        }
    }
}

fn read_onnx_file(engine: &Engine, path: &Path, precision: Precision) -> Result<Read> {
    let bytes = infer_onnx::map_file(path)?;
    let model = infer_onnx::decode(bytes.clone())?;
    let has_files = infer_onnx::check_files(&model, Some(infer_onnx::folder_of(path)))?;
    refuse::check(&model, precision)?;
    // The engine goes by a file's ending.
    let by_name = path.extension().is_some_and(|ending| ending == "onnx");
    let answer = match by_name || has_files {
        true => engine.core.read_file(path, None),
        false => engine.core.read_memory(&bytes, None),
    };
    Ok(onnx_read(read_as_onnx(answer)?, model))
}

fn read_onnx_bytes(engine: &Engine, bytes: Bytes, precision: Precision) -> Result<Read> {
    let model = infer_onnx::decode(bytes.clone())?;
    infer_onnx::check_files(&model, None)?;
    refuse::check(&model, precision)?;
    let read = read_as_onnx(engine.core.read_memory(&bytes, None))?;
    Ok(onnx_read(read, model))
}

fn read_as_onnx(answer: Answer<Model>) -> Result<Model> {
    answer.map_err(|failure| unsupported("OpenVINO could not read the model", failure))
}

fn onnx_read(model: Model, onnx: infer_onnx::Model) -> Read {
    Read {
        model,
        onnx: Some(onnx),
        stateful: false,
        kept: None,
        _file: None,
    }
}

fn read_ir_files(
    engine: &Engine,
    xml: &Path,
    weights: Option<&Path>,
    precision: Precision,
) -> Result<Read> {
    let text = infer_onnx::map_file(xml)?;
    let stateful = ir::is_stateful(&text)?;
    // The engine takes a file of the same name itself.
    let beside = xml.with_extension("bin");
    let constants = match weights {
        Some(weights) => infer_onnx::map_file(weights)?,
        None if beside.is_file() => infer_onnx::map_file(&beside)?,
        None => Bytes::new(),
    };
    refuse::check_numbers(&ir::layers::read(&text, &constants)?, precision)?;
    let model = engine.core.read_file(xml, weights).map_err(not_ir)?;
    Ok(Read {
        model,
        onnx: None,
        stateful,
        kept: None,
        _file: None,
    })
}

/// The engine does not copy the weights, so they are kept for as long as the graph.
fn read_ir_bytes(
    engine: &Engine,
    xml: &Bytes,
    weights: &Bytes,
    precision: Precision,
) -> Result<Read> {
    let stateful = ir::is_stateful(xml)?;
    ir::check_names_no_file(xml)?;
    refuse::check_numbers(&ir::layers::read(xml, weights)?, precision)?;
    let kept = Tensor::copied_from(Dtype::U8, vec![weights.len()], weights)?.host()?;
    let tensor = weights_tensor(&kept)
        .map_err(|failure| unsupported("OpenVINO could not take the weights", failure))?;
    let model = engine
        .core
        .read_memory(xml, tensor.as_ref())
        .map_err(not_ir)?;
    Ok(Read {
        model,
        onnx: None,
        stateful,
        kept: Some(kept),
        _file: None,
    })
}

#[allow(unsafe_code, reason = "lending the weights to the engine")]
fn weights_tensor(weights: &Bytes) -> Answer<Option<NativeTensor>> {
    if weights.is_empty() {
        return Ok(None);
    }
    let shape = [weights.len()];
    // SAFETY: the caller keeps the bytes for as long as the graph; the engine only reads weights.
    let tensor = unsafe { NativeTensor::over(Dtype::U8, &shape, weights.as_ptr().cast_mut()) };
    tensor.map(Some)
}

fn read_tensorflow(engine: &Engine, path: &Path, precision: Precision) -> Result<Read> {
    let folder = match path.file_name() {
        Some(_) if is_saved_model(path) => path.parent(),
        _ => path.is_dir().then_some(path),
    };
    let Some(folder) = folder else {
        let graph = tensorflow::read_frozen(infer_onnx::map_file(path)?)?;
        refuse::check_numbers(&graph, precision)?;
        return read_plain(engine, NamedFile::of(path, "pb")?);
    };
    let description = folder.join("saved_model.pb");
    if !description.is_file() {
        let message = format!(
            "not a TensorFlow SavedModel: expected `{}`",
            description.display()
        );
        return Err(Error::new(ErrorKind::InvalidEncoding, message));
    }
    let graph = tensorflow::read_saved(infer_onnx::map_file(&description)?)?;
    refuse::check_numbers(&graph, precision)?;
    let answer = engine.core.read_file(folder, None);
    Ok(plain_read(read_other(answer)?, None))
}

fn read_plain(engine: &Engine, file: NamedFile) -> Result<Read> {
    let model = read_other(engine.core.read_file(&file.path, None))?;
    Ok(plain_read(model, Some(file)))
}

fn plain_read(model: Model, file: Option<NamedFile>) -> Read {
    Read {
        model,
        onnx: None,
        stateful: false,
        kept: None,
        _file: file,
    }
}

fn read_other(answer: Answer<Model>) -> Result<Model> {
    answer.map_err(|failure| unsupported("OpenVINO could not read the model", failure))
}

/// An operator that the engine lacks is told from what is no model by the engine's text alone.
fn not_ir(failure: Failure) -> Error {
    const LACKS: [&str; 3] = [
        "doesn't contain the operation",
        "nsupported",
        "not supported",
    ];
    if LACKS.iter().any(|lacks| failure.text.contains(lacks)) {
        return unsupported("OpenVINO could not read the model", failure);
    }
    Error::new(ErrorKind::InvalidEncoding, "not a valid OpenVINO model").with_source(failure)
}

fn unsupported(message: &str, failure: Failure) -> Error {
    Error::new(ErrorKind::UnsupportedOperation, message)
        .with_source(failure)
        .with_hint("another backend may run this model")
}
