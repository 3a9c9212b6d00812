//! Every request, as operators see it: its id, a line in the access log, its span, its place in the counters.
//!
//! A request keeps its id through the server: whatever its task does finds it there, a guest in the header
//! `x-request-id`, the client in the same header of the response. It is over when its response's body is: then
//! the line is written.

use std::convert::Infallible;
use std::hash::{BuildHasher, RandomState};
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, LazyLock, OnceLock};
use std::task::{Context, Poll};
use std::time::Instant;

use axum::Router;
use axum::body::Body;
use axum::http::{
    HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode, Version, header,
};
use bytes::Bytes;
use http_body::{Frame, SizeHint};
use infer_core::clip;
use tower_service::Service;
use tracing::{Instrument, Span};

use crate::serve::counters::Connections;
use crate::serve::errors::LastErrors;
use crate::serve::lingering::Lingering;
use crate::serve::patience::{self, Piece};
use crate::serve::trace;

/// The header in which a request's id comes and goes.
const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// Where gRPC says how a call ended: a number.
const GRPC_STATUS: HeaderName = HeaderName::from_static("grpc-status");

/// The longest id that is taken from a client, in bytes.
const LONGEST_ID: usize = 128;

/// The status of a request whose client went away before it had a response, as other servers have it in their logs.
const CLIENT_WENT_AWAY: u16 = 499;

tokio::task_local! {
    static CURRENT: Arc<About>;
}

/// What a request's task and its record know together.
pub(crate) struct About {
    id: RequestId,
    /// Which guest or model answers.
    subject: OnceLock<Arc<str>>,
    bytes_in: AtomicU64,
}

impl About {
    pub(crate) fn came(&self, bytes: u64) {
        self.bytes_in.fetch_add(bytes, Ordering::Relaxed);
    }

    fn subject(&self) -> Option<&str> {
        self.subject.get().map(|subject| &**subject)
    }
}

/// Says which guest or model the request is for that is being answered by this task. The first word stands.
pub(crate) fn is_for(subject: &str) {
    let _ = CURRENT.try_with(|about| about.subject.set(clip(subject).into()));
}

/// The id of what is done for no request.
const NO_REQUEST: HeaderValue = HeaderValue::from_static("-");

/// A request's id.
#[derive(Clone, Debug)]
pub(crate) struct RequestId(HeaderValue);

impl RequestId {
    /// The client's where it is one, else a new one.
    fn of(headers: &HeaderMap) -> RequestId {
        let sane = |id: &&HeaderValue| {
            let in_ids = |byte: &u8| byte.is_ascii_alphanumeric() || b"-_.:+/=@".contains(byte);
            (1..=LONGEST_ID).contains(&id.len()) && id.as_bytes().iter().all(in_ids)
        };
        let clients = headers.get(REQUEST_ID).filter(sane).cloned();
        RequestId(clients.unwrap_or_else(RequestId::new_value))
    }

    /// A value that no other request has: of this process by a number, of others by chance.
    fn new_value() -> HeaderValue {
        static PROCESS: LazyLock<u64> = LazyLock::new(|| RandomState::new().hash_one(0));
        static NUMBER: AtomicU64 = AtomicU64::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let id = format!("{:016x}-{number:x}", *PROCESS);
        HeaderValue::try_from(id).unwrap_or(NO_REQUEST)
    }

    /// That of the request which is being answered by this task.
    pub(crate) fn current() -> RequestId {
        let current = CURRENT.try_with(|about| about.id.clone());
        current.unwrap_or(RequestId(NO_REQUEST))
    }

    pub(crate) fn as_str(&self) -> &str {
        self.0.to_str().unwrap_or_default()
    }
}

/// Among a response's extensions: what went wrong, where nobody has said that in the log yet.
#[derive(Clone, Debug)]
pub(crate) struct Fault(pub(crate) Arc<str>);

/// What the requests of one socket are watched with.
#[derive(Clone)]
pub(crate) struct Watch {
    pub(crate) connections: Arc<Connections>,
    pub(crate) errors: Arc<LastErrors>,
    /// Whether each request gets a line in the log.
    pub(crate) log: bool,
    /// Whether each request gets a span.
    pub(crate) trace: bool,
}

/// Answers the requests of one connection and watches them.
#[derive(Clone)]
pub(crate) struct Watched {
    router: Router,
    watch: Watch,
    client: SocketAddr,
    asked: Asked,
}

/// Whether a connection has asked for anything.
#[derive(Clone, Default)]
pub(crate) struct Asked(Arc<AtomicBool>);

impl Asked {
    pub(crate) fn get(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

impl Watched {
    pub(crate) fn new(router: Router, watch: Watch, client: SocketAddr) -> Watched {
        Watched {
            router,
            watch,
            client,
            asked: Asked::default(),
        }
    }

    pub(crate) fn asked(&self) -> Asked {
        self.asked.clone()
    }
}

type Answering = Pin<Box<dyn Future<Output = Result<Response<Watching<Body>>, Infallible>> + Send>>;

impl<B> hyper::service::Service<Request<B>> for Watched
where
    B: http_body::Body<Data = Bytes> + Send + Unpin + 'static,
    B::Error: Into<axum::BoxError>,
{
    type Response = Response<Watching<Body>>;
    type Error = Infallible;
    type Future = Answering;

    fn call(&self, mut request: Request<B>) -> Answering {
        self.asked.0.store(true, Ordering::Relaxed);
        let id = RequestId::of(request.headers());
        let span = match self.watch.trace {
            true => trace::request(&request),
            false => Span::none(),
        };
        let trace_id = trace::id(&span, request.headers());
        let about = Arc::new(About {
            id: id.clone(),
            subject: OnceLock::new(),
            bytes_in: AtomicU64::default(),
        });
        let mut record = Record {
            watch: self.watch.clone(),
            client: self.client,
            started: Instant::now(),
            about: about.clone(),
            trace_id,
            method: request.method().clone(),
            path: request.uri().path().to_owned(),
            span: span.clone(),
            status: None,
            grpc_status: None,
            bytes_out: 0,
        };
        request.headers_mut().insert(REQUEST_ID, id.0.clone());
        let waits = request.headers().contains_key(header::EXPECT);
        let in_pieces = request.version() == Version::HTTP_2;
        let request = request.map(|body| Body::new(Lingering::new(body, about.clone(), waits)));
        let mut router = self.router.clone();
        let answering = async move {
            let mut response = router.call(request).await?;
            record.answered(&response);
            response.headers_mut().insert(REQUEST_ID, id.0);
            Ok(response.map(|body| Watching {
                body,
                record,
                in_pieces,
                rest: Bytes::new(),
                cut: None,
            }))
        };
        Box::pin(CURRENT.scope(about, answering.instrument(span)))
    }
}

/// What is known of a request. Its end is when this is dropped.
struct Record {
    watch: Watch,
    client: SocketAddr,
    started: Instant,
    about: Arc<About>,
    trace_id: Option<String>,
    method: Method,
    path: String,
    span: Span,
    status: Option<StatusCode>,
    grpc_status: Option<i32>,
    bytes_out: u64,
}

impl Record {
    fn answered(&mut self, response: &Response<Body>) {
        let status = response.status();
        self.status = Some(status);
        trace::answered(&self.span, status);
        let fault = response.extensions().get::<Fault>();
        self.grpc_ended(response.headers());
        let grpc = grpc_fault(response.headers());
        let text = fault
            .map(|fault| &*fault.0)
            .or(grpc.as_ref().map(|grpc| &*grpc.message));
        let servers = match &grpc {
            Some(grpc) => grpc.servers,
            None => status.is_server_error() && status != StatusCode::SERVICE_UNAVAILABLE,
        };
        match text {
            Some(text) if servers => self.failed(text),
            Some(text) => tracing::info!(request_id = self.about.id.as_str(), "{text}"),
            None => {}
        }
    }

    /// gRPC says how a call ended where its response ends, which a failure may do at once.
    fn grpc_ended(&mut self, headers: &HeaderMap) {
        let status = headers.get(GRPC_STATUS);
        let status = status.and_then(|status| status.to_str().ok()?.parse().ok());
        self.grpc_status = status.or(self.grpc_status);
    }

    fn failed(&self, text: &str) {
        let id = self.about.id.as_str();
        let subject = self.about.subject().unwrap_or_default();
        tracing::warn!(request_id = id, subject, "{text}");
        self.watch.errors.add((id, subject), text);
    }
}

impl Drop for Record {
    fn drop(&mut self) {
        let status = self.status.map_or(CLIENT_WENT_AWAY, |s| s.as_u16());
        let bytes_in = self.about.bytes_in.load(Ordering::Relaxed);
        let bytes = (bytes_in, self.bytes_out);
        self.watch.connections.answered(status, bytes);
        if !self.watch.log {
            return;
        }
        tracing::info!(
            target: "infer::access",
            request_id = self.about.id.as_str(),
            client = %self.client,
            method = %self.method,
            path = clip(&self.path),
            status,
            grpc_status = self.grpc_status,
            bytes_in,
            bytes_out = self.bytes_out,
            duration_us = u64::try_from(self.started.elapsed().as_micros()).unwrap_or(u64::MAX),
            subject = self.about.subject(),
            trace_id = self.trace_id,
            "request"
        );
    }
}

/// What a response of gRPC says in its headers, if it is a failure.
struct GrpcFault {
    message: String,
    /// Whether it is the server's own failure.
    servers: bool,
}

fn grpc_fault(headers: &HeaderMap) -> Option<GrpcFault> {
    let status = tonic::Status::from_header_map(headers)?;
    let message = match status.message() {
        "" => status.code().description().to_owned(),
        message => message.to_owned(),
    };
    match status.code() {
        tonic::Code::Ok => None,
        code => Some(GrpcFault {
            message,
            servers: matches!(
                code,
                tonic::Code::Unknown | tonic::Code::Internal | tonic::Code::DataLoss
            ),
        }),
    }
}

/// The last of an answer over HTTP/2, in bytes, which is handed over when all before was taken: what was handed over whole is
/// out of our hands. It is a copy and does not keep the memory of the rest.
const LAST_PIECE: usize = 16 << 10;

/// A response's body; the request ends with it.
pub(crate) struct Watching<B: http_body::Body> {
    body: B,
    record: Record,
    in_pieces: bool,
    /// What is left of the frame of which a piece was handed over.
    rest: Bytes,
    /// Why the body ends before it is whole, once what was before that is on its way.
    cut: Option<B::Error>,
}

impl<B: http_body::Body<Data = Bytes, Error: Unpin> + Unpin> http_body::Body for Watching<B> {
    type Data = Piece;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Piece>, B::Error>>> {
        if let Some(error) = self.cut.take() {
            return Poll::Ready(Some(Err(error)));
        }
        let polled = match std::mem::take(&mut self.rest) {
            rest if rest.is_empty() => Pin::new(&mut self.body).poll_frame(context),
            rest => Poll::Ready(Some(Ok(Frame::data(Bytes::copy_from_slice(&rest))))),
        };
        if !matches!(polled, Poll::Ready(Some(Ok(_)))) {
            patience::nothing_to_hand_over();
        }
        if let Poll::Ready(Some(Err(error))) = polled {
            // hyper would close the connection with what it has not sent yet; waiting has it send that.
            self.cut = Some(error);
            context.waker().wake_by_ref();
            return Poll::Pending;
        }
        polled.map_ok(|frame| {
            if let Some(trailers) = frame.trailers_ref() {
                self.record.grpc_ended(trailers);
            }
            frame.map_data(|mut data| {
                if self.in_pieces && data.len() > 2 * LAST_PIECE {
                    self.rest = data.split_off(data.len() - LAST_PIECE);
                }
                self.record.bytes_out += data.len() as u64;
                Piece::handed_over(data)
            })
        })
    }

    fn is_end_stream(&self) -> bool {
        self.rest.is_empty() && self.cut.is_none() && self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        let (mut hint, rest) = (self.body.size_hint(), self.rest.len() as u64);
        if let Some(upper) = hint.upper() {
            hint.set_upper(upper.saturating_add(rest));
        }
        hint.set_lower(hint.lower().saturating_add(rest));
        hint
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_sane_id_is_taken_from_a_client() {
        let of = |value: Option<&[u8]>| {
            let mut headers = HeaderMap::new();
            if let Some(value) = value {
                let value = HeaderValue::from_bytes(value).expect("a header's value");
                headers.insert(REQUEST_ID, value);
            }
            RequestId::of(&headers).as_str().to_owned()
        };
        let long = "x".repeat(LONGEST_ID + 1);
        for taken in ["a", "7f3c-1:2/3=", &long[1..]] {
            assert_eq!(of(Some(taken.as_bytes())), taken);
        }
        for refused in [b"".as_slice(), b"a b", b"<b>", b"\xff", long.as_bytes()] {
            let made = of(Some(refused));
            assert_ne!(made.as_bytes(), refused);
            assert!(made.len() > 16, "{made}");
        }
        assert_ne!(of(None), of(None));
    }
}
