//! Guests over HTTP: a request finds its guest by its path, waits for a place, and gets an instance of its own.
//!
//! The instance is watched by a task that outlives the request's handler. It is stopped when its client goes away, and
//! when its time is up; what it holds, its place among them, is given back when it has really ended.

use std::pin::Pin;
use std::sync::{Arc, PoisonError, RwLock};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use axum::body::Body;
use axum::http::uri::Authority;
use axum::http::{HeaderValue, Method, Request, Response, StatusCode, Uri, Version, header};
use bytes::Bytes;
use http_body::{Body as _, Frame, SizeHint};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use infer_core::{Cancel, Error, ErrorKind, Result, Signature, Tensor, clip};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use wasmtime_wasi_http::p2::body::HyperOutgoingBody;

use crate::backends::Backends;
use crate::config::Limits;
use crate::guest::{Answering, End, Guest, Instance, Outcome, Role, Stopper};
use crate::nn::usage::Limit;
use crate::serve::State;
use crate::serve::access::{self, Fault, RequestId};
use crate::serve::admission::{Admission, Permit};
use crate::serve::config::GuestConfig;
use crate::serve::counters::{Ending, Instances, Requests};
use crate::serve::errors::LastErrors;
use crate::serve::fate::{Arriving, Fate, why};
use crate::serve::log::LogStream;
use crate::serve::repository::View;
use crate::spans;

/// The first segment of the Open Inference Protocol's paths.
const PROTOCOL: &str = "v2";

/// A guest that answers requests.
pub(crate) struct ServedGuest {
    pub(crate) config: GuestConfig,
    /// The models that it reaches.
    pub(crate) view: Arc<View>,
    backends: Arc<Backends>,
    role: Role,
    program: RwLock<Arc<Guest>>,
    pub(crate) admission: Admission,
    pub(crate) requests: Requests,
    pub(crate) instances: Instances,
    errors: Arc<LastErrors>,
}

/// Guests by their routes.
#[derive(Default)]
pub(crate) struct Guests(Vec<Arc<ServedGuest>>);

impl Guests {
    /// # Errors
    /// `InvalidArgument` for a route that two guests have, or that is none; `UnsupportedOperation` for a guest that
    /// cannot be served.
    pub(crate) fn new(
        guests: impl Iterator<Item = (GuestConfig, Guest)>,
        (backends, errors): (&Arc<Backends>, &Arc<LastErrors>),
    ) -> Result<Guests> {
        let mut served: Vec<Arc<ServedGuest>> = Vec::new();
        for (config, guest) in guests {
            check_role(&config, guest.role())?;
            check_route(&config)?;
            check_dirs(&config)?;
            let taken = |other: &&Arc<ServedGuest>| {
                guest.role() == Role::Http
                    && other.role() == Role::Http
                    && segments(&other.config.route).eq(segments(&config.route))
            };
            if let Some(other) = served.iter().find(taken) {
                let message = format!(
                    "the guests `{}` and `{}` have the same route `{}`",
                    other.config.name, config.name, config.route
                );
                return Err(Error::new(ErrorKind::InvalidArgument, message));
            }
            let what = format!("the guest `{}`", config.name);
            served.push(Arc::new(ServedGuest {
                admission: Admission::new(&what, config.concurrency.get(), config.queue),
                view: Arc::new(View::new(config.models.clone())),
                backends: backends.clone(),
                config,
                role: guest.role(),
                program: RwLock::new(Arc::new(guest)),
                requests: Requests::default(),
                instances: Instances::default(),
                errors: errors.clone(),
            }));
        }
        Ok(Guests(served))
    }

    pub(crate) fn all(&self) -> &[Arc<ServedGuest>] {
        &self.0
    }

    /// Whether no guest answers requests of its own.
    fn none_answers(&self) -> bool {
        self.0.iter().all(|guest| guest.role() != Role::Http)
    }

    /// The guest with the longest route that the path is below.
    fn of(&self, path: &str) -> Option<&Arc<ServedGuest>> {
        let below = |guest: &&Arc<ServedGuest>| {
            let mut path = segments(path);
            segments(&guest.config.route).all(|segment| path.next() == Some(segment))
        };
        let length = |guest: &&Arc<ServedGuest>| segments(&guest.config.route).count();
        let answers = |guest: &&Arc<ServedGuest>| guest.role() == Role::Http;
        self.0
            .iter()
            .filter(answers)
            .filter(below)
            .max_by_key(length)
    }
}

fn segments(path: &str) -> impl Iterator<Item = &str> {
    path.split('/').filter(|segment| !segment.is_empty())
}

fn check_role(config: &GuestConfig, role: Role) -> Result<()> {
    match role {
        Role::Http | Role::Model => Ok(()),
        Role::Command => {
            let message = format!(
                "the guest `{}` {role}: expected a component that exports `wasi:http/incoming-handler` or \
                 `infer:nn/transform`",
                config.name
            );
            Err(Error::new(ErrorKind::UnsupportedOperation, message)
                .with_hint("run it: infer run GUEST"))
        }
    }
}

fn check_route(config: &GuestConfig) -> Result<()> {
    let route = &config.route;
    let fault = match route {
        _ if !route.starts_with('/') => "a path that starts with `/`",
        _ if segments(route).next() == Some(PROTOCOL) => {
            "a path that is not below `/v2`, which is the protocol's"
        }
        _ if route.contains(['?', '#']) => "a path without a query",
        _ if !route.is_ascii() || route.parse::<Uri>().is_err() => "a path as it stands in a URL",
        _ => return Ok(()),
    };
    let message = format!(
        "the guest `{}`: expected {fault}, got the route `{route}`",
        config.name
    );
    Err(Error::new(ErrorKind::InvalidArgument, message))
}

/// Fails for a folder that is not there, which would otherwise fail every request.
fn check_dirs(config: &GuestConfig) -> Result<()> {
    let missing = config.grants.dirs.iter().find(|dir| !dir.host.is_dir());
    missing.map_or(Ok(()), |dir| {
        let message = format!(
            "the guest `{}`: expected a folder at `{}`, found none",
            config.name,
            dir.host.display()
        );
        Err(Error::new(ErrorKind::NotFound, message)
            .with_hint("make it, or take it out of the guest's `dirs` (--dir)"))
    })
}

/// Answers a request that is none of the protocol's.
pub(crate) async fn handle(state: Arc<State>, request: Request<Body>) -> Response<Body> {
    let path = request.uri().path();
    let protocols = segments(path).next() == Some(PROTOCOL);
    let Some(guest) = state.guests.of(path).filter(|_| !protocols).cloned() else {
        let message = match state.guests.none_answers() || protocols {
            true => format!(
                "nothing is served at `{}`: models are below /v2/models",
                clip(path)
            ),
            false => format!("no guest has a route for `{}`", clip(path)),
        };
        return refusal(&Error::new(ErrorKind::NotFound, message));
    };
    access::is_for(&guest.config.name);
    let started = Instant::now();
    let answered = answer(&state, &guest, request).await;
    answered.unwrap_or_else(|error| {
        guest.refused(&error, started.elapsed());
        told(&error)
    })
}

async fn answer(
    state: &Arc<State>,
    guest: &Arc<ServedGuest>,
    request: Request<Body>,
) -> Result<Response<Body>> {
    let most = usize::try_from(state.config.limits.body).unwrap_or(usize::MAX);
    let request = with_authority(check_length(request, most)?)?;
    let started = Instant::now();
    let permit = guest.enter(started, None).await?;
    let is_head = request.method() == Method::HEAD;
    let is_http2 = request.version() == Version::HTTP_2;
    let limited = guest.clone();
    let request = request.map(|body| {
        Limited::new(body, most).map_err(move |error| {
            if error.is::<LengthLimitError>() {
                limited.instances.hit(Limit::Body);
            }
            body_error(error)
        })
    });
    let asked = guest.program().answer(guest.instance(permit), request)?;
    let (response, mut watching) = guest.watch(asked, started, None);
    match watching.answer(response).await {
        Ok(Ok(response)) => {
            let bodiless = [StatusCode::NO_CONTENT, StatusCode::NOT_MODIFIED];
            let left = match is_head || bodiless.contains(&response.status()) {
                true => Some(0),
                false => length(&response),
            };
            if left == Some(0) {
                watching.stop = None;
                if is_http2 {
                    // There it would be sent, though such a response must not have it.
                    return Ok(response.map(|_| Body::empty()));
                }
            }
            Ok(response.map(|body| {
                Body::new(Answer {
                    body,
                    left,
                    watching,
                })
            }))
        }
        Ok(Err(error)) => {
            watching.stop = None;
            Ok(told(&error))
        }
        // It ended without a response, which has been logged and counted.
        Err(error) => Ok(refusal(&error)),
    }
}

/// The length of a response's body, where that is said beforehand.
fn length<B: http_body::Body>(response: &Response<B>) -> Option<u64> {
    let said = response.headers().get(header::CONTENT_LENGTH);
    let said = said.and_then(|length| length.to_str().ok()?.parse().ok());
    said.or(response.body().size_hint().exact())
}

/// A refusal with what the log is to say of it.
fn told(error: &Error) -> Response<Body> {
    let mut response = refusal(error);
    let fault = Fault(error.to_string().into());
    response.extensions_mut().insert(fault);
    response
}

/// Refuses early what is known to be too long.
fn check_length(request: Request<Body>, most: usize) -> Result<Request<Body>> {
    match request.body().size_hint().lower() {
        length if length > most as u64 => Err(too_long(most, Some(length))),
        _ => Ok(request),
    }
}

/// A request that says whom it is for, as guests are told. HTTP/1.0 need not say it.
fn with_authority(mut request: Request<Body>) -> Result<Request<Body>> {
    if request.uri().authority().is_some() {
        return Ok(request);
    }
    let host = request.headers().get(header::HOST);
    if host.is_none() && request.version() == Version::HTTP_10 {
        let anybody = HeaderValue::from_static("localhost");
        request.headers_mut().insert(header::HOST, anybody);
        return Ok(request);
    }
    let authority = host.and_then(|host| host.to_str().ok()?.parse::<Authority>().ok());
    match authority {
        Some(_) => Ok(request),
        None => {
            let message = format!("expected a host and its port in `Host`, got {host:?}");
            Err(Error::new(ErrorKind::InvalidArgument, message))
        }
    }
}

pub(crate) fn too_long(most: usize, length: Option<u64>) -> Error {
    let got = length.map_or("more".to_owned(), |length| length.to_string());
    let message = format!("expected a body of at most {most} bytes, got {got}");
    Error::new(ErrorKind::TooLarge, message).with_hint("raise --max-body")
}

/// What a guest reads where a body ends early.
fn body_error(error: Box<dyn std::error::Error + Send + Sync>) -> wasmtime_wasi_http::Error {
    match error.is::<LengthLimitError>() {
        true => wasmtime_wasi_http::Error::HttpRequestBodySize(None),
        false => wasmtime_wasi_http::Error::HttpProtocolError,
    }
}

fn no_answer(end: End) -> Error {
    match end {
        End::TimedOut(time) => {
            let message = format!("the guest was stopped at its timeout of {time:?}");
            Error::new(ErrorKind::Timeout, message)
        }
        End::Trapped(error) => error,
        End::Failed(error) => match error.kind() {
            // What its operator granted it is not its client's to know or to mend.
            ErrorKind::NotFound | ErrorKind::Security | ErrorKind::InvalidArgument => {
                let message = "the guest could not be started: the server's log says why";
                Error::new(ErrorKind::RuntimeError, message)
            }
            _ => error,
        },
        End::Exited(_) => Error::new(
            ErrorKind::RuntimeError,
            "the guest ended without a response",
        ),
    }
}

impl ServedGuest {
    /// What it can be asked for.
    pub(crate) fn role(&self) -> Role {
        self.role
    }

    /// What new instances are made of.
    pub(crate) fn program(&self) -> Arc<Guest> {
        let program = self.program.read();
        program.unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// What its file is now.
    ///
    /// # Errors
    /// Those of reading and compiling it; `UnsupportedOperation` where it cannot be asked for the same.
    pub(crate) fn prepare_anew(
        &self,
        prepare: impl Fn(&GuestConfig) -> Result<Guest>,
    ) -> Result<Arc<Guest>> {
        let program = prepare(&self.config)?;
        let (expected, role) = (self.role, program.role());
        if role == expected {
            return Ok(Arc::new(program));
        }
        let message = format!(
            "the guest `{}` {role} now: expected one that {expected}, as before",
            self.config.name
        );
        Err(Error::new(ErrorKind::UnsupportedOperation, message).with_hint("start the server anew"))
    }

    /// Makes new instances of this one from now on.
    pub(crate) fn replace(&self, program: Arc<Guest>) {
        *self.program.write().unwrap_or_else(PoisonError::into_inner) = program;
    }

    /// Asks one what it takes and gives as a model.
    pub(crate) async fn describe(self: &Arc<Self>, program: &Guest) -> Result<Signature> {
        let started = Instant::now();
        let permit = self.admission.enter().await?;
        let asked = program.describe(self.instance(permit))?;
        let (answer, mut watching) = self.watch(asked, started, None);
        let described = watching.answer(answer).await;
        watching.stop = None;
        described?
    }

    /// Has it make outputs of inputs as a model. Dropping the future stops the instance; its time is up where the deadline
    /// is cancelled by then. What the guest says of the inputs is the caller's to read, what went wrong in it stays in
    /// the log.
    pub(crate) async fn transform(
        self: &Arc<Self>,
        (program, signature): (&Guest, &Signature),
        inputs: Vec<Tensor>,
        deadline: &Cancel,
    ) -> Result<Vec<Tensor>> {
        let (started, name) = (Instant::now(), &self.config.name);
        let permit = self.enter(started, Some(deadline)).await;
        let permit = permit.inspect_err(|error| self.refused(error, started.elapsed()))?;
        let asked = program.transform(self.instance(permit), signature, inputs);
        let asked = asked.inspect_err(|error| self.refused(error, started.elapsed()))?;
        let (answer, mut watching) = self.watch(asked, started, Some(deadline.clone()));
        let answer = watching
            .answer(answer)
            .await
            .map_err(|error| match error.kind() {
                ErrorKind::RuntimeError => {
                    let message = format!("the guest `{name}` failed");
                    Error::new(ErrorKind::RuntimeError, message)
                }
                _ => error,
            });
        // An instance that has answered has nothing more to do.
        watching.stop = None;
        answer?.map_err(|error| match error.kind() {
            ErrorKind::RuntimeError => {
                let id = RequestId::current();
                tracing::warn!(guest = name, request_id = id.as_str(), "{}", error.report());
                let message = format!("the guest `{name}`: {error}");
                Error::new(ErrorKind::RuntimeError, message)
            }
            _ => error,
        })
    }

    /// Has a task of its own wait for the instance's end.
    fn watch<T>(
        self: &Arc<Self>,
        asked: Answering<T>,
        started: Instant,
        deadline: Option<Cancel>,
    ) -> (oneshot::Receiver<Result<T>>, Watching) {
        let Answering {
            answer,
            outcome,
            stop,
        } = asked;
        let (watched, id, begun) = (self.clone(), RequestId::current(), Instant::now());
        let fate = Arc::new(Fate::new(self.clone(), started));
        let settled = fate.clone();
        let task = tokio::spawn(async move {
            let outcome = outcome.await;
            watched.instances.ended(begun.elapsed(), &outcome.usage);
            watched.ended(&outcome.end, &id, settled.why_left());
            settled.ended(&outcome.end);
            outcome
        });
        let stop = Some(stop);
        let watching = Watching {
            stop,
            fate,
            task,
            deadline,
        };
        (answer, watching)
    }

    /// Waits for a place.
    async fn enter(&self, since: Instant, deadline: Option<&Cancel>) -> Result<Permit> {
        let _span = spans::queue();
        let arriving = Arriving::new(&self.requests, since, deadline);
        let entered = self.admission.enter().await;
        arriving.entered();
        entered
    }

    /// Counts a request that got no instance.
    fn refused(&self, error: &Error, took: Duration) {
        self.requests.ended(Ending::of(error), took);
        match error.kind() {
            ErrorKind::Busy => self.instances.hit(Limit::Queue),
            ErrorKind::TooLarge => self.instances.hit(Limit::Body),
            _ => {}
        }
    }

    fn instance(&self, permit: Permit) -> Instance {
        let (config, id) = (&self.config, RequestId::current());
        let mut instance = Instance::new(
            vec![config.name.clone()],
            self.view.registry(),
            self.backends.clone(),
        );
        instance.grants = config.grants.clone();
        instance.limits = Limits {
            timeout: config.limits.timeout.or(Some(GuestConfig::TIMEOUT)),
            ..config.limits.clone()
        };
        instance.stdout = Box::new(LogStream::new(&config.name, &id, "stdout"));
        instance.stderr = Box::new(LogStream::new(&config.name, &id, "stderr"));
        instance.permit = Some(Box::new(permit));
        instance.request_id = id.as_str().to_owned();
        instance
    }

    /// Says how an instance ended, if that was not well.
    fn ended(&self, end: &End, id: &RequestId, left: Option<Ending>) {
        let (guest, request_id) = (&self.config.name, id.as_str());
        let text = match end {
            End::Exited(_) => return,
            _ if left.is_some() => {
                let why = match left {
                    Some(Ending::Timeout) => "the time of its request is up",
                    _ => "its client went away",
                };
                tracing::info!(guest, request_id, "stopped, {why}");
                return;
            }
            End::TimedOut(time) => {
                self.instances.hit(Limit::Timeout);
                format!("stopped at its timeout of {time:?}")
            }
            End::Trapped(error) | End::Failed(error) => {
                tracing::debug!(guest, request_id, "{}", error.report());
                error.to_string()
            }
        };
        self.failed(id, &text);
    }

    /// Says what went wrong in it.
    fn failed(&self, id: &RequestId, text: &str) {
        let (guest, request_id) = (&self.config.name, id.as_str());
        tracing::warn!(guest, request_id, "{text}");
        self.errors.add((request_id, guest), text);
    }
}

/// An instance that goes on, and is stopped when nobody waits for it any more.
struct Watching {
    stop: Option<Stopper>,
    fate: Arc<Fate>,
    task: JoinHandle<Outcome>,
    /// Of the request, where it has one of its own.
    deadline: Option<Cancel>,
}

impl Watching {
    /// What the instance answers, or how it ended without. Its end is waited for too: an engine that keeps its thread
    /// keeps the sender of its answer.
    async fn answer<T>(&mut self, answer: oneshot::Receiver<Result<T>>) -> Result<Result<T>> {
        let answer = self.received(answer).await;
        self.fate.answered(match &answer {
            Ok(Ok(_)) => Ending::Ok,
            Ok(Err(error)) => Ending::of(error),
            Err(_) => Ending::Failed,
        });
        answer
    }

    async fn received<T>(&mut self, mut answer: oneshot::Receiver<Result<T>>) -> Result<Result<T>> {
        let outcome = tokio::select! {
            biased;
            Ok(answer) = &mut answer => return Ok(answer),
            outcome = &mut self.task => outcome,
        };
        if let Ok(answer) = answer.try_recv() {
            return Ok(answer);
        }
        let outcome = outcome.map_err(|error| {
            Error::new(ErrorKind::RuntimeError, "the host failed").with_source(error)
        });
        let end = outcome?.end;
        let exited = matches!(end, End::Exited(_));
        let error = no_answer(end);
        if exited {
            let guest = self.fate.guest();
            guest.failed(&RequestId::current(), &error.to_string());
        }
        Err(error)
    }
}

impl Drop for Watching {
    fn drop(&mut self) {
        if let Some(stop) = self.stop.take() {
            self.fate.left(why(self.deadline.as_ref()));
            if !self.task.is_finished() {
                stop.stop();
            }
        }
    }
}

/// A response's body as the guest writes it.
struct Answer {
    body: HyperOutgoingBody,
    /// What is to come of it, where its length was said beforehand: then nobody asks for its end.
    left: Option<u64>,
    watching: Watching,
}

impl http_body::Body for Answer {
    type Data = Bytes;
    type Error = wasmtime_wasi_http::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<std::result::Result<Frame<Bytes>, Self::Error>>> {
        let mut polled = Pin::new(&mut self.body).poll_frame(context);
        // A guest that was stopped drops the body that it was writing, which looks like its end.
        let broken = |stop: &Stopper| stop.has_failed();
        if matches!(polled, Poll::Ready(None)) && self.watching.stop.as_ref().is_some_and(broken) {
            polled = Poll::Ready(Some(Err(wasmtime_wasi_http::Error::HttpResponseIncomplete)));
        }
        if let (Poll::Ready(Some(Ok(frame))), Some(left)) = (&polled, &mut self.left) {
            let data = frame.data_ref().map_or(0, Bytes::len);
            *left = left.saturating_sub(data as u64);
        }
        let failed = |stop: &Stopper| stop.has_failed();
        let counted_then = self.watching.stop.as_ref().is_none_or(failed);
        if matches!(polled, Poll::Ready(Some(Err(_)))) && !counted_then {
            // The guest gave the body up. What stopped it instead is counted when it has ended.
            self.watching.fate.answered(Ending::Failed);
        }
        let over = matches!(polled, Poll::Ready(None | Some(Err(_)))) || self.left == Some(0);
        if over || self.body.is_end_stream() {
            // The client has not gone. The instance may still have something to do, up to its timeout.
            self.watching.stop = None;
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// An error as a response: what a client did wrong is told, what a guest did wrong stays in the log.
pub(crate) fn refusal(error: &Error) -> Response<Body> {
    let status = status(error.kind());
    let text = match status {
        StatusCode::INTERNAL_SERVER_ERROR => "the guest failed".to_owned(),
        _ => error.report(),
    };
    let mut response = Response::new(Body::from(format!("{text}\n")));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(
        header::CONTENT_TYPE,
        header::HeaderValue::from_static("text/plain"),
    );
    if status == StatusCode::SERVICE_UNAVAILABLE {
        headers.insert(header::RETRY_AFTER, header::HeaderValue::from_static("1"));
    }
    response
}

/// The status of HTTP that a failure has.
pub(crate) fn status(kind: ErrorKind) -> StatusCode {
    match kind {
        ErrorKind::InvalidArgument | ErrorKind::InvalidEncoding => StatusCode::BAD_REQUEST,
        ErrorKind::NotFound => StatusCode::NOT_FOUND,
        ErrorKind::Security => StatusCode::FORBIDDEN,
        ErrorKind::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
        ErrorKind::Busy => StatusCode::SERVICE_UNAVAILABLE,
        ErrorKind::Timeout => StatusCode::GATEWAY_TIMEOUT,
        ErrorKind::UnsupportedOperation => StatusCode::NOT_IMPLEMENTED,
        ErrorKind::RuntimeError | ErrorKind::Unknown => StatusCode::INTERNAL_SERVER_ERROR,
    }
}
