//! `NAME#info`: what a guest may know of a model, as a model.
//!
//! Its `compute` takes nothing and gives one U8 tensor `info` of JSON: backend, device, inputs, outputs,
//! how a picture becomes an input, the labels of an output. A guest reads it by standard calls, and on
//! another host gets `not-found` and goes on without.

use std::sync::Arc;

use bytes::Bytes;
use infer_core::{
    Arithmetic, Call, Device, Dtype, Error, ErrorKind, Graph, Placement, Result, Session,
    Signature, Tensor, TensorInfo,
};
use infer_models::{ImagePreparation, Model as ModelFiles, Scores};
use serde::Serialize;

use crate::registry::Model;

const SUFFIX: &str = "#info";

/// The name of a model's information.
pub(crate) fn name_of(name: &str) -> String {
    format!("{name}{SUFFIX}")
}

/// The name of the model, of its own name or that of its information.
pub(crate) fn without_suffix(name: &str) -> &str {
    name.strip_suffix(SUFFIX).unwrap_or(name)
}

/// Whether a name is that of a model's information.
pub(crate) fn is_info(name: &str) -> bool {
    name.ends_with(SUFFIX)
}

/// The information of a model, as a model.
pub(crate) fn model(model: &Model, files: Option<&ModelFiles>) -> Result<Model> {
    let json = serde_json::to_vec(&Information::of(model, files)?).map_err(|error| {
        Error::new(
            ErrorKind::RuntimeError,
            "cannot write a model's information",
        )
        .with_source(error)
    })?;
    let output = TensorInfo {
        name: "info".to_owned(),
        dtype: Dtype::U8,
        dimensions: vec![Some(json.len())],
    };
    let signature = Signature {
        outputs: vec![output],
        ..Signature::default()
    };
    let tensor = Tensor::new(Dtype::U8, vec![json.len()], Bytes::from(json))?;
    let graph = Arc::new(Constant { signature, tensor });
    Ok(Model::new(
        name_of(model.name()),
        "infer",
        model.encoding(),
        graph,
    ))
}

#[derive(Serialize)]
struct Information<'a> {
    version: u32,
    name: &'a str,
    encoding: &'static str,
    backend: &'static str,
    device: String,
    inputs: Vec<Input<'a>>,
    outputs: Vec<Output<'a>>,
}

#[derive(Serialize)]
struct Input<'a> {
    #[serde(flatten)]
    tensor: Described<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    image: Option<&'a ImagePreparation>,
}

#[derive(Serialize)]
struct Output<'a> {
    #[serde(flatten)]
    tensor: Described<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    scores: Option<Scores>,
    #[serde(skip_serializing_if = "Option::is_none")]
    labels: Option<Vec<String>>,
}

#[derive(Serialize)]
struct Described<'a> {
    name: &'a str,
    dtype: &'static str,
    dimensions: &'a [Option<usize>],
}

impl<'a> Described<'a> {
    fn of(info: &'a TensorInfo) -> Described<'a> {
        Described {
            name: &info.name,
            dtype: info.dtype.wasi_nn_name(),
            dimensions: &info.dimensions,
        }
    }
}

impl<'a> Information<'a> {
    fn of(model: &'a Model, files: Option<&'a ModelFiles>) -> Result<Information<'a>> {
        let signature = model.signature();
        let input = |info: &'a TensorInfo| Input {
            tensor: Described::of(info),
            image: files.and_then(|files| files.manifest.image(&info.name)),
        };
        let output = |info: &'a TensorInfo| {
            let scores = files.and_then(|files| files.manifest.output(&info.name)?.scores);
            let labels = files
                .map(|files| files.labels(&info.name))
                .transpose()?
                .flatten();
            Ok(Output {
                tensor: Described::of(info),
                scores,
                labels,
            })
        };
        Ok(Information {
            version: 1,
            name: model.name(),
            encoding: model.encoding().name(),
            backend: model.backend(),
            device: model.placement().device.to_string(),
            inputs: signature.inputs.iter().map(input).collect(),
            outputs: signature
                .outputs
                .iter()
                .map(output)
                .collect::<Result<_>>()?,
        })
    }
}

/// A graph that always gives the same tensor.
struct Constant {
    signature: Signature,
    tensor: Tensor,
}

impl Graph for Constant {
    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn placement(&self) -> Placement {
        Placement {
            device: Device::Cpu,
            precision: Arithmetic::F32,
            nodes: None,
            elsewhere: Vec::new(),
        }
    }

    fn concurrency(&self) -> usize {
        tokio::sync::Semaphore::MAX_PERMITS
    }

    fn session(&self) -> Result<Box<dyn Session>> {
        Ok(Box::new(ConstantSession(self.tensor.clone())))
    }
}

struct ConstantSession(Tensor);

impl Session for ConstantSession {
    fn run(&mut self, calls: &mut [Call]) {
        for call in calls {
            call.result = Some(Ok(vec![self.0.clone()]));
        }
    }

    fn reset(&mut self) -> Result<()> {
        Ok(())
    }
}
