//! The protocol by gRPC: `inference.GRPCInferenceService`.

use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::Body;
use axum::http::Request as HttpRequest;
use axum::middleware::{Next, from_fn};
use bytes::{BufMut, Bytes, BytesMut};
use infer_core::{Dtype, Error, ErrorKind, Result, Tensor, clip};
use tokio_stream::Stream;
use tonic::{Request, Response, Status};

use crate::serve::State;
use crate::serve::access;
use crate::serve::repository::{Entry, Ready};
use crate::serve::v2::codec::{MANY, for_much};
use crate::serve::v2::control::{self, Change, Denied};
use crate::serve::v2::infer::{Counted, Inference, VERSION, check_version, deadline, infer, level};
use crate::serve::v2::rest::{no_classification, no_shared_memory};
use crate::serve::v2::{about, datatype, rest};
use generated::grpc_inference_service_server::{GrpcInferenceService, GrpcInferenceServiceServer};
use generated::infer_parameter::ParameterChoice;
use generated::model_infer_request::InferInputTensor;
use generated::model_infer_response::InferOutputTensor;
use generated::model_metadata_response::TensorMetadata;
use generated::*;

#[allow(
    missing_docs,
    unreachable_pub,
    clippy::all,
    clippy::allow_attributes_without_reason,
    reason = "generated from the protocol's description"
)]
mod generated {
    tonic::include_proto!("inference");
}

/// What messages take beside the tensors in them, in bytes.
const ENVELOPE: usize = 1 << 20;

/// The parameter by which a client says how long it waits, in microseconds.
const TIMEOUT: &str = "timeout";

/// The parameter by which a client asks for a level of the model, as Triton has it.
const PRIORITY: &str = "priority";

/// The parameter of a tensor that lies in shared memory.
const SHARED_MEMORY: &str = "shared_memory_region";

/// Of an output that shall become classes.
const CLASSIFICATION: &str = "classification";

/// How much later than its deadline a call is cut off that has not ended by that.
const LATER: Duration = Duration::from_millis(200);

/// What is answered by gRPC.
pub(crate) fn router(state: Arc<State>) -> Router {
    let most = usize::try_from(state.config.limits.body).unwrap_or(usize::MAX);
    // A call's own deadline comes first, and says more.
    let limit = state.config.limits.timeout.saturating_add(LATER);
    let service = GrpcInferenceServiceServer::new(Service(state))
        .max_decoding_message_size(most.saturating_add(ENVELOPE))
        .max_encoding_message_size(usize::MAX);
    // A message that does not come whole holds its call no longer than any other.
    let in_time = move |request: HttpRequest<Body>, next: Next| async move {
        let answered = tokio::time::timeout(limit, next.run(request)).await;
        answered.unwrap_or_else(|_| {
            Status::deadline_exceeded("the call took longer than the server lets it").into_http()
        })
    };
    tonic::service::Routes::new(service)
        .into_axum_router()
        .layer(from_fn(in_time))
}

struct Service(Arc<State>);

type Answer<T> = std::result::Result<Response<T>, Status>;

impl Service {
    fn entry(&self, model: &str, version: &str) -> std::result::Result<&Entry, Status> {
        access::is_for(model);
        let entry = self.0.repository.entry(model);
        let entry = entry.and_then(|entry| check_version(model, version).map(|()| entry));
        entry.map_err(|error| status(&error))
    }

    fn ready(
        &self,
        model: &str,
        version: &str,
    ) -> std::result::Result<(&Entry, Arc<Ready>), Status> {
        let entry = self.entry(model, version)?;
        Ok((entry, entry.ready().map_err(|error| unready(&error))?))
    }

    async fn change<'a, T: Default>(
        &self,
        (model, change): (&str, Change),
        parameters: impl Iterator<Item = &'a String>,
        metadata: &tonic::metadata::MetadataMap,
    ) -> Answer<T> {
        access::is_for(model);
        let authorization = metadata.get("authorization");
        let authorization = authorization.and_then(|value| value.to_str().ok());
        control::check(&self.0.config.model_control, authorization).map_err(
            |denied| match denied {
                Denied::NoToken => Status::unauthenticated(text(&denied.error())),
                Denied::Off | Denied::WrongToken => status(&denied.error()),
            },
        )?;
        control::check_parameters(parameters.map(String::as_str))
            .map_err(|error| status(&error))?;
        let changed = control::change(&self.0, model.to_owned(), change).await;
        changed.map_err(|error| status(&error))?;
        Ok(Response::new(T::default()))
    }
}

/// A model that is not loaded is for now not available; one that is busy has no room.
fn unready(error: &Error) -> Status {
    Status::unavailable(text(error))
}

fn text(error: &Error) -> String {
    match error.hint() {
        Some(hint) => format!("{} ({hint})", error.report()),
        None => error.report(),
    }
}

fn status(error: &Error) -> Status {
    let text = text(error);
    match error.kind() {
        ErrorKind::InvalidArgument | ErrorKind::InvalidEncoding => Status::invalid_argument(text),
        ErrorKind::NotFound => Status::not_found(text),
        ErrorKind::Security => Status::permission_denied(text),
        ErrorKind::TooLarge | ErrorKind::Busy => Status::resource_exhausted(text),
        ErrorKind::Timeout => Status::deadline_exceeded(text),
        ErrorKind::UnsupportedOperation => Status::unimplemented(text),
        ErrorKind::RuntimeError => Status::internal(text),
        ErrorKind::Unknown => Status::unknown(text),
    }
}

fn not_here<T>(what: &str) -> Answer<T> {
    Err(Status::unimplemented(format!("this server has no {what}")))
}

#[tonic::async_trait]
impl GrpcInferenceService for Service {
    type ModelStreamInferStream =
        Pin<Box<dyn Stream<Item = std::result::Result<ModelStreamInferResponse, Status>> + Send>>;

    async fn server_live(&self, _: Request<ServerLiveRequest>) -> Answer<ServerLiveResponse> {
        Ok(Response::new(ServerLiveResponse { live: true }))
    }

    async fn server_ready(&self, _: Request<ServerReadyRequest>) -> Answer<ServerReadyResponse> {
        let ready = self.0.is_ready();
        Ok(Response::new(ServerReadyResponse { ready }))
    }

    async fn model_ready(&self, request: Request<ModelReadyRequest>) -> Answer<ModelReadyResponse> {
        let ModelReadyRequest { name, version } = request.into_inner();
        let entry = self.entry(&name, &version)?;
        let ready = self.0.repository.can_answer(entry);
        Ok(Response::new(ModelReadyResponse { ready }))
    }

    async fn server_metadata(
        &self,
        _: Request<ServerMetadataRequest>,
    ) -> Answer<ServerMetadataResponse> {
        let about = about::server();
        Ok(Response::new(ServerMetadataResponse {
            name: about.name.to_owned(),
            version: about.version.to_owned(),
            extensions: about.extensions.map(str::to_owned).to_vec(),
        }))
    }

    async fn model_metadata(
        &self,
        request: Request<ModelMetadataRequest>,
    ) -> Answer<ModelMetadataResponse> {
        let ModelMetadataRequest { name, version } = request.into_inner();
        let (entry, ready) = self.ready(&name, &version)?;
        let about = about::model(entry, &ready);
        let tensors = |all: Vec<about::TensorMetadata>| {
            let tensor = |tensor: about::TensorMetadata| TensorMetadata {
                name: tensor.name,
                datatype: tensor.datatype.to_owned(),
                shape: tensor.shape,
            };
            all.into_iter().map(tensor).collect()
        };
        Ok(Response::new(ModelMetadataResponse {
            name: about.name,
            versions: about.versions.map(str::to_owned).to_vec(),
            platform: about.platform,
            inputs: tensors(about.inputs),
            outputs: tensors(about.outputs),
        }))
    }

    async fn model_infer(&self, request: Request<ModelInferRequest>) -> Answer<ModelInferResponse> {
        let (started, asked) = (Instant::now(), timeout(request.metadata()));
        let request = request.into_inner();
        let entry = self.entry(&request.model_name, &request.model_version)?;
        let mut counted = Counted::new(entry, started);
        let ready = entry.ready();
        if ready.is_err() {
            counted.ends(&ready);
        }
        let ready = ready.map_err(|error| unready(&error))?;
        let result = async {
            let asked = patience(&request)?.into_iter().chain(asked).min();
            let (id, latest) = (request.id.clone(), deadline(&self.0, started, asked));
            let reading = Instant::now();
            let inference = for_much(elements(&request) > MANY, || read(request))?;
            counted.read_since(reading);
            let outputs = infer(&self.0, &ready, inference, latest).await?;
            let writing = Instant::now();
            let response = write(entry.name(), id, outputs);
            counted.wrote_since(writing);
            response
        };
        let result = result.await;
        counted.ends(&result);
        result.map(Response::new).map_err(|error| status(&error))
    }

    async fn model_stream_infer(
        &self,
        _: Request<tonic::Streaming<ModelInferRequest>>,
    ) -> Answer<Self::ModelStreamInferStream> {
        not_here("streams of inferences")
    }

    async fn model_config(
        &self,
        request: Request<ModelConfigRequest>,
    ) -> Answer<ModelConfigResponse> {
        let ModelConfigRequest { name, version } = request.into_inner();
        let (entry, ready) = self.ready(&name, &version)?;
        let about = about::configuration(entry, &ready);
        let data_type = |name: &str| DataType::from_str_name(name).unwrap_or_default().into();
        let input = |tensor: about::TensorConfiguration| ModelInput {
            data_type: data_type(&tensor.data_type),
            name: tensor.name,
            dims: tensor.dims,
            ..ModelInput::default()
        };
        let output = |tensor: about::TensorConfiguration| ModelOutput {
            data_type: data_type(&tensor.data_type),
            name: tensor.name,
            dims: tensor.dims,
            ..ModelOutput::default()
        };
        let config = ModelConfig {
            name: about.name,
            platform: about.platform,
            backend: about.backend,
            max_batch_size: about.max_batch_size,
            input: about.input.into_iter().map(input).collect(),
            output: about.output.into_iter().map(output).collect(),
            ..ModelConfig::default()
        };
        Ok(Response::new(ModelConfigResponse {
            config: Some(config),
        }))
    }

    async fn model_statistics(
        &self,
        request: Request<ModelStatisticsRequest>,
    ) -> Answer<ModelStatisticsResponse> {
        let ModelStatisticsRequest { name, version } = request.into_inner();
        let entries: Vec<&Entry> = match name.is_empty() {
            true => self.0.repository.entries().iter().collect(),
            false => vec![self.entry(&name, &version)?],
        };
        let counted = |counted: about::Counted| {
            Some(StatisticDuration {
                count: counted.count,
                ns: counted.ns,
            })
        };
        let statistics = entries.into_iter().map(|entry| {
            let about = about::statistics(entry);
            let times = about.inference_stats;
            ModelStatistics {
                name: about.name,
                version: about.version.to_owned(),
                inference_count: about.inference_count,
                execution_count: about.execution_count,
                inference_stats: Some(InferStatistics {
                    success: counted(times.success),
                    fail: counted(times.fail),
                    queue: counted(times.queue),
                    compute_input: counted(times.compute_input),
                    compute_infer: counted(times.compute_infer),
                    compute_output: counted(times.compute_output),
                    ..InferStatistics::default()
                }),
                ..ModelStatistics::default()
            }
        });
        Ok(Response::new(ModelStatisticsResponse {
            model_stats: statistics.collect(),
        }))
    }

    async fn repository_index(
        &self,
        request: Request<RepositoryIndexRequest>,
    ) -> Answer<RepositoryIndexResponse> {
        let lines = about::index(&self.0, request.into_inner().ready);
        let line = |line: about::Indexed| repository_index_response::ModelIndex {
            name: line.name,
            version: line.version.to_owned(),
            state: line.state.to_owned(),
            reason: line.reason,
        };
        Ok(Response::new(RepositoryIndexResponse {
            models: lines.into_iter().map(line).collect(),
        }))
    }

    async fn repository_model_load(
        &self,
        request: Request<RepositoryModelLoadRequest>,
    ) -> Answer<RepositoryModelLoadResponse> {
        let asked = request.get_ref();
        let (change, parameters) = ((&*asked.model_name, Change::Load), asked.parameters.keys());
        self.change(change, parameters, request.metadata()).await
    }

    async fn repository_model_unload(
        &self,
        request: Request<RepositoryModelUnloadRequest>,
    ) -> Answer<RepositoryModelUnloadResponse> {
        let asked = request.get_ref();
        let (change, parameters) = (
            (&*asked.model_name, Change::Unload),
            asked.parameters.keys(),
        );
        self.change(change, parameters, request.metadata()).await
    }

    async fn system_shared_memory_status(
        &self,
        _: Request<SystemSharedMemoryStatusRequest>,
    ) -> Answer<SystemSharedMemoryStatusResponse> {
        not_here("shared memory")
    }

    async fn system_shared_memory_register(
        &self,
        _: Request<SystemSharedMemoryRegisterRequest>,
    ) -> Answer<SystemSharedMemoryRegisterResponse> {
        not_here("shared memory")
    }

    async fn system_shared_memory_unregister(
        &self,
        _: Request<SystemSharedMemoryUnregisterRequest>,
    ) -> Answer<SystemSharedMemoryUnregisterResponse> {
        not_here("shared memory")
    }

    async fn cuda_shared_memory_status(
        &self,
        _: Request<CudaSharedMemoryStatusRequest>,
    ) -> Answer<CudaSharedMemoryStatusResponse> {
        not_here("shared memory")
    }

    async fn cuda_shared_memory_register(
        &self,
        _: Request<CudaSharedMemoryRegisterRequest>,
    ) -> Answer<CudaSharedMemoryRegisterResponse> {
        not_here("shared memory")
    }

    async fn cuda_shared_memory_unregister(
        &self,
        _: Request<CudaSharedMemoryUnregisterRequest>,
    ) -> Answer<CudaSharedMemoryUnregisterResponse> {
        not_here("shared memory")
    }

    async fn trace_setting(&self, _: Request<TraceSettingRequest>) -> Answer<TraceSettingResponse> {
        not_here("settings of traces by request")
    }
}

/// How many elements a request has that are each looked at.
fn elements(request: &ModelInferRequest) -> usize {
    let contents = request
        .inputs
        .iter()
        .filter_map(|input| input.contents.as_ref());
    contents.flat_map(lengths).sum()
}

/// How many elements each field of typed contents has.
fn lengths(contents: &InferTensorContents) -> [usize; 8] {
    [
        contents.bool_contents.len(),
        contents.int_contents.len(),
        contents.int64_contents.len(),
        contents.uint_contents.len(),
        contents.uint64_contents.len(),
        contents.fp32_contents.len(),
        contents.fp64_contents.len(),
        contents.bytes_contents.len(),
    ]
}

/// How long the client waits, as gRPC has it: digits and a unit.
fn timeout(metadata: &tonic::metadata::MetadataMap) -> Option<Duration> {
    let text = metadata.get("grpc-timeout")?.to_str().ok()?;
    let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    let number: u64 = digits.parse().ok()?;
    Some(match unit {
        "H" => Duration::from_secs(number.saturating_mul(3600)),
        "M" => Duration::from_secs(number.saturating_mul(60)),
        "S" => Duration::from_secs(number),
        "m" => Duration::from_millis(number),
        "u" => Duration::from_micros(number),
        "n" => Duration::from_nanos(number),
        _ => return None,
    })
}

/// How long the client waits, as Triton's parameter has it.
fn patience(request: &ModelInferRequest) -> Result<Option<Duration>> {
    let time = number(request, TIMEOUT, "microseconds")?;
    Ok(time.filter(|time| *time > 0).map(Duration::from_micros))
}

/// A parameter that is a number.
fn number(request: &ModelInferRequest, name: &str, unit: &str) -> Result<Option<u64>> {
    let choice = request.parameters.get(name);
    match choice.map(|parameter| &parameter.parameter_choice) {
        None => Ok(None),
        Some(Some(ParameterChoice::Uint64Param(number))) => Ok(Some(*number)),
        Some(Some(ParameterChoice::Int64Param(number))) if *number >= 0 => {
            Ok(Some(number.unsigned_abs()))
        }
        Some(other) => {
            let got = match other {
                Some(ParameterChoice::Int64Param(number)) => number.to_string(),
                Some(ParameterChoice::StringParam(text)) => format!("the text {:?}", clip(text)),
                Some(ParameterChoice::BoolParam(value)) => value.to_string(),
                Some(ParameterChoice::DoubleParam(number)) => number.to_string(),
                _ => "nothing".to_owned(),
            };
            let message = format!("expected {unit} in the parameter `{name}`, got {got}");
            Err(Error::new(ErrorKind::InvalidArgument, message))
        }
    }
}

fn read(request: ModelInferRequest) -> Result<Inference> {
    let priority = number(&request, PRIORITY, "a level")?;
    let ModelInferRequest {
        inputs,
        outputs,
        raw_input_contents: raw,
        ..
    } = request;
    if !raw.is_empty() && raw.len() != inputs.len() {
        let message = format!(
            "expected raw contents of all {} inputs or of none, got {}",
            inputs.len(),
            raw.len()
        );
        return Err(Error::new(ErrorKind::InvalidArgument, message));
    }
    let shared = outputs
        .iter()
        .find(|output| output.parameters.contains_key(SHARED_MEMORY));
    if let Some(output) = shared {
        return Err(no_shared_memory("output", &output.name));
    }
    let classified = outputs
        .iter()
        .find(|output| output.parameters.contains_key(CLASSIFICATION));
    if let Some(output) = classified {
        return Err(no_classification(&output.name));
    }
    let mut raw = raw.into_iter();
    let inputs = inputs.into_iter().map(|input| {
        if input.parameters.contains_key(SHARED_MEMORY) {
            return Err(no_shared_memory("input", &input.name));
        }
        let tensor = tensor(&input, raw.next()).map_err(|error| {
            let message = format!("input `{}`: {error}", clip(&input.name));
            Error::new(error.kind(), message)
        })?;
        Ok((input.name, tensor))
    });
    Ok(Inference {
        inputs: inputs.collect::<Result<_>>()?,
        outputs: outputs.into_iter().map(|output| output.name).collect(),
        priority: priority.and_then(level),
    })
}

fn tensor(input: &InferInputTensor, raw: Option<Bytes>) -> Result<Tensor> {
    let dtype = datatype::parse(&input.datatype)?;
    let shape = rest::shape(&input.shape)?;
    let bytes = match (raw, &input.contents) {
        (Some(raw), None) => raw,
        (Some(_), Some(_)) => return Err(invalid("expected `contents` or raw contents, got both")),
        (None, Some(contents)) => typed(dtype, contents)?,
        (None, None) => typed(dtype, &InferTensorContents::default())?,
    };
    Tensor::new(dtype, shape, bytes)
}

fn invalid(message: &str) -> Error {
    Error::new(ErrorKind::InvalidArgument, message)
}

/// The bytes of contents in the field of their type.
fn typed(dtype: Dtype, contents: &InferTensorContents) -> Result<Bytes> {
    macro_rules! bytes {
        ($values:expr) => {
            Ok($values
                .iter()
                .flat_map(|value| value.to_le_bytes())
                .collect())
        };
    }
    macro_rules! narrowed {
        ($values:expr, $type:ty) => {{
            let narrowed: std::result::Result<Vec<$type>, _> = $values
                .iter()
                .map(|&value| <$type>::try_from(value))
                .collect();
            let narrowed = narrowed.map_err(|_| {
                let message = format!("a value is out of the range of {}", datatype::name(dtype));
                invalid(&message)
            })?;
            bytes!(narrowed)
        }};
    }
    let filled = lengths(contents).into_iter().filter(|length| *length > 0);
    if filled.count() > 1 {
        return Err(invalid(
            "expected `contents` in the field of their datatype, got several fields",
        ));
    }
    match dtype {
        Dtype::Bool => Ok(contents
            .bool_contents
            .iter()
            .map(|&value| u8::from(value))
            .collect()),
        Dtype::I8 => narrowed!(contents.int_contents, i8),
        Dtype::I16 => narrowed!(contents.int_contents, i16),
        Dtype::I32 => bytes!(contents.int_contents),
        Dtype::I64 => bytes!(contents.int64_contents),
        Dtype::U8 => narrowed!(contents.uint_contents, u8),
        Dtype::U16 => narrowed!(contents.uint_contents, u16),
        Dtype::U32 => bytes!(contents.uint_contents),
        Dtype::U64 => bytes!(contents.uint64_contents),
        Dtype::F32 => bytes!(contents.fp32_contents),
        Dtype::F64 => bytes!(contents.fp64_contents),
        Dtype::String => {
            let mut bytes = BytesMut::new();
            for text in &contents.bytes_contents {
                let length =
                    u32::try_from(text.len()).map_err(|_| invalid("a text is too long"))?;
                bytes.put_u32_le(length);
                bytes.put_slice(text);
            }
            Ok(bytes.freeze())
        }
        Dtype::F16 | Dtype::BF16 => {
            let message = format!("{} comes as raw contents only", datatype::name(dtype));
            Err(invalid(&message))
        }
    }
}

fn write(model: &str, id: String, outputs: Vec<(String, Tensor)>) -> Result<ModelInferResponse> {
    let mut response = ModelInferResponse {
        model_name: model.to_owned(),
        model_version: VERSION.to_owned(),
        id,
        ..ModelInferResponse::default()
    };
    for (name, tensor) in outputs {
        let size = |&size: &usize| i64::try_from(size).unwrap_or(i64::MAX);
        response.outputs.push(InferOutputTensor {
            name,
            datatype: datatype::name(tensor.dtype()).to_owned(),
            shape: tensor.shape().iter().map(size).collect(),
            ..InferOutputTensor::default()
        });
        response.raw_output_contents.push(tensor.host()?);
    }
    Ok(response)
}
