//! From a request to a model that runs.
//!
//! Steps: look at the file for what the engine must not be given (`infer-onnx`); set the engine's options; have it
//! load, with a cancel handed on; take the signature from the engine and the names of shared dimensions from the
//! file; ask the engine where its nodes run.

use std::ffi::CString;
use std::path::Path;
use std::sync::{Arc, Mutex};

use infer_core::{
    Cancel, Device, Dtype, Error, ErrorKind, LoadOptions, LoadRequest, Placement, Precision,
    Result, Signature, Source, TensorInfo, clip,
};
use ort::ErrorCode;
use ort::memory::{AllocationDevice, AllocatorType, MemoryInfo, MemoryType};
use ort::session::Session;
use ort::session::builder::SessionBuilder;
use ort::value::{Outlet, ValueType};

use crate::api::{self, Names};
use crate::cuda;
use crate::graph::{Model, OrtGraph, RunsOn, concurrency};
use crate::library::Library;
use crate::rules::RULES;
use crate::values::dtype_of;

/// Loads a model of one part.
pub(crate) fn load(library: &Library, request: &LoadRequest, cancel: &Cancel) -> Result<OrtGraph> {
    let LoadRequest {
        source,
        device,
        options,
        ..
    } = request;
    check_precision(*device, options.precision)?;
    if *device == Device::Cpu && options.device_memory.is_some() {
        let message = "a limit of device memory is for a GPU, got cpu";
        return Err(Error::new(ErrorKind::UnsupportedOperation, message));
    }
    let file = read(source)?;
    infer_onnx::check_rules(&file, "ONNX Runtime", RULES)?;
    cancel.check()?;
    let builder =
        configured(library, *device, options).map_err(|error| failed_to_set_up(*device, &error))?;
    let session = commit(builder, source, cancel)?;
    let mut signature = signature(&session)?;
    signature.shared = file
        .graph
        .map_or_else(Vec::new, |graph| graph.shared_dimensions());
    let model = Model {
        names: names(&signature)?,
        placement: placement(&session, *device, options.precision)?,
        concurrency: concurrency(*device, options.streams.map(usize::from)),
        device: runs_on(*device, &signature)?,
        signature,
        session,
    };
    Ok(OrtGraph(Arc::new(model)))
}

/// The file, looked at before the engine: it may name no other but beside itself.
fn read(source: &Source) -> Result<infer_onnx::Model> {
    let (bytes, folder) = match source {
        Source::Files(paths) if paths.len() == 1 => (
            infer_onnx::map_file(&paths[0])?,
            Some(infer_onnx::folder_of(&paths[0])),
        ),
        Source::Memory(parts) if parts.len() == 1 => (parts[0].clone(), None),
        Source::Files(_) | Source::Memory(_) => {
            let message = "an ONNX model has one part, got another number";
            return Err(Error::new(ErrorKind::InvalidArgument, message));
        }
    };
    let model = infer_onnx::decode(bytes)?;
    infer_onnx::check_files(&model, folder)?;
    Ok(model)
}

fn check_precision(device: Device, precision: Precision) -> Result<()> {
    match (device, precision) {
        (_, Precision::F32 | Precision::Auto) => Ok(()),
        (device, precision) => {
            let message = format!("ONNX Runtime computes in f32 on {device}, not in {precision}");
            Err(
                Error::new(ErrorKind::UnsupportedOperation, message).with_hint(
                    "convert the model to this precision, or use OpenVINO: --backend openvino",
                ),
            )
        }
    }
}

fn configured(
    library: &Library,
    device: Device,
    options: &LoadOptions,
) -> std::result::Result<SessionBuilder, ort::Error> {
    let mut builder = Session::builder(&library.environment)?
        .with_no_environment_execution_providers()?
        // Idle threads that spin cost a whole processor between runs.
        .with_intra_op_spinning(false)?
        .with_inter_op_spinning(false)?
        // So that where the nodes run can be asked.
        .with_config_entry("session.record_ep_graph_assignment_info", "1")?;
    if let Some(threads) = options.threads {
        builder = builder.with_intra_threads(threads.get())?;
    }
    match device {
        Device::Gpu(index) => cuda::register(builder, (library, index), options),
        Device::Cpu | Device::Npu => Ok(builder),
    }
}

fn failed_to_set_up(device: Device, error: &ort::Error) -> Error {
    let what = format!("ONNX Runtime cannot use {device}");
    api::failed(ErrorKind::RuntimeError, &what, error.message())
}

fn commit(mut builder: SessionBuilder, source: &Source, cancel: &Cancel) -> Result<Session> {
    let canceler = builder.canceler();
    let _stop = cancel.on_cancel(move || {
        // A load that cannot be stopped is one that ends by itself.
        let _ = canceler.cancel();
    });
    let session = match source {
        Source::Files(paths) => paths
            .first()
            .map(|path| builder.commit_from_file(Path::new(path))),
        Source::Memory(parts) => parts.first().map(|part| builder.commit_from_memory(part)),
    };
    let session = session.unwrap_or_else(|| Err(ort::Error::new("no parts")));
    cancel.check()?;
    session.map_err(|error| load_error(&error))
}

fn load_error(error: &ort::Error) -> Error {
    let message = error.message();
    let lacks = [
        "is not a registered function/op",
        "No Op registered for",
        "Could not find an implementation for",
        "Opset",
        "not supported",
        "unsupported",
        "Unsupported",
    ];
    let kind = match error.code() {
        ErrorCode::InvalidProtobuf | ErrorCode::NoModel => ErrorKind::InvalidEncoding,
        ErrorCode::NoSuchFile => ErrorKind::NotFound,
        ErrorCode::NotImplemented => ErrorKind::UnsupportedOperation,
        _ if lacks.iter().any(|text| message.contains(text)) => ErrorKind::UnsupportedOperation,
        ErrorCode::InvalidGraph | ErrorCode::GenericFailure | ErrorCode::InvalidArgument => {
            ErrorKind::InvalidEncoding
        }
        _ => ErrorKind::RuntimeError,
    };
    let error = api::failed(kind, "ONNX Runtime cannot load the model", message);
    match kind {
        ErrorKind::UnsupportedOperation => error.with_hint("another backend may run this model"),
        _ => error,
    }
}

fn signature(session: &Session) -> Result<Signature> {
    let infos = |outlets: &[Outlet]| outlets.iter().map(info).collect::<Result<_>>();
    Ok(Signature {
        inputs: infos(session.inputs())?,
        outputs: infos(session.outputs())?,
        ..Signature::default()
    })
}

fn info(outlet: &Outlet) -> Result<TensorInfo> {
    let name = outlet.name();
    let unsupported = |what: String| {
        let message = format!("`{}` is {what}, which is not supported", clip(name));
        Error::new(ErrorKind::UnsupportedOperation, message)
    };
    let ValueType::Tensor { ty, shape, .. } = outlet.dtype() else {
        return Err(unsupported(format!("no tensor but {}", outlet.dtype())));
    };
    let dtype = dtype_of(*ty).ok_or_else(|| unsupported(format!("a tensor of {ty}")))?;
    Ok(TensorInfo {
        name: name.to_owned(),
        dtype,
        dimensions: shape
            .iter()
            .map(|&dimension| usize::try_from(dimension).ok())
            .collect(),
    })
}

fn names(signature: &Signature) -> Result<Names> {
    let names = |infos: &[TensorInfo]| {
        let name = |info: &TensorInfo| CString::new(info.name.as_str());
        infos
            .iter()
            .map(name)
            .collect::<std::result::Result<_, _>>()
            .map_err(|error| {
                Error::new(ErrorKind::UnsupportedOperation, "a name with a zero in it")
                    .with_source(error)
            })
    };
    Ok(Names {
        inputs: names(&signature.inputs)?,
        outputs: names(&signature.outputs)?,
    })
}

/// Where the nodes run, by the engine's own record of it.
fn placement(session: &Session, device: Device, precision: Precision) -> Result<Placement> {
    let nodes = api::assignment(session).map_err(|error| {
        let what = "ONNX Runtime does not say where the model runs";
        api::failed(ErrorKind::RuntimeError, what, error.message())
    })?;
    let count = nodes.len();
    let elsewhere = nodes
        .into_iter()
        .filter(|(_, provider)| cuda::device_of(provider, device) != device)
        .map(|(node, provider)| (node, cuda::device_of(&provider, device)))
        .collect();
    Ok(Placement {
        device,
        precision: cuda::computes_in(device, precision),
        nodes: Some(count),
        elsewhere,
    })
}

fn runs_on(device: Device, signature: &Signature) -> Result<RunsOn> {
    let Device::Gpu(index) = device else {
        return Ok(RunsOn::Host);
    };
    let strings = |infos: &[TensorInfo]| infos.iter().any(|info| info.dtype == Dtype::String);
    if strings(&signature.inputs) || strings(&signature.outputs) {
        let message = format!("ONNX Runtime has no strings on {device}");
        return Err(Error::new(ErrorKind::UnsupportedOperation, message)
            .with_hint("run the model on the cpu: --device cpu"));
    }
    let index = i32::try_from(index).unwrap_or(i32::MAX);
    // Memory that the device writes by itself and the host reads.
    let outputs = MemoryInfo::new(
        AllocationDevice::CUDA_PINNED,
        index,
        AllocatorType::Device,
        MemoryType::CPUOutput,
    );
    Ok(RunsOn::Device {
        lock: Mutex::new(()),
        outputs: outputs.map_err(|error| failed_to_set_up(device, &error))?,
    })
}
