//! From the bytes of a model to a plan that tract can run.
//!
//! Steps: map or take the bytes; decode; check what tract would answer badly (`refuse`, `lite`); let tract
//! parse, type and simplify; take the signature from tract, which knows better than the file's own
//! declarations of outputs; plan (`plans`).

use std::collections::HashSet;
use std::fs::File;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use infer_core::{
    Cancel, Encoding, Error, ErrorKind, Graph, LoadRequest, Result, SharedDimension, Signature,
    Source, TensorInfo,
};
use tract_onnx::pb::tensor_proto::DataType;
use tract_onnx::pb::tensor_shape_proto::dimension::Value as DimensionValue;
use tract_onnx::pb::{GraphProto, ModelProto, ValueInfoProto, type_proto};
use tract_onnx::prelude::*;
use tract_onnx::tract_hir::internal::{DimLike, Framework, TractError};

use crate::convert::dtype_of;
use crate::graph::{TractGraph, shared_dimensions};
use crate::plans::{KEPT, Plan, Plans};
use crate::reading::{Reading, Unread, simplify};
use crate::{limits, lite, refuse, repair, rewrite, structure};

/// Loads a model from its one part.
pub(crate) fn load(request: &LoadRequest, cancel: &Cancel) -> Result<Arc<dyn Graph>> {
    let (bytes, folder) = read(request)?;
    if request.encoding == Encoding::TensorFlowLite {
        let (mut typed, declared) = lite::read(&bytes)?;
        simplify(&mut typed, cancel)?;
        let signature = declared.signature(&typed)?;
        let plan = Plan::of(typed, cancel)?;
        return Ok(Arc::new(TractGraph::new(
            Plans::Any(Arc::new(plan)),
            signature,
        )));
    }
    let proto = parse_bytes(&bytes)?;
    drop(bytes);
    cancel.check()?;
    load_model(proto, folder.as_deref(), cancel)
}

/// Loads a decoded model; `folder` is where it may name further files.
pub(crate) fn load_model(
    mut proto: ModelProto,
    folder: Option<&str>,
    cancel: &Cancel,
) -> Result<Arc<dyn Graph>> {
    let onnx = limits::measured(repair::reader());
    let graph = graph_of(&proto)?;
    structure::check(graph)?;
    refuse::check_model(&proto, graph, &onnx, folder)?;
    let declared = Declared::of(graph);
    rewrite::rewrite(&mut proto)?;
    let parsed = onnx
        .parse(&proto, folder)
        .map_err(|e| rejected("parse", e))?;
    if let Some(name) = parsed.unresolved_inputs.first() {
        return Err(not_onnx(&format!("nothing computes `{name}`")));
    }
    let reading = Reading::new(parsed, proto)?;
    let (signature, simplified) = match reading.for_any_shapes(cancel) {
        Ok(simplified) => (declared.signature(&simplified)?, Some(simplified)),
        Err(Unread::SoFar(error)) if reading.is_open() => (declared.by_file().ok_or(error)?, None),
        Err(unread) => return Err(unread.into()),
    };
    let plans = match simplified {
        Some(simplified) if !(reading.is_open() && reading.convolves()) => {
            Plans::Any(Arc::new(Plan::of(simplified, cancel)?))
        }
        // Bytes are what guests bring, who pay for them once.
        _ if folder.is_none() => Plans::by_shapes(reading, 1),
        _ => Plans::by_shapes(reading, KEPT),
    };
    Ok(Arc::new(TractGraph::new(plans, signature)))
}

pub(crate) fn graph_of(proto: &ModelProto) -> Result<&GraphProto> {
    proto
        .graph
        .as_ref()
        .ok_or_else(|| not_onnx("it has no graph"))
}

/// The model's bytes, and the folder that it may name further files in.
fn read(request: &LoadRequest) -> Result<(Bytes, Option<String>)> {
    match &request.source {
        Source::Memory(parts) => match parts.as_slice() {
            [bytes] => Ok((bytes.clone(), None)),
            _ => Err(wrong_parts(request.encoding, parts.len())),
        },
        Source::Files(paths) => {
            let [path] = paths.as_slice() else {
                return Err(wrong_parts(request.encoding, paths.len()));
            };
            let folder = path.parent().and_then(Path::to_str).unwrap_or("");
            Ok((Bytes::from_owner(map_file(path)?), Some(folder.to_owned())))
        }
    }
}

fn parse_bytes(mut bytes: &[u8]) -> Result<ModelProto> {
    if bytes.is_empty() {
        return Err(not_onnx("it is empty"));
    }
    tract_onnx::onnx()
        .proto_model_for_read(&mut bytes)
        .map_err(|error| not_onnx("it does not decode").with_source(flat(error)))
}

#[allow(unsafe_code, reason = "mapping a file")]
fn map_file(path: &Path) -> Result<memmap2::Mmap> {
    let failed = |error: std::io::Error| {
        Error::new(
            ErrorKind::NotFound,
            format!("cannot read `{}`", path.display()),
        )
        .with_source(error)
    };
    let file = File::open(path).map_err(failed)?;
    // SAFETY: the map is only read, and only until this load ends. A file that somebody truncates
    // meanwhile would fault: model files belong to the person who runs the host, not to a guest.
    unsafe { memmap2::Mmap::map(&file) }.map_err(failed)
}

/// What the file itself says of inputs and outputs.
pub(crate) struct Declared {
    pub(crate) inputs: Vec<String>,
    pub(crate) outputs: Vec<String>,
    pub(crate) shared: Vec<SharedDimension>,
    /// What it says of each input and each output, where it says the dtype and the rank of all.
    pub(crate) infos: Option<[Vec<TensorInfo>; 2]>,
}

impl Declared {
    fn of(graph: &GraphProto) -> Declared {
        let inputs = input_declarations(graph);
        let of_inputs: Option<_> = inputs.iter().copied().map(declared_info).collect();
        let of_outputs: Option<_> = graph.output.iter().map(declared_info).collect();
        Declared {
            infos: of_inputs.zip(of_outputs).map(<[Vec<TensorInfo>; 2]>::from),
            inputs: inputs.iter().map(|input| input.name.clone()).collect(),
            outputs: graph
                .output
                .iter()
                .map(|output| output.name.clone())
                .collect(),
            shared: shared_dimensions(&inputs),
        }
    }

    /// By the file alone.
    fn by_file(self) -> Option<Signature> {
        let [inputs, outputs] = self.infos?;
        Some(Signature {
            inputs,
            outputs,
            stateful: false,
            shared: self.shared,
        })
    }

    fn signature(&self, model: &TypedModel) -> Result<Signature> {
        Ok(Signature {
            inputs: infos(&self.inputs, model, &model.inputs)?,
            outputs: infos(&self.outputs, model, &model.outputs)?,
            stateful: false,
            shared: self.shared.clone(),
        })
    }
}

fn infos(names: &[String], model: &TypedModel, outlets: &[OutletId]) -> Result<Vec<TensorInfo>> {
    names
        .iter()
        .zip(outlets)
        .map(|(name, outlet)| {
            let fact = model
                .outlet_fact(*outlet)
                .map_err(|e| rejected("describe", e))?;
            let dtype = dtype_of(fact.datum_type).ok_or_else(|| {
                let message = format!(
                    "tract has no tensors of dtype {:?} (`{name}`)",
                    fact.datum_type
                );
                Error::new(ErrorKind::UnsupportedOperation, message)
            })?;
            let dimensions = fact
                .shape
                .iter()
                .map(|dimension| dimension.to_usize().ok())
                .collect();
            Ok(TensorInfo {
                name: name.clone(),
                dtype,
                dimensions,
            })
        })
        .collect()
}

fn declared_info(value: &ValueInfoProto) -> Option<TensorInfo> {
    let type_proto::Value::TensorType(tensor) = value.r#type.as_ref()?.value.as_ref()?;
    let dtype = DatumType::try_from(DataType::try_from(tensor.elem_type).ok()?).ok()?;
    let dimensions = tensor.shape.as_ref()?.dim.iter();
    let dimensions = dimensions.map(|dimension| match dimension.value {
        Some(DimensionValue::DimValue(size)) => usize::try_from(size).ok(),
        _ => None,
    });
    Some(TensorInfo {
        name: value.name.clone(),
        dtype: dtype_of(dtype)?,
        dimensions: dimensions.collect(),
    })
}

/// The graph's inputs that a caller gives: an initialiser of the same name is a default value.
fn input_declarations(graph: &GraphProto) -> Vec<&ValueInfoProto> {
    let initialised: HashSet<&str> = graph
        .initializer
        .iter()
        .map(|tensor| tensor.name.as_str())
        .collect();
    graph
        .input
        .iter()
        .filter(|input| !initialised.contains(input.name.as_str()))
        .collect()
}

/// The names of an input's symbolic dimensions, by position.
pub(crate) fn symbols(declaration: &ValueInfoProto) -> Vec<Option<&str>> {
    let value = declaration.r#type.as_ref().and_then(|t| t.value.as_ref());
    let Some(type_proto::Value::TensorType(tensor)) = value else {
        return Vec::new();
    };
    let Some(shape) = &tensor.shape else {
        return Vec::new();
    };
    shape
        .dim
        .iter()
        .map(|dimension| match &dimension.value {
            // Anything that is not a plain name may be an expression, which the engine resolves.
            Some(DimensionValue::DimParam(name))
                if !name.is_empty() && name.chars().all(|c| c.is_alphanumeric() || c == '_') =>
            {
                Some(name.as_str())
            }
            _ => None,
        })
        .collect()
}

fn wrong_parts(encoding: Encoding, got: usize) -> Error {
    let model = match encoding {
        Encoding::Onnx => "an ONNX model",
        _ => "a TensorFlow Lite model",
    };
    Error::new(
        ErrorKind::InvalidArgument,
        format!("{model} has 1 part, got {got}"),
    )
}

fn not_onnx(why: &str) -> Error {
    Error::new(
        ErrorKind::InvalidEncoding,
        format!("not a valid ONNX model: {why}"),
    )
}

pub(crate) fn rejected(step: &str, error: TractError) -> Error {
    let error = match error.downcast::<Error>() {
        // A limit of ours.
        Ok(error) => return error,
        Err(error) => error,
    };
    Error::new(
        ErrorKind::UnsupportedOperation,
        format!("tract could not {step} the model"),
    )
    .with_source(flat(error))
    .with_hint("another backend may run this model")
}

/// tract's chain of causes on one line.
pub(crate) fn flat(error: TractError) -> Box<dyn std::error::Error + Send + Sync> {
    let chain: Vec<String> = error.chain().map(|cause| cause.to_string()).collect();
    chain.join(": ").into()
}
