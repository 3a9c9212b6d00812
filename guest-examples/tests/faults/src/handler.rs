//! The exported handler: the first part of the path is what to do, the second what to do it with.

use std::sync::atomic::{AtomicU32, Ordering};

use infer_guest::DType;
use infer_guest::abi::{Argument, Graph, View};
use wasip2::clocks::monotonic_clock;
use wasip2::exports::http::incoming_handler::Guest;
use wasip2::http::outgoing_handler;
use wasip2::http::types::{
    ErrorCode, Fields, IncomingBody, IncomingRequest, Method, OutgoingBody, OutgoingRequest,
    OutgoingResponse, ResponseOutparam, Scheme,
};
use wasip2::io::streams::{OutputStream, StreamError};

use crate::holding;

struct Handler;

wasip2::http::proxy::export!(Handler);

/// How often this instance was asked.
static ASKED: AtomicU32 = AtomicU32::new(0);

impl Guest for Handler {
    fn handle(request: IncomingRequest, out: ResponseOutparam) {
        let asked = ASKED.fetch_add(1, Ordering::Relaxed) + 1;
        let path = request.path_with_query().unwrap_or_default();
        let mut parts = path.trim_start_matches('/').splitn(2, '/');
        let (what, with) = (parts.next().unwrap_or(""), parts.next().unwrap_or(""));
        match what {
            "count" => say(out, 200, &asked.to_string()),
            "say" => {
                println!("to standard output: {with}");
                eprintln!("to standard error: {with}");
                say(out, 200, "said");
            }
            "env" => say(out, 200, &std::env::var(with).unwrap_or_default()),
            "read" => say_result(out, std::fs::read_to_string(with)),
            "echo" => echo(&request, out),
            "length" => say_result(out, gather(&request).map(|body| body.len().to_string())),
            "compute" => say_result(out, gather(&request).and_then(|body| compute(with, &body))),
            "model" => say_result(out, Graph::by_name(with).map(|_| "there".to_owned())),
            "get" => say_result(out, get(with)),
            "trap" => std::process::abort(),
            "loop" => loop {
                std::hint::black_box(asked);
            },
            "wait" => wait(),
            "hog" => hog(),
            "fill" => {
                // One instruction, which nothing interrupts.
                std::hint::black_box(vec![1u8; size(with)]);
                say(out, 200, "filled");
            }
            "code" => {
                let code = ErrorCode::InternalError(Some("\n WARN forged".repeat(size(with))));
                ResponseOutparam::set(out, Err(code));
            }
            "hold" => say_result(out, holding::hold(with)),
            "connect" => say_result(out, holding::connect(with)),
            "requests" => say(out, 200, &requests().to_string()),
            "status" => say(out, with.parse().unwrap_or(200), "with a body"),
            "half" => half(with, out),
            "silent" => drop(out),
            "late" => {
                let _begun = Response::begin(out, 200);
                wait();
            }
            "cut" => {
                let begun = Response::begin(out, 200);
                begun.map(|response| response.write(b"the first part, then "));
                std::process::abort();
            }
            "flood" => {
                let begun = Response::begin(out, 200);
                while begun
                    .as_ref()
                    .is_some_and(|response| response.write(&[b'x'; 4096]))
                {}
            }
            _ => say(out, 404, "no such fault"),
        }
    }
}

fn size(text: &str) -> usize {
    text.parse().unwrap_or(1)
}

/// Holds as many requests, with bodies and long methods, as it gets; answers how many have a method of 100,000 bytes.
fn requests() -> usize {
    let (mut held, mut long) = (Vec::new(), 0);
    for _ in 0..100 {
        let request = OutgoingRequest::new(Fields::new());
        let method = Method::Other("A".repeat(100_000));
        long += usize::from(request.set_method(&method).is_ok());
        long += usize::from(request.set_authority(Some(&"a".repeat(100_000))).is_ok());
        held.push((request.body(), request));
    }
    long
}

/// Ends in the middle of its answer.
fn half(how: &str, out: ResponseOutparam) {
    let begun = Response::begin(out, 200);
    if let Some(response) = &begun {
        response.write(b"half of the ");
    }
    match how {
        "exit" => std::process::exit(1),
        "exit-well" => std::process::exit(0),
        "forget" => std::mem::forget(begun),
        _ => drop(begun),
    }
}

/// Waits for longer than any timeout.
fn wait() {
    monotonic_clock::subscribe_duration(3_600_000_000_000).block();
}

/// Takes all memory there is, then traps.
fn hog() {
    let mut held = Vec::new();
    loop {
        held.push(vec![1u8; 1 << 20]);
    }
}

fn compute(with: &str, body: &[u8]) -> Result<String, String> {
    let mut parts = with.splitn(3, '/');
    let (model, input, dimensions) = (parts.next(), parts.next(), parts.next());
    let dimensions: Option<Vec<u32>> = dimensions
        .unwrap_or_default()
        .split('x')
        .map(|dimension| dimension.parse().ok())
        .collect();
    let argument = Argument {
        name: input.unwrap_or_default(),
        index: 0,
        tensor: View {
            dtype: DType::F32,
            dimensions: &dimensions.ok_or("expected /compute/MODEL/INPUT/1x2x3")?,
            data: body,
        },
    };
    let failed = |error: infer_guest::Error| error.to_string();
    let graph = Graph::by_name(model.unwrap_or_default()).map_err(failed)?;
    let mut context = graph.context().map_err(failed)?;
    let results = context.compute(&[argument]).map_err(failed)?;
    let output = results.bytes(0, 0).map_err(failed)?;
    let values: Vec<String> = output
        .chunks_exact(4)
        .map(|four| f32::from_le_bytes([four[0], four[1], four[2], four[3]]).to_string())
        .collect();
    Ok(values.join(" "))
}

fn get(authority: &str) -> Result<String, String> {
    let request = OutgoingRequest::new(Fields::new());
    let set = request
        .set_scheme(Some(&Scheme::Http))
        .and_then(|()| request.set_authority(Some(authority)))
        .and_then(|()| request.set_path_with_query(Some("/count")));
    set.map_err(|()| "a bad authority".to_owned())?;
    let response = outgoing_handler::handle(request, None).map_err(|code| format!("{code:?}"))?;
    response.subscribe().block();
    match response.get() {
        Some(Ok(Ok(response))) => Ok(format!("status {}", response.status())),
        other => Err(format!("{other:?}")),
    }
}

fn gather(request: &IncomingRequest) -> Result<Vec<u8>, String> {
    let mut gathered = Vec::new();
    each_piece(request, |piece| {
        gathered.extend_from_slice(&piece);
        true
    })?;
    Ok(gathered)
}

fn each_piece(
    request: &IncomingRequest,
    mut take: impl FnMut(Vec<u8>) -> bool,
) -> Result<(), String> {
    let body = request.consume().map_err(|()| "expected a body")?;
    let stream = body.stream().map_err(|()| "expected a body")?;
    loop {
        match stream.blocking_read(1 << 20) {
            Ok(piece) => {
                if !take(piece) {
                    break;
                }
            }
            Err(StreamError::Closed) => break,
            Err(StreamError::LastOperationFailed(error)) => return Err(error.to_debug_string()),
        }
    }
    drop(stream);
    drop(IncomingBody::finish(body));
    Ok(())
}

/// Sends each piece of the body back before it reads the next.
fn echo(request: &IncomingRequest, out: ResponseOutparam) {
    let Some(response) = Response::begin(out, 200) else {
        return;
    };
    if each_piece(request, |piece| response.write(&piece)).is_ok() {
        response.finish();
    }
}

fn say_result<E: ToString>(out: ResponseOutparam, result: Result<String, E>) {
    match result {
        Ok(text) => say(out, 200, &text),
        Err(error) => say(out, 502, &error.to_string()),
    }
}

fn say(out: ResponseOutparam, status: u16, text: &str) {
    if let Some(response) = Response::begin(out, status)
        && response.write(text.as_bytes())
    {
        response.finish();
    }
}

/// A response whose body is being written.
struct Response {
    // Dropped before the body that it is of.
    stream: OutputStream,
    body: OutgoingBody,
}

impl Response {
    fn begin(out: ResponseOutparam, status: u16) -> Option<Response> {
        let response = OutgoingResponse::new(Fields::new());
        response.set_status_code(status).ok()?;
        let body = response.body().ok()?;
        ResponseOutparam::set(out, Ok(response));
        let stream = body.write().ok()?;
        Some(Response { stream, body })
    }

    /// Whether the client still takes it.
    fn write(&self, bytes: &[u8]) -> bool {
        // The longest that one call takes is 4096 bytes.
        bytes
            .chunks(4096)
            .all(|part| self.stream.blocking_write_and_flush(part).is_ok())
    }

    fn finish(self) {
        let Response { stream, body } = self;
        drop(stream);
        // A client that is gone is no failure of ours.
        let _ = OutgoingBody::finish(body, None);
    }
}
