//! wasi-nn for components: `wasi:nn@0.2.0-rc-2024-10-28`.
//!
//! `inference` and `errors` are generated. `tensor` and `graph` are linked by hand, because generated
//! code would copy each list into a `Vec` first, and would trap on one that is larger than wasmtime's own
//! limit: a tensor is copied once, out of the guest's memory, and a model only after it was admitted.
//!
//! A tensor's constructor cannot fail. What is wrong with a tensor is kept with it and answered when it is
//! used.

use std::sync::Arc;

use bytes::Bytes;
use infer_core::{Device, Dtype, Encoding, Error, ErrorKind, Tensor, clip, clip_to};
use wasmtime::component::{HasSelf, Linker, Resource, ResourceType, WasmList};
use wasmtime::{StoreContextMut, format_err};

use crate::host::Host;

use crate::nn::state::{
    GuestContext, GuestGraph, Held, MOST_DIMENSIONS, NnState, Target, check_parts, check_rank,
};
use crate::nn::usage::{Charge, Handle};
use crate::registry::Model;
use generated::wasi::nn::errors;
use generated::wasi::nn::errors::ErrorCode;
use generated::wasi::nn::graph::{ExecutionTarget, GraphEncoding};
use generated::wasi::nn::tensor::TensorType;

const TENSOR: &str = "wasi:nn/tensor@0.2.0-rc-2024-10-28";
const GRAPH: &str = "wasi:nn/graph@0.2.0-rc-2024-10-28";
const INFERENCE: &str = "wasi:nn/inference@0.2.0-rc-2024-10-28";

/// The longest text that an error hands to a guest, in bytes.
const LONGEST_TEXT: usize = 4096;

#[allow(missing_docs, unreachable_pub, reason = "generated")]
mod generated {
    wasmtime::component::bindgen!({
        world: "ml",
        path: "wit/wasi-nn.wit",
        with: {
            "wasi:nn/graph.graph": crate::nn::state::GuestGraph,
            "wasi:nn/tensor.tensor": super::GuestTensor,
            "wasi:nn/inference.graph-execution-context": crate::nn::state::GuestContext,
            "wasi:nn/errors.error": super::GuestError,
        },
        imports: { default: async | trappable },
    });
}

/// A guest's tensor, or what was wrong when it was made.
#[allow(unreachable_pub, reason = "generated code re-exports it")]
pub struct GuestTensor {
    dtype: Dtype,
    content: Result<Held, Malformed>,
    _handle: Handle,
}

/// What is wrong with a tensor, and the dimensions that it was given, as far as they are kept.
struct Malformed {
    error: Error,
    dimensions: Vec<u32>,
}

impl GuestTensor {
    pub(crate) fn dtype(&self) -> Dtype {
        self.dtype
    }

    /// A tensor of the host's that the guest is given, as it is, under the name of an input or output.
    pub(crate) fn of_host(nn: &NnState, held: Held, name: &str) -> Result<GuestTensor, Error> {
        check_dimensions(&held, name)?;
        let handle = nn.usage.handle()?;
        Ok(GuestTensor {
            dtype: held.tensor.dtype(),
            content: Ok(held),
            _handle: handle,
        })
    }

    /// The tensor, which is no longer the guest's.
    pub(crate) fn into_tensor(self, name: &str) -> Result<Tensor, Error> {
        match self.content {
            Ok(held) => Ok(held.tensor),
            Err(Malformed { error, .. }) => {
                let message = format!("`{}`: {error}", clip(name));
                Err(Error::new(error.kind(), message))
            }
        }
    }

    fn dimensions(&self) -> Vec<u32> {
        match &self.content {
            // All of them fit: `check_dimensions`, and those of a guest's tensor are of this type.
            Ok(held) => held
                .tensor
                .shape()
                .iter()
                .map(|size| *size as u32)
                .collect(),
            Err(malformed) => malformed.dimensions.clone(),
        }
    }
}

/// What a guest reads of a failure.
#[allow(unreachable_pub, reason = "generated code re-exports it")]
pub struct GuestError {
    code: ErrorCode,
    text: String,
    _handle: Handle,
}

/// What a call answers: a value, an error for the guest, or a trap.
type Answer<T> = wasmtime::Result<Result<T, Resource<GuestError>>>;

/// Adds `wasi:nn` to the linker.
pub(crate) fn add_to_linker(linker: &mut Linker<Host>, waits: Waits) -> wasmtime::Result<()> {
    add_tensor(linker)?;
    add_graph(linker)?;
    add_inference(linker, waits)?;
    errors::add_to_linker::<_, HasSelf<Host>>(linker, |host| host)
}

fn add_tensor(linker: &mut Linker<Host>) -> wasmtime::Result<()> {
    let mut tensor = linker.instance(TENSOR)?;
    tensor.resource(
        "tensor",
        ResourceType::host::<GuestTensor>(),
        |mut store, rep| {
            store
                .data_mut()
                .table
                .delete(Resource::<GuestTensor>::new_own(rep))?;
            Ok(())
        },
    )?;
    tensor.func_wrap(
        "[constructor]tensor",
        |store, (dimensions, ty, data): (WasmList<u32>, TensorType, WasmList<u8>)| {
            Ok((new_tensor(store, &dimensions, dtype(ty), &data)?,))
        },
    )?;
    tensor.func_wrap(
        "[method]tensor.dimensions",
        |mut store, (tensor,): (Resource<GuestTensor>,)| {
            Ok((store.data_mut().table.get(&tensor)?.dimensions(),))
        },
    )?;
    tensor.func_wrap(
        "[method]tensor.ty",
        |mut store, (tensor,): (Resource<GuestTensor>,)| {
            let dtype = store.data_mut().table.get(&tensor)?.dtype;
            // `types` has the name of any other.
            Ok((tensor_type(dtype).unwrap_or(TensorType::U8),))
        },
    )?;
    tensor.func_wrap(
        "[method]tensor.data",
        |mut store, (tensor,): (Resource<GuestTensor>,)| {
            let tensor = store.data_mut().table.get(&tensor)?;
            // The host's own buffer goes to wasmtime, which copies it into the guest's memory.
            let bytes = match &tensor.content {
                Ok(held) => held.tensor.host().map_err(trap)?,
                // What a malformed tensor held was not kept.
                Err(_) => Bytes::new(),
            };
            Ok((bytes,))
        },
    )
}

/// Makes a tensor; what is wrong with it is kept in it.
pub(crate) fn new_tensor(
    mut store: StoreContextMut<'_, Host>,
    dimensions: &WasmList<u32>,
    dtype: Dtype,
    data: &WasmList<u8>,
) -> wasmtime::Result<Resource<GuestTensor>> {
    let given = dimensions.as_le_slice(&store);
    let kept = || {
        let kept = given.iter().take(MOST_DIMENSIONS);
        kept.map(|dimension| u32::from_le(*dimension))
    };
    let nn = &store.data().nn;
    let (content, handle) = match nn.usage.handle() {
        Ok(handle) => {
            let shape = || kept().map(|dimension| dimension as usize).collect();
            let content = check_rank(given.len())
                .and_then(|()| nn.tensor(dtype, shape(), data.as_le_slice(&store)));
            (content, handle)
        }
        // Past these handles no value is left that could tell the guest: it ends here.
        Err(error) => (Err(error), nn.usage.handle_for_failure().map_err(trap)?),
    };
    let content = content.map_err(|error| Malformed {
        error,
        dimensions: kept().collect(),
    });
    let tensor = GuestTensor {
        dtype,
        content,
        _handle: handle,
    };
    Ok(store.data_mut().table.push(tensor)?)
}

fn add_graph(linker: &mut Linker<Host>) -> wasmtime::Result<()> {
    let mut graph = linker.instance(GRAPH)?;
    graph.resource(
        "graph",
        ResourceType::host::<GuestGraph>(),
        |mut store, rep| {
            store
                .data_mut()
                .table
                .delete(Resource::<GuestGraph>::new_own(rep))?;
            Ok(())
        },
    )?;
    graph.func_wrap_async(
        "load",
        |store, (parts, encoding, target): (Parts, GraphEncoding, ExecutionTarget)| {
            Box::new(async move { Ok((load(store, parts, encoding, target).await?,)) })
        },
    )?;
    graph.func_wrap("load-by-name", |mut store, (name,): (String,)| {
        let host = store.data_mut();
        let graph = host.nn.load_by_name(&name);
        Ok((host.answer("load-by-name", graph)?,))
    })?;
    graph.func_wrap(
        "[method]graph.init-execution-context",
        |mut store, (graph,): (Resource<GuestGraph>,)| {
            let host = store.data_mut();
            let graph = host.table.get(&graph)?;
            let context = host.nn.context(graph);
            Ok((host.answer("init-execution-context", context)?,))
        },
    )
}

type Parts = WasmList<WasmList<u8>>;

async fn load(
    mut store: StoreContextMut<'_, Host>,
    parts: Parts,
    encoding: GraphEncoding,
    target: ExecutionTarget,
) -> Answer<Resource<GuestGraph>> {
    let graph = match admit(&mut store, &parts, target)? {
        Ok((parts, admitted)) => {
            let copies = parts
                .iter()
                .map(|part| Bytes::copy_from_slice(part.as_le_slice(&store)));
            let copies = copies.collect();
            store
                .data()
                .nn
                .load(copies, self::encoding(encoding), admitted)
                .await
        }
        Err(error) => Err(error),
    };
    store.data_mut().answer("load", graph)
}

type Admitted = (Vec<WasmList<u8>>, (Device, Charge));

/// Looks at a guest's model before anything of it is copied.
fn admit(
    store: &mut StoreContextMut<'_, Host>,
    parts: &Parts,
    target: ExecutionTarget,
) -> wasmtime::Result<Result<Admitted, Error>> {
    if let Err(error) = check_parts(parts.len()) {
        return Ok(Err(error));
    }
    let parts: Vec<WasmList<u8>> = parts.iter(&mut *store)?.collect::<wasmtime::Result<_>>()?;
    let bytes = parts.iter().map(|part| part.len() as u64).sum();
    let admitted = store.data().nn.admit_load(target.into(), bytes);
    Ok(admitted.map(|admitted| (parts, admitted)))
}

impl Host {
    /// Puts a value into the guest's table, or an error.
    fn answer<T: Send + 'static>(
        &mut self,
        call: &str,
        value: Result<T, Error>,
    ) -> Answer<Resource<T>> {
        match value {
            Ok(value) => Ok(Ok(self.table.push(value)?)),
            Err(error) => Ok(Err(self.guest_error(call, &error)?)),
        }
    }

    /// Puts a model's outputs into the guest's table, all or none.
    fn give(
        &mut self,
        model: &Model,
        outputs: Vec<Held>,
    ) -> wasmtime::Result<Result<Vec<Named<Arc<str>>>, Error>> {
        let mut given = Vec::with_capacity(outputs.len());
        let infos = model.signature().outputs.iter().zip(model.output_names());
        for (held, (info, name)) in outputs.into_iter().zip(infos) {
            match GuestTensor::of_host(&self.nn, held, &info.name) {
                Ok(tensor) => given.push((name.clone(), self.table.push(tensor)?)),
                Err(error) => {
                    for (_, tensor) in given {
                        self.table.delete(tensor)?;
                    }
                    return Ok(Err(error));
                }
            }
        }
        Ok(Ok(given))
    }

    fn guest_error(&mut self, call: &str, error: &Error) -> wasmtime::Result<Resource<GuestError>> {
        let report = error.report();
        tracing::debug!(call, code = error.kind().name(), "{report}");
        self.nn.busy |= error.kind() == ErrorKind::Busy;
        // A copy: what is cut off must not stay allocated.
        let text = clip_to(&report, LONGEST_TEXT).to_owned();
        let handle = self.nn.usage.handle_for_failure().map_err(trap)?;
        Ok(self.table.push(GuestError {
            code: code(error.kind()),
            text,
            _handle: handle,
        })?)
    }
}

/// How guests wait for engines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Waits {
    /// On the guest's thread, which is its own: no fiber is suspended.
    Blocking,
    /// As a future, where that thread is not the guest's own.
    Suspended,
}

fn add_inference(linker: &mut Linker<Host>, waits: Waits) -> wasmtime::Result<()> {
    let mut inference = linker.instance(INFERENCE)?;
    inference.resource(
        "graph-execution-context",
        ResourceType::host::<GuestContext>(),
        |mut store, rep| {
            let context = Resource::<GuestContext>::new_own(rep);
            store.data_mut().table.delete(context)?;
            Ok(())
        },
    )?;
    type Arguments = (Resource<GuestContext>, Vec<Named<String>>);
    match waits {
        Waits::Blocking => {
            inference.func_wrap(COMPUTE, |mut store, (context, inputs): Arguments| {
                Ok((compute(store.data_mut(), &context, inputs)?,))
            })
        }
        Waits::Suspended => {
            inference.func_wrap_async(COMPUTE, |mut store, (context, inputs): Arguments| {
                Box::new(async move {
                    let host = store.data_mut();
                    Ok((match host.nn.may_block {
                        true => compute(host, &context, inputs)?,
                        false => compute_elsewhere(host, &context, inputs).await?,
                    },))
                })
            })
        }
    }
}

const COMPUTE: &str = "[method]graph-execution-context.compute";

/// A tensor and the name of its input or output.
type Named<Name> = (Name, Resource<GuestTensor>);

fn compute(
    host: &mut Host,
    context: &Resource<GuestContext>,
    inputs: Vec<Named<String>>,
) -> Answer<Vec<Named<Arc<str>>>> {
    let (model, inputs) = asked(host, context, inputs)?;
    let (nn, context) = (&host.nn, host.table.get_mut(context)?);
    let computed = inputs.and_then(|inputs| nn.compute(context, inputs));
    answered(host, &model, computed)
}

/// [`compute`] for a guest whose thread is not its own.
async fn compute_elsewhere(
    host: &mut Host,
    context: &Resource<GuestContext>,
    inputs: Vec<Named<String>>,
) -> Answer<Vec<Named<Arc<str>>>> {
    let (model, inputs) = asked(host, context, inputs)?;
    let (nn, context) = (&host.nn, host.table.get_mut(context)?);
    let computed = match inputs {
        Ok(inputs) => nn.compute_elsewhere(context, inputs).await,
        Err(error) => Err(error),
    };
    answered(host, &model, computed)
}

/// A call's model, and its inputs in that one's order.
type Asked = (Arc<Model>, Result<Vec<Held>, Error>);

/// Takes a guest's inputs: they are the host's from here on, whatever comes of the call.
fn asked(
    host: &mut Host,
    context: &Resource<GuestContext>,
    inputs: Vec<Named<String>>,
) -> wasmtime::Result<Asked> {
    let model = host.table.get(context)?.model().clone();
    let signature = model.signature();
    let (mut slots, mut wrong) = (signature.slots(), None);
    for (name, tensor) in inputs {
        let content = host.table.delete(tensor)?.content;
        if wrong.is_some() {
            continue;
        }
        let placed = match content {
            Ok(held) => signature.place(&mut slots, &name, held),
            Err(Malformed { error, .. }) => {
                let message = format!("input `{}`: {error}", clip(&name));
                Err(Error::new(error.kind(), message))
            }
        };
        wrong = placed.err();
    }
    let inputs = match wrong {
        None => signature.check_slots(slots),
        Some(error) => Err(error),
    };
    Ok((model, inputs))
}

/// What the guest gets of a call.
fn answered(
    host: &mut Host,
    model: &Model,
    computed: Result<Vec<Held>, Error>,
) -> Answer<Vec<Named<Arc<str>>>> {
    let given = match computed {
        Ok(outputs) => host.give(model, outputs)?,
        Err(error) => Err(error),
    };
    match given {
        Ok(outputs) => Ok(Ok(outputs)),
        Err(error) => Ok(Err(host.guest_error("compute", &error)?)),
    }
}

fn check_dimensions(held: &Held, name: &str) -> Result<(), Error> {
    let shape = held.tensor.shape();
    if shape.iter().all(|size| u32::try_from(*size).is_ok()) {
        return Ok(());
    }
    let message =
        format!("tensor `{name}` has dimensions {shape:?}: expected each below 4294967296");
    Err(Error::new(ErrorKind::TooLarge, message))
}

impl errors::Host for Host {}

impl errors::HostError for Host {
    async fn code(&mut self, error: Resource<GuestError>) -> wasmtime::Result<ErrorCode> {
        Ok(self.table.get(&error)?.code)
    }

    async fn data(&mut self, error: Resource<GuestError>) -> wasmtime::Result<String> {
        Ok(self.table.get(&error)?.text.clone())
    }

    async fn drop(&mut self, error: Resource<GuestError>) -> wasmtime::Result<()> {
        self.table.delete(error)?;
        Ok(())
    }
}

/// A failure that the ABI has no value for.
fn trap(error: Error) -> wasmtime::Error {
    format_err!("{}", error.report())
}

fn code(kind: ErrorKind) -> ErrorCode {
    match kind {
        ErrorKind::InvalidArgument => ErrorCode::InvalidArgument,
        ErrorKind::InvalidEncoding => ErrorCode::InvalidEncoding,
        ErrorKind::Timeout => ErrorCode::Timeout,
        ErrorKind::RuntimeError | ErrorKind::Busy => ErrorCode::RuntimeError,
        ErrorKind::UnsupportedOperation => ErrorCode::UnsupportedOperation,
        ErrorKind::TooLarge => ErrorCode::TooLarge,
        ErrorKind::NotFound => ErrorCode::NotFound,
        ErrorKind::Security => ErrorCode::Security,
        ErrorKind::Unknown => ErrorCode::Unknown,
    }
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

fn tensor_type(dtype: Dtype) -> Option<TensorType> {
    Some(match dtype {
        Dtype::F16 => TensorType::Fp16,
        Dtype::F32 => TensorType::Fp32,
        Dtype::F64 => TensorType::Fp64,
        Dtype::BF16 => TensorType::Bf16,
        Dtype::U8 => TensorType::U8,
        Dtype::I32 => TensorType::I32,
        Dtype::I64 => TensorType::I64,
        Dtype::Bool
        | Dtype::I8
        | Dtype::I16
        | Dtype::U16
        | Dtype::U32
        | Dtype::U64
        | Dtype::String => return None,
    })
}

/// The encoding that a guest named; `None` for autodetect.
fn encoding(encoding: GraphEncoding) -> Option<Encoding> {
    Some(match encoding {
        GraphEncoding::Openvino => Encoding::OpenVino,
        GraphEncoding::Onnx => Encoding::Onnx,
        GraphEncoding::Tensorflow => Encoding::TensorFlow,
        GraphEncoding::Pytorch => Encoding::PyTorch,
        GraphEncoding::Tensorflowlite => Encoding::TensorFlowLite,
        GraphEncoding::Ggml => Encoding::Ggml,
        GraphEncoding::Autodetect => return None,
    })
}

impl From<ExecutionTarget> for Target {
    fn from(target: ExecutionTarget) -> Target {
        match target {
            ExecutionTarget::Cpu => Target::Cpu,
            ExecutionTarget::Gpu => Target::Gpu,
            ExecutionTarget::Tpu => Target::Tpu,
        }
    }
}
