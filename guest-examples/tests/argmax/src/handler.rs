//! The exported handler.

use infer_guest::DType;
use infer_guest::abi::{Argument, Graph, View};
use wasip2::exports::http::incoming_handler::Guest;
use wasip2::http::types::{
    Fields, IncomingBody, IncomingRequest, OutgoingBody, OutgoingResponse, ResponseOutparam,
};
use wasip2::io::streams::StreamError;

use crate::work::{argmax, parse};

struct Handler;

wasip2::http::proxy::export!(Handler);

/// A status and the text that goes with it.
type Refusal = (u16, String);

impl Guest for Handler {
    fn handle(request: IncomingRequest, out: ResponseOutparam) {
        let (status, text) = match answer(&request) {
            Ok(place) => (200, place.to_string()),
            Err(refusal) => refusal,
        };
        // A client that is gone is no failure of ours.
        let _ = respond(out, status, &text);
    }
}

fn answer(request: &IncomingRequest) -> Result<usize, Refusal> {
    let path = request.path_with_query().unwrap_or_default();
    let order = parse(&path).ok_or_else(|| bad("expected /MODEL/INPUT/1x3x224x224 for a path"))?;
    let body = gather(request)?;
    let argument = Argument {
        name: order.input,
        index: 0,
        tensor: View {
            dtype: DType::F32,
            dimensions: &order.dimensions,
            data: &body,
        },
    };
    let failed = |error: infer_guest::Error| (500, error.to_string());
    let graph = Graph::by_name(order.model).map_err(failed)?;
    let mut context = graph.context().map_err(failed)?;
    let results = context.compute(&[argument]).map_err(failed)?;
    let output = results.bytes(0, 0).map_err(failed)?;
    argmax(&output).ok_or_else(|| (500, "the output is empty".to_owned()))
}

/// The whole body. It is moved, not copied, where the host gives it in one piece.
fn gather(request: &IncomingRequest) -> Result<Vec<u8>, Refusal> {
    let length = content_length(request)?;
    let body = request.consume().map_err(|()| bad("expected a body"))?;
    let stream = body.stream().map_err(|()| bad("expected a body"))?;
    let mut gathered = Vec::new();
    while gathered.len() < length {
        match stream.blocking_read((length - gathered.len()) as u64) {
            Ok(piece) if gathered.is_empty() && piece.len() == length => gathered = piece,
            Ok(piece) => {
                gathered.reserve_exact(length - gathered.len());
                gathered.extend_from_slice(&piece);
            }
            Err(StreamError::Closed) => return Err(bad("the body ended early")),
            Err(StreamError::LastOperationFailed(error)) => {
                return Err(bad(&error.to_debug_string()));
            }
        }
    }
    drop(stream);
    drop(IncomingBody::finish(body));
    Ok(gathered)
}

/// In bytes, which must fit into this guest's memory.
fn content_length(request: &IncomingRequest) -> Result<usize, Refusal> {
    let values = request.headers().get("content-length");
    let value = values.first().map(|value| String::from_utf8_lossy(value));
    let length = value.and_then(|value| value.parse::<u32>().ok());
    length
        .map(|length| length as usize)
        .ok_or_else(|| bad("expected a content-length of 32 bits"))
}

fn bad(why: &str) -> Refusal {
    (400, why.to_owned())
}

fn respond(out: ResponseOutparam, status: u16, text: &str) -> Option<()> {
    let response = OutgoingResponse::new(Fields::new());
    response.set_status_code(status).ok()?;
    let body = response.body().ok()?;
    ResponseOutparam::set(out, Ok(response));
    let stream = body.write().ok()?;
    // The longest that this call takes is 4096 bytes.
    let text = &text.as_bytes()[..text.len().min(4096)];
    stream.blocking_write_and_flush(text).ok()?;
    drop(stream);
    OutgoingBody::finish(body, None).ok()
}
