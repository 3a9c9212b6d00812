//! A server that drives ONNX Runtime without us, as a person would write it who wants it fast: what `infer serve` is
//! measured beside. One model with one f32 input, over HTTP/1.
//!
//! - `POST /NAME/INPUT/1x3x224x224`: the values of the input as body, the place of the largest value of the first
//!   output as answer;
//! - `POST /v2/models/NAME/infer`: the Open Inference Protocol with binary tensors;
//! - `GET /v2/health/ready`.
//!
//! Steps of a request: the body is gathered once, into memory that is kept and used again, where the engine reads
//! it; one of a fixed number of sessions is waited for and run on the thread that read the request, which costs no
//! hand-over; an output that is sent stays where the engine wrote it. It checks what must be right for the engine to read
//! only what was sent, and no more of the protocol.

mod model;

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, ensure};
use bytemuck::cast_slice_mut;
use bytes::buf::Chain;
use bytes::{Buf, Bytes};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::header::{CONTENT_LENGTH, CONTENT_TYPE, HeaderMap};
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::net::{TcpListener, TcpStream};

pub use model::{Model, ModelOptions};

use super::wire::{FP32, HEADER_LENGTH, RestParameters, RestRequest, RestResponse, RestTensor};
use super::work::{argmax, shape};

/// How long it waits after a connection could not be taken.
const REST: Duration = Duration::from_millis(10);

/// The largest body, in bytes.
const LARGEST: usize = 64 << 20;

/// Two pieces that are sent one after the other.
type Payload = Full<Chain<Bytes, Bytes>>;

/// Answers whoever connects, until the future is dropped.
pub async fn serve(listener: TcpListener, model: Model) {
    let model = Arc::new(model);
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                tokio::spawn(connection(stream, Arc::clone(&model)));
            }
            // A client that is gone already, or a lack of descriptors, which ends with a connection.
            Err(_) => tokio::time::sleep(REST).await,
        }
    }
}

async fn connection(stream: TcpStream, model: Arc<Model>) {
    let service = service_fn(|request| {
        let model = Arc::clone(&model);
        async move { Ok::<_, Infallible>(answer(request, &model).await) }
    });
    let server = hyper::server::conn::http1::Builder::new();
    // A connection that ends early is its client's matter.
    if stream.set_nodelay(true).is_ok() {
        let _ = server.serve_connection(TokioIo::new(stream), service).await;
    }
}

async fn answer(request: Request<Incoming>, model: &Model) -> Response<Payload> {
    let path = request.uri().path();
    let answered = match Route::of(request.method(), path, model) {
        Some(Route::Ready) => Ok(text(StatusCode::OK, "")),
        Some(Route::Argmax(dimensions)) => match shape(dimensions) {
            Ok(shape) => place(request, model, &shape).await,
            Err(error) => Err(error),
        },
        Some(Route::Infer) => infer(request, model).await,
        None => Ok(text(StatusCode::NOT_FOUND, "not found")),
    };
    answered.unwrap_or_else(|error| text(StatusCode::BAD_REQUEST, &format!("{error:#}")))
}

/// What a request is for.
enum Route<'path> {
    Ready,
    /// With the dimensions of the input.
    Argmax(&'path str),
    Infer,
}

impl Route<'_> {
    fn of<'path>(method: &Method, path: &'path str, model: &Model) -> Option<Route<'path>> {
        if method == Method::GET {
            return (path == "/v2/health/ready").then_some(Route::Ready);
        }
        if let Some(rest) = path.strip_prefix("/v2/models/") {
            return (rest.strip_suffix("/infer")? == model.name()).then_some(Route::Infer);
        }
        let rest = path.strip_prefix('/')?.strip_prefix(model.name())?;
        let rest = rest.strip_prefix('/')?.strip_prefix(model.input())?;
        Some(Route::Argmax(rest.strip_prefix('/')?))
    }
}

fn text(status: StatusCode, text: &str) -> Response<Payload> {
    let body = Bytes::copy_from_slice(text.as_bytes());
    let mut response = Response::new(Full::new(body.chain(Bytes::new())));
    *response.status_mut() = status;
    response
}

async fn place(
    request: Request<Incoming>,
    model: &Model,
    shape: &[usize],
) -> anyhow::Result<Response<Payload>> {
    let (_, values) = gather(request, model, 0).await?;
    let output = model.run(shape, &values).await;
    model.give_back(values);
    let place = argmax(output?.values()).context("the output is empty")?;
    Ok(text(StatusCode::OK, &place.to_string()))
}

async fn infer(request: Request<Incoming>, model: &Model) -> anyhow::Result<Response<Payload>> {
    let json = number(request.headers(), HEADER_LENGTH)?;
    let (json, values) = gather(request, model, json).await?;
    let asked: RestRequest = serde_json::from_slice(&json).context("cannot read the JSON")?;
    let [input] = asked.inputs.as_slice() else {
        anyhow::bail!("expected one input, got {}", asked.inputs.len());
    };
    ensure!(
        input.name == model.input() && input.datatype == FP32,
        "expected {FP32} for `{}`, got {} for `{}`",
        model.input(),
        input.datatype,
        input.name
    );
    let output = model.run(&input.shape, &values).await;
    model.give_back(values);
    let output = output?;
    let described = RestTensor {
        name: model.output().to_owned(),
        shape: output.shape(),
        datatype: FP32.to_owned(),
        parameters: RestParameters {
            binary_data_size: Some(size_of_val(output.values())),
        },
        data: None,
    };
    let json = serde_json::to_vec(&RestResponse {
        model_name: model.name().to_owned(),
        outputs: vec![described],
    })?;
    let length = json.len();
    let body = Bytes::from(json).chain(Bytes::from_owner(output));
    let response = Response::builder()
        .header(CONTENT_TYPE, "application/octet-stream")
        .header(HEADER_LENGTH, length);
    Ok(response.body(Full::new(body))?)
}

fn number(headers: &HeaderMap, name: &str) -> anyhow::Result<usize> {
    let value = headers.get(name).and_then(|value| value.to_str().ok());
    let number = value.and_then(|value| value.parse().ok());
    number.with_context(|| format!("expected a number as header `{name}`"))
}

/// The body: so many bytes of JSON, and behind them values, in memory that must be given back.
async fn gather(
    request: Request<Incoming>,
    model: &Model,
    json: usize,
) -> anyhow::Result<(Vec<u8>, Vec<f32>)> {
    let length = number(request.headers(), CONTENT_LENGTH.as_str())?;
    ensure!(
        length <= LARGEST,
        "expected at most {LARGEST} bytes, got {length}"
    );
    let values = length.checked_sub(json).filter(|bytes| bytes % 4 == 0);
    let values = values.context("the lengths of the body do not fit")? / 4;
    let (mut header, mut values) = (vec![0; json], model.memory(values));
    let mut rest = [header.as_mut_slice(), cast_slice_mut(&mut values)];
    let mut body = request.into_body();
    while let Some(frame) = body.frame().await {
        let Ok(mut data) = frame?.into_data() else {
            continue;
        };
        for place in &mut rest {
            let count = place.len().min(data.len());
            let (taken, left) = std::mem::take(place).split_at_mut(count);
            data.copy_to_slice(taken);
            *place = left;
        }
    }
    ensure!(
        rest.iter().all(|place| place.is_empty()),
        "the body ended early"
    );
    Ok((header, values))
}
