//! Our engines behind the traits of `wasmtime-wasi-nn`.
//!
//! A [`Backend`] becomes the peer's backends, one per encoding; a [`Graph`] becomes a peer's graph; a context
//! holds slots for inputs and outputs, as the peer's own ONNX backend does. It behaves and copies as that one:
//! an input is copied into its slot and from there into the engine's tensor, an output is copied out of the
//! engine's, into its slot, and once more when it is asked for. An input may be named by its position (`0`),
//! and one given twice counts as given last.
//!
//! It has no conversion of element types, which costs the peer's backend further copies and every dtype but
//! f32. Runs of one graph wait for each other only beyond the graph's own concurrency.

use std::sync::{Arc, Condvar, Mutex, PoisonError};

use bytes::Bytes;
use infer_core::{
    Backend, Call, Cancel, Device, Dtype, Encoding, Graph, LoadOptions, LoadRequest, Session,
    Source, TensorInfo, run_engine,
};
use wasmtime_wasi_nn::backend::{
    BackendError, BackendExecutionContext, BackendFromDir, BackendGraph, BackendInner, Id,
    NamedTensor,
};
use wasmtime_wasi_nn::wit::{ExecutionTarget, GraphEncoding, TensorType};
use wasmtime_wasi_nn::{ExecutionContext, Tensor};

type Result<T> = std::result::Result<T, BackendError>;

/// An engine as the peer's backends, one for each encoding that it reads.
pub fn backends(engine: &Arc<dyn Backend>) -> Vec<wasmtime_wasi_nn::Backend> {
    let of_encoding = |encoding: &Encoding| {
        wasmtime_wasi_nn::Backend::from(PeerBackend {
            engine: engine.clone(),
            encoding: *encoding,
        })
    };
    engine.encodings().iter().map(of_encoding).collect()
}

/// A loaded graph of the engine of this name as a graph of the peer's.
pub fn graph(engine: &'static str, graph: Arc<dyn Graph>) -> wasmtime_wasi_nn::Graph {
    let turns = Arc::new(Turns {
        free: Mutex::new(graph.concurrency().max(1)),
        freed: Condvar::new(),
    });
    let graph = PeerGraph {
        engine,
        graph,
        turns,
    };
    (Box::new(graph) as Box<dyn BackendGraph>).into()
}

struct PeerBackend {
    engine: Arc<dyn Backend>,
    encoding: Encoding,
}

impl BackendInner for PeerBackend {
    fn encoding(&self) -> GraphEncoding {
        match self.encoding {
            Encoding::OpenVino => GraphEncoding::Openvino,
            Encoding::Onnx => GraphEncoding::Onnx,
            Encoding::TensorFlow => GraphEncoding::Tensorflow,
            Encoding::PyTorch => GraphEncoding::Pytorch,
            Encoding::TensorFlowLite => GraphEncoding::Tensorflowlite,
            Encoding::Ggml => GraphEncoding::Ggml,
        }
    }

    fn load(
        &mut self,
        parts: &[&[u8]],
        target: ExecutionTarget,
    ) -> Result<wasmtime_wasi_nn::Graph> {
        let parts = parts.iter().map(|part| Bytes::copy_from_slice(part));
        let request = LoadRequest {
            source: Source::Memory(parts.collect()),
            encoding: self.encoding,
            device: match target {
                ExecutionTarget::Cpu => Device::Cpu,
                ExecutionTarget::Gpu => Device::Gpu(0),
                ExecutionTarget::Tpu => Device::Npu,
            },
            options: LoadOptions::default(),
        };
        let name = self.engine.name();
        let loaded = run_engine(name, || self.engine.load(&request, &Cancel::default()));
        Ok(graph(name, loaded.map_err(failed)?))
    }

    fn as_dir_loadable(&mut self) -> Option<&mut dyn BackendFromDir> {
        None
    }
}

struct PeerGraph {
    engine: &'static str,
    graph: Arc<dyn Graph>,
    turns: Arc<Turns>,
}

impl BackendGraph for PeerGraph {
    fn init_execution_context(&self) -> Result<ExecutionContext> {
        let signature = self.graph.signature();
        for info in signature.inputs.iter().chain(&signature.outputs) {
            tensor_type(info.dtype)?;
        }
        let context = PeerContext {
            engine: self.engine,
            graph: self.graph.clone(),
            turns: self.turns.clone(),
            session: Mutex::new(None),
            inputs: vec![None; signature.inputs.len()],
            outputs: vec![None; signature.outputs.len()],
        };
        Ok((Box::new(context) as Box<dyn BackendExecutionContext>).into())
    }
}

struct PeerContext {
    engine: &'static str,
    graph: Arc<dyn Graph>,
    turns: Arc<Turns>,
    /// Made when it is first needed, and again after a panic. The lock is for `Sync` alone.
    session: Mutex<Option<Box<dyn Session>>>,
    inputs: Vec<Option<Tensor>>,
    outputs: Vec<Option<Tensor>>,
}

impl BackendExecutionContext for PeerContext {
    fn set_input(&mut self, id: Id, tensor: &Tensor) -> Result<()> {
        let inputs = &self.graph.signature().inputs;
        let index = find(&id, inputs)?;
        check(&inputs[index], tensor)?;
        self.inputs[index] = Some(tensor.clone());
        Ok(())
    }

    fn get_output(&mut self, id: Id) -> Result<Tensor> {
        let index = find(&id, &self.graph.signature().outputs)?;
        self.outputs[index]
            .clone()
            .ok_or_else(|| refused(format!("there is no output {index} before `compute`")))
    }

    fn compute(&mut self, inputs: Option<Vec<NamedTensor>>) -> Result<Option<Vec<NamedTensor>>> {
        let Some(inputs) = inputs else {
            self.run()?;
            return Ok(None);
        };
        self.inputs.fill(None);
        for NamedTensor { name, tensor } in inputs {
            self.set_input(Id::Name(name), &tensor)?;
        }
        self.run()?;
        let infos = self.graph.signature().outputs.iter();
        let outputs = infos.zip(&self.outputs).map(|(info, output)| {
            let tensor = output
                .clone()
                .ok_or_else(|| refused(format!("output `{}` is missing", info.name)))?;
            Ok(NamedTensor {
                name: info.name.clone(),
                tensor,
            })
        });
        outputs.collect::<Result<_>>().map(Some)
    }
}

impl PeerContext {
    /// From the slots of the inputs to those of the outputs.
    fn run(&mut self) -> Result<()> {
        let slots = self.inputs.iter().map(|slot| {
            let tensor = slot.as_ref().map(engine_tensor);
            tensor.transpose()
        });
        let slots = slots.collect::<Result<_>>()?;
        let inputs = self.graph.signature().check_slots(slots);
        let mut call = [Call::new(inputs.map_err(failed)?, Cancel::default())];
        let session = self
            .session
            .get_mut()
            .unwrap_or_else(PoisonError::into_inner);
        let kept = session.take();
        let _turn = self.turns.take();
        let used = run_engine(self.engine, || {
            let mut session = kept.map_or_else(|| self.graph.session(), Ok)?;
            session.run(&mut call);
            Ok(session)
        });
        *session = Some(used.map_err(failed)?);
        let [call] = call;
        let outputs = call
            .result
            .ok_or_else(|| refused("the engine gave no result".to_owned()))?;
        for (slot, output) in self.outputs.iter_mut().zip(outputs.map_err(failed)?) {
            *slot = Some(peer_tensor(&output)?);
        }
        Ok(())
    }
}

/// As many as may run at once on one graph.
struct Turns {
    free: Mutex<usize>,
    freed: Condvar,
}

struct Turn<'a>(&'a Turns);

impl Turns {
    fn take(&self) -> Turn<'_> {
        let free = self.free.lock().unwrap_or_else(PoisonError::into_inner);
        let mut free = self
            .freed
            .wait_while(free, |free| *free == 0)
            .unwrap_or_else(PoisonError::into_inner);
        *free -= 1;
        Turn(self)
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        let mut free = self.0.free.lock().unwrap_or_else(PoisonError::into_inner);
        *free += 1;
        self.0.freed.notify_one();
    }
}

/// An unknown name may be a position in digits.
fn find(id: &Id, infos: &[TensorInfo]) -> Result<usize> {
    let position = |index: usize| Some(index).filter(|index| *index < infos.len());
    let found = match id {
        Id::Index(index) => usize::try_from(*index).ok().and_then(position),
        Id::Name(name) => infos
            .iter()
            .position(|info| info.name == *name)
            .or_else(|| name.parse().ok().and_then(position)),
    };
    found.ok_or_else(|| {
        refused(format!(
            "expected one of {} tensors, got {id:?}",
            infos.len()
        ))
    })
}

fn check(info: &TensorInfo, tensor: &Tensor) -> Result<()> {
    let (dtype, shape) = (dtype(tensor.ty), shape(tensor));
    match info.accepts(dtype, &shape) {
        true => Ok(()),
        false => Err(refused(format!("expected {info}, got {dtype} {shape:?}"))),
    }
}

fn engine_tensor(tensor: &Tensor) -> Result<infer_core::Tensor> {
    infer_core::Tensor::copied_from(dtype(tensor.ty), shape(tensor), &tensor.data).map_err(failed)
}

fn peer_tensor(tensor: &infer_core::Tensor) -> Result<Tensor> {
    let dimensions = tensor.shape().iter().map(|size| u32::try_from(*size));
    Ok(Tensor {
        dimensions: dimensions
            .collect::<std::result::Result<_, _>>()
            .map_err(|error| BackendError::BackendAccess(wasmtime::Error::new(error)))?,
        ty: tensor_type(tensor.dtype())?,
        data: tensor.host().map_err(failed)?.to_vec(),
    })
}

fn shape(tensor: &Tensor) -> Vec<usize> {
    tensor
        .dimensions
        .iter()
        .map(|size| *size as usize)
        .collect()
}

fn dtype(ty: TensorType) -> Dtype {
    match ty {
        TensorType::Fp16 => Dtype::F16,
        TensorType::Fp32 => Dtype::F32,
        TensorType::Fp64 => Dtype::F64,
        TensorType::Bf16 => Dtype::BF16,
        TensorType::U8 => Dtype::U8,
        TensorType::I32 => Dtype::I32,
        TensorType::I64 => Dtype::I64,
    }
}

fn tensor_type(dtype: Dtype) -> Result<TensorType> {
    Ok(match dtype {
        Dtype::F16 => TensorType::Fp16,
        Dtype::F32 => TensorType::Fp32,
        Dtype::F64 => TensorType::Fp64,
        Dtype::BF16 => TensorType::Bf16,
        Dtype::U8 => TensorType::U8,
        Dtype::I32 => TensorType::I32,
        Dtype::I64 => TensorType::I64,
        other => return Err(BackendError::UnsupportedTensorType(other.to_string())),
    })
}

/// The peer has one kind of error for everything that an engine says.
fn failed(error: infer_core::Error) -> BackendError {
    BackendError::BackendAccess(wasmtime::Error::new(error))
}

fn refused(message: String) -> BackendError {
    BackendError::BackendAccess(wasmtime::Error::msg(message))
}
