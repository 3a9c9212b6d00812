//! Inference by REST: JSON, with or without tensors in binary behind it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::body::Body;
use axum::http::{HeaderMap, HeaderValue, Request, Response, StatusCode, header};
use bytes::Bytes;
use infer_core::{Error, ErrorKind, Result, Tensor, clip};
use serde::de::IgnoredAny;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::serve::State;
use crate::serve::access::Fault;
use crate::serve::guests::status;
use crate::serve::v2::infer::{Counted, Inference, VERSION, check_version, deadline, infer, level};
use crate::serve::v2::{binary, datatype, json};

/// How many bytes of JSON, or of tensors that become JSON, are read and written on the thread of the network: about a
/// millisecond.
const MUCH: usize = 128 << 10;

/// Some clients write what they leave out as `null`.
#[derive(Deserialize)]
#[serde(expecting = "an object with `inputs`")]
struct RequestJson<'a> {
    id: Option<String>,
    parameters: Option<Parameters>,
    #[serde(borrow, default)]
    inputs: Vec<InputJson<'a>>,
    outputs: Option<Vec<OutputAsked>>,
}

#[derive(Deserialize)]
#[serde(expecting = "an input: an object with `name`, `shape` and `datatype`")]
struct InputJson<'a> {
    name: String,
    shape: Vec<i64>,
    datatype: String,
    parameters: Option<Parameters>,
    #[serde(borrow)]
    data: Option<&'a RawValue>,
}

#[derive(Deserialize)]
#[serde(expecting = "an output: an object with `name`")]
struct OutputAsked {
    name: String,
    parameters: Option<Parameters>,
}

/// The parameters that mean something here; others are let pass, as the protocol wants it.
#[derive(Default, Deserialize)]
#[serde(default, expecting = "parameters: an object")]
struct Parameters {
    binary_data_size: Option<usize>,
    binary_data: Option<bool>,
    binary_data_output: Option<bool>,
    /// In microseconds, as Triton has it.
    timeout: Option<u64>,
    /// A model's level, as Triton has it.
    priority: Option<u64>,
    shared_memory_region: Option<IgnoredAny>,
    /// How many classes an output shall become, as Triton has it.
    classification: Option<u64>,
}

impl Parameters {
    /// Fails where a tensor lies in memory that is shared, which is for programs of one machine.
    fn check(&self, what: &str, name: &str) -> Result<()> {
        match self.shared_memory_region {
            None => Ok(()),
            Some(_) => Err(no_shared_memory(what, name)),
        }
    }
}

pub(crate) fn no_shared_memory(what: &str, name: &str) -> Error {
    let message = format!("{what} `{}`: this server has no shared memory", clip(name));
    Error::new(ErrorKind::UnsupportedOperation, message)
}

pub(crate) fn no_classification(name: &str) -> Error {
    let message = format!(
        "output `{}`: this server does not make classes of outputs (`classification`)",
        clip(name)
    );
    Error::new(ErrorKind::UnsupportedOperation, message)
        .with_hint("ask for the output itself, or serve a guest that names the classes")
}

#[derive(Serialize)]
struct ResponseJson<'a> {
    model_name: &'a str,
    model_version: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<String>,
    outputs: Vec<OutputJson>,
}

#[derive(Serialize)]
struct OutputJson {
    name: String,
    datatype: &'static str,
    shape: Vec<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    parameters: Option<BinarySize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    data: Option<Box<RawValue>>,
}

#[derive(Serialize)]
struct BinarySize {
    binary_data_size: usize,
}

/// What a request asks for, and how it wants to be answered.
struct Asked {
    id: Option<String>,
    inference: Inference,
    timeout: Option<Duration>,
    /// The outputs that were named, and whether each is wanted in binary.
    binary: Vec<Option<bool>>,
    /// What goes for the others.
    all_binary: bool,
}

/// Answers `POST /v2/models/MODEL/infer`.
pub(crate) async fn answer(
    state: Arc<State>,
    (model, version): (String, String),
    request: Request<Body>,
) -> Response<Body> {
    let started = Instant::now();
    if let Err(error) = check_encoding(request.headers()) {
        let mut response = refusal(&error);
        *response.status_mut() = StatusCode::UNSUPPORTED_MEDIA_TYPE;
        return response;
    }
    let answered = run(&state, (&model, &version), request, started).await;
    answered.unwrap_or_else(|error| refusal(&error))
}

async fn run(
    state: &State,
    (model, version): (&str, &str),
    request: Request<Body>,
    started: Instant,
) -> Result<Response<Body>> {
    let entry = state.repository.entry(model)?;
    check_version(model, version)?;
    let mut counted = Counted::new(entry, started);
    let result = async {
        let ready = entry.ready()?;
        let (head, body) = collect(state, request, started).await?;
        let reading = Instant::now();
        let text = head.unwrap_or(body.len());
        let asked = for_its_size(text, move || read(head, &body)).await?;
        counted.read_since(reading);
        let latest = deadline(state, started, asked.timeout);
        let outputs = infer(state, &ready, asked.inference, latest).await?;
        let writing = Instant::now();
        let (id, binary, all_binary) = (asked.id, asked.binary, asked.all_binary);
        let values = outputs.iter().map(|(_, tensor)| tensor.byte_length());
        let text = match all_binary {
            true => 0,
            false => values.sum(),
        };
        let name = entry.name().to_owned();
        let write = move || respond(&name, id, outputs, (&binary, all_binary));
        let response = for_its_size(text, write).await;
        counted.wrote_since(writing);
        response
    };
    let result = result.await;
    counted.ends(&result);
    result
}

/// Does what takes longer the more JSON there is: much of it where it keeps no other request waiting.
async fn for_its_size<T: Send + 'static>(
    bytes: usize,
    work: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<T> {
    if bytes <= MUCH {
        return work();
    }
    let done = tokio::task::spawn_blocking(work).await;
    done.unwrap_or_else(|_| Err(crate::threads::panicked()))
}

/// A request's body, and the length of the JSON in it.
///
/// # Errors
/// `Timeout` where it does not come in a request's time, `TooLarge`, `InvalidArgument`.
pub(crate) async fn collect(
    state: &State,
    request: Request<Body>,
    started: Instant,
) -> Result<(Option<usize>, Bytes)> {
    let (parts, body) = request.into_parts();
    let head = binary::json_length(&parts.headers)?;
    let most = usize::try_from(state.config.limits.body).unwrap_or(usize::MAX);
    let collected = binary::collect(body, head.unwrap_or(0), most);
    let latest = deadline(state, started, None);
    let collected = tokio::time::timeout_at(latest.into(), collected).await;
    let collected = collected.map_err(|_| {
        let message = "the request's body did not come in time";
        Error::new(ErrorKind::Timeout, message)
    })?;
    Ok((head, collected?))
}

fn check_encoding(headers: &HeaderMap) -> Result<()> {
    let mut encodings = headers.get_all(header::CONTENT_ENCODING).iter();
    match encodings.find(|encoding| *encoding != "identity") {
        Some(encoding) => {
            let message = format!("expected a body that is not compressed, got {encoding:?}");
            Err(Error::new(ErrorKind::UnsupportedOperation, message))
        }
        None => Ok(()),
    }
}

/// Reads a body of which the first `head` bytes are JSON, or all.
fn read(head: Option<usize>, body: &Bytes) -> Result<Asked> {
    let head = head.unwrap_or(body.len());
    if head == 0 && !body.is_empty() {
        let message = format!(
            "expected JSON before the tensors, got `{}: 0`: a body of one tensor alone says neither its input nor its shape",
            binary::JSON_LENGTH
        );
        return Err(Error::new(ErrorKind::InvalidArgument, message));
    }
    if head > body.len() {
        let message = format!(
            "expected {head} bytes of JSON as `{}` says, got a body of {}",
            binary::JSON_LENGTH,
            body.len()
        );
        return Err(Error::new(ErrorKind::InvalidArgument, message));
    }
    let request: RequestJson<'_> = serde_json::from_slice(&body[..head]).map_err(|error| {
        Error::new(
            ErrorKind::InvalidArgument,
            "the request is no JSON of the protocol's",
        )
        .with_source(error)
    })?;
    let mut rest = body.slice(head..);
    let inputs = request.inputs.into_iter().map(|input| {
        let tensor = tensor(&input, &mut rest)?;
        Ok((input.name, tensor))
    });
    let inputs = inputs.collect::<Result<Vec<_>>>()?;
    if !rest.is_empty() {
        let message = format!(
            "{} bytes stand behind the inputs' binary data: expected none",
            rest.len()
        );
        return Err(Error::new(ErrorKind::InvalidArgument, message));
    }
    let parameters = request.parameters.unwrap_or_default();
    let (mut names, mut binary) = (Vec::new(), Vec::new());
    for output in request.outputs.unwrap_or_default() {
        let parameters = output.parameters.unwrap_or_default();
        parameters.check("output", &output.name)?;
        if parameters.classification.is_some_and(|classes| classes > 0) {
            return Err(no_classification(&output.name));
        }
        names.push(output.name);
        binary.push(parameters.binary_data);
    }
    Ok(Asked {
        id: request.id,
        inference: Inference {
            inputs,
            outputs: names,
            priority: parameters.priority.and_then(level),
        },
        timeout: parameters
            .timeout
            .filter(|time| *time > 0)
            .map(Duration::from_micros),
        binary,
        all_binary: parameters.binary_data_output.unwrap_or(false),
    })
}

fn tensor(input: &InputJson<'_>, rest: &mut Bytes) -> Result<Tensor> {
    let invalid = |what: String| {
        let message = format!("input `{}`: {what}", clip(&input.name));
        Error::new(ErrorKind::InvalidArgument, message)
    };
    let dtype = datatype::parse(&input.datatype).map_err(|error| invalid(error.to_string()))?;
    let shape = shape(&input.shape).map_err(|error| invalid(error.to_string()))?;
    let parameters = input.parameters.as_ref();
    if let Some(parameters) = parameters {
        parameters.check("input", &input.name)?;
    }
    match (
        input.data,
        parameters.and_then(|parameters| parameters.binary_data_size),
    ) {
        (Some(data), None) => json::read(&input.name, dtype, shape, data),
        (None, Some(size)) if size <= rest.len() => {
            let bytes = rest.split_to(size);
            Tensor::new(dtype, shape, bytes).map_err(|error| invalid(error.to_string()))
        }
        (None, Some(size)) => Err(invalid(format!(
            "expected {size} bytes of binary data, got {}",
            rest.len()
        ))),
        (Some(_), Some(_)) => Err(invalid(
            "expected `data` or `binary_data_size`, got both".to_owned(),
        )),
        (None, None) => Err(invalid(
            "expected `data` or `binary_data_size`, got neither".to_owned(),
        )),
    }
}

/// A shape of dimensions that are there.
///
/// # Errors
/// `InvalidArgument` for a negative one, and for more than any model has.
pub(crate) fn shape(dimensions: &[i64]) -> Result<Vec<usize>> {
    crate::nn::state::check_rank(dimensions.len())?;
    let sizes = dimensions
        .iter()
        .map(|&dimension| usize::try_from(dimension));
    sizes.collect::<std::result::Result<_, _>>().map_err(|_| {
        let message = format!("expected dimensions of 0 or more, got {dimensions:?}");
        Error::new(ErrorKind::InvalidArgument, message)
    })
}

fn respond(
    model: &str,
    id: Option<String>,
    outputs: Vec<(String, Tensor)>,
    (asked, all_binary): (&[Option<bool>], bool),
) -> Result<Response<Body>> {
    let (mut described, mut parts) = (Vec::with_capacity(outputs.len()), Vec::new());
    for (place, (name, tensor)) in outputs.into_iter().enumerate() {
        let in_binary = asked.get(place).copied().flatten().unwrap_or(all_binary);
        let (mut parameters, mut data) = (None, None);
        if in_binary {
            let bytes = tensor.host()?;
            parameters = Some(BinarySize {
                binary_data_size: bytes.len(),
            });
            parts.push(bytes);
        } else {
            data = Some(json::write(&name, &tensor)?);
        }
        described.push(OutputJson {
            name,
            datatype: datatype::name(tensor.dtype()),
            shape: tensor.shape().to_vec(),
            parameters,
            data,
        });
    }
    let response = ResponseJson {
        model_name: model,
        model_version: VERSION,
        id,
        outputs: described,
    };
    let head = to_json(&response)?;
    if parts.is_empty() {
        return Ok(json_response(StatusCode::OK, head));
    }
    let length = head.len();
    let body = binary::Parts::new(std::iter::once(Bytes::from(head)).chain(parts));
    let mut response = Response::new(Body::new(body));
    let headers = response.headers_mut();
    headers.insert(binary::JSON_LENGTH, HeaderValue::from(length));
    headers.insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("application/octet-stream"),
    );
    Ok(response)
}

pub(crate) fn to_json(value: &impl Serialize) -> Result<Vec<u8>> {
    serde_json::to_vec(value).map_err(|error| {
        Error::new(ErrorKind::RuntimeError, "the response cannot be written").with_source(error)
    })
}

pub(crate) fn json_response(status: StatusCode, json: Vec<u8>) -> Response<Body> {
    let mut response = Response::new(Body::from(json));
    *response.status_mut() = status;
    let json = HeaderValue::from_static("application/json");
    response.headers_mut().insert(header::CONTENT_TYPE, json);
    response
}

/// An error as the protocol says it.
pub(crate) fn refusal(error: &Error) -> Response<Body> {
    #[derive(Serialize)]
    struct Refusal {
        error: String,
    }
    let mut text = error.report();
    let fault = Fault(text.as_str().into());
    if let Some(hint) = error.hint() {
        text.push_str(&format!(" ({hint})"));
    }
    let json = to_json(&Refusal { error: text }).unwrap_or_default();
    let status = status(error.kind());
    let mut response = json_response(status, json);
    response.extensions_mut().insert(fault);
    if status == StatusCode::SERVICE_UNAVAILABLE {
        let headers = response.headers_mut();
        headers.insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
    }
    response
}
