//! The exported handler.

use infer_imaging::{Class, Classes, Flags, PictureModel};
use wasip2::exports::http::incoming_handler::Guest;
use wasip2::http::types::{
    Fields, IncomingBody, IncomingRequest, Method, OutgoingBody, OutgoingResponse, ResponseOutparam,
};
use wasip2::io::streams::StreamError;

use crate::answer::{Refusal, failed, refusal, top_of};

/// How much of a body is read at one time, in bytes.
const PIECE: u64 = 1 << 20;

/// How much of an answer is written at one time, in bytes: what `blocking-write-and-flush` takes.
const WRITTEN: usize = 4096;

/// The document that is answered.
#[derive(serde::Serialize)]
struct Document {
    version: u32,
    model: String,
    classes: Vec<Class>,
}

struct Handler;

wasip2::http::proxy::export!(Handler);

impl Guest for Handler {
    fn handle(request: IncomingRequest, out: ResponseOutparam) {
        let (status, kind, text) = match answer(&request) {
            Ok(json) => (200, "application/json", json),
            Err((status, why)) => (status, "text/plain; charset=utf-8", why + "\n"),
        };
        // A client that is gone is no failure of ours.
        let _ = respond(out, (status, kind), text.as_bytes());
    }
}

fn answer(request: &IncomingRequest) -> Result<String, Refusal> {
    if !matches!(request.method(), Method::Post) {
        return Err((405, "expected POST with a photo as the body".to_owned()));
    }
    let target = request.path_with_query().unwrap_or_default();
    let top = top_of(target.split_once('?').map_or("", |(_, query)| query))?;
    classify(&read(request)?, top)
}

/// The JSON for a photo.
fn classify(photo: &[u8], top: usize) -> Result<String, Refusal> {
    let mut model = PictureModel::open(&Flags::default()).map_err(failed)?;
    let classes = Classes::of(&model, None);
    let output = model.run(photo).map_err(refusal)?;
    let document = Document {
        version: 1,
        model: model.name().to_owned(),
        classes: classes.rank(&output, top).map_err(failed)?,
    };
    let json = serde_json::to_string_pretty(&document);
    json.map(|json| json + "\n")
        .map_err(|error| (500, error.to_string()))
}

/// The whole body.
fn read(request: &IncomingRequest) -> Result<Vec<u8>, Refusal> {
    let none = |()| (400, "expected a photo as the body".to_owned());
    let body = request.consume().map_err(none)?;
    let stream = body.stream().map_err(none)?;
    let mut photo = Vec::new();
    loop {
        match stream.blocking_read(PIECE) {
            Ok(piece) => photo.extend_from_slice(&piece),
            Err(StreamError::Closed) => break,
            Err(StreamError::LastOperationFailed(error)) => {
                let why = format!("the body cannot be read: {}", error.to_debug_string());
                return Err((400, why));
            }
        }
    }
    drop(stream);
    drop(IncomingBody::finish(body));
    Ok(photo)
}

fn respond(out: ResponseOutparam, (status, kind): (u16, &str), text: &[u8]) -> Option<()> {
    let mut headers = vec![
        ("content-type".to_owned(), kind.into()),
        ("content-length".to_owned(), text.len().to_string().into()),
    ];
    if status == 405 {
        headers.push(("allow".to_owned(), "POST".into()));
    }
    let response = OutgoingResponse::new(Fields::from_list(&headers).ok()?);
    response.set_status_code(status).ok()?;
    let body = response.body().ok()?;
    ResponseOutparam::set(out, Ok(response));
    let stream = body.write().ok()?;
    for piece in text.chunks(WRITTEN) {
        stream.blocking_write_and_flush(piece).ok()?;
    }
    drop(stream);
    OutgoingBody::finish(body, None).ok()
}
