//! The Open Inference Protocol (KServe v2), by REST and by gRPC, with Triton's extensions: binary tensors, the
//! repository, configuration, statistics.
//!
//! `rest` and `grpc` read and write; both end in `infer`. `about` is what is said of models, `control` changes them.

mod about;
mod binary;
mod codec;
mod control;
mod datatype;
mod grpc;
mod infer;
mod json;
mod rest;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use axum::Router;
use axum::body::Body;
use axum::extract::{FromRequestParts, Path, State as Shared};
use axum::http::request::Parts;
use axum::http::{HeaderValue, Method, Request, Response, StatusCode, header};
use axum::routing::{any, get, post};
use infer_core::{Error, ErrorKind, Result, clip};
use serde::de::{DeserializeOwned, IgnoredAny};
use serde::{Deserialize, Serialize};

use crate::serve::State;
use crate::serve::access;
use crate::serve::repository::{Entry, Ready};
use control::{Change, Denied};
use rest::{json_response, refusal, to_json};

pub(crate) use grpc::router as grpc_router;

/// What is answered by REST.
pub(crate) fn router(state: Arc<State>) -> Router {
    let models = Router::new()
        .route("/v2", get(server))
        .route("/v2/", get(server))
        .route("/v2/models/stats", get(all_statistics))
        .route("/v2/models/{model}", get(metadata))
        .route("/v2/models/{model}/ready", get(ready))
        .route("/v2/models/{model}/config", get(configuration))
        .route("/v2/models/{model}/stats", get(statistics))
        .route("/v2/models/{model}/infer", post(answer))
        .route("/v2/models/{model}/versions/{version}", get(metadata))
        .route("/v2/models/{model}/versions/{version}/ready", get(ready))
        .route(
            "/v2/models/{model}/versions/{version}/config",
            get(configuration),
        )
        .route(
            "/v2/models/{model}/versions/{version}/stats",
            get(statistics),
        )
        .route("/v2/models/{model}/versions/{version}/infer", post(answer))
        .route("/v2/repository/index", post(index))
        .route("/v2/repository/models/{model}/load", post(load))
        .route("/v2/repository/models/{model}/unload", post(unload))
        .route("/v2/{*other}", any(nothing))
        .with_state(state.clone());
    health(state)
        .merge(models)
        .method_not_allowed_fallback(another_method)
}

/// Whether the server lives, and whether it is ready.
pub(crate) fn health(state: Arc<State>) -> Router {
    Router::new()
        .route("/v2/health/live", get(async || said("live", true)))
        .route(
            "/v2/health/ready",
            get(async |Shared(state): Shared<Arc<State>>| said("ready", state.is_ready())),
        )
        .with_state(state)
}

/// `{"what": whether}`, with a status that says the same.
fn said(what: &str, whether: bool) -> Response<Body> {
    let status = match whether {
        true => StatusCode::OK,
        false => StatusCode::SERVICE_UNAVAILABLE,
    };
    json_response(status, format!("{{\"{what}\":{whether}}}").into_bytes())
}

/// A model's name, and a version where the path has one.
#[derive(Deserialize)]
struct Named {
    model: String,
    #[serde(default)]
    version: String,
}

impl<S: Send + Sync> FromRequestParts<S> for Named {
    type Rejection = Response<Body>;

    async fn from_request_parts(
        parts: &mut Parts,
        state: &S,
    ) -> std::result::Result<Named, Response<Body>> {
        let named = Path::from_request_parts(parts, state).await;
        let Path::<Named>(named) = named.map_err(|_| {
            let message = format!("expected a path of UTF-8, got `{}`", clip(parts.uri.path()));
            refusal(&Error::new(ErrorKind::InvalidArgument, message))
        })?;
        access::is_for(&named.model);
        Ok(named)
    }
}

impl Named {
    fn entry<'a>(&self, state: &'a State) -> Result<&'a Entry> {
        let entry = state.repository.entry(&self.model)?;
        infer::check_version(&self.model, &self.version)?;
        Ok(entry)
    }
}

fn written(value: Result<impl Serialize>) -> Response<Body> {
    match value.and_then(|value| to_json(&value)) {
        Ok(json) => json_response(StatusCode::OK, json),
        Err(error) => refusal(&error),
    }
}

async fn server() -> Response<Body> {
    written(Ok(about::server()))
}

async fn nothing(request: Request<Body>) -> Response<Body> {
    let message = format!("the protocol has no `{}`", clip(request.uri().path()));
    refusal(&Error::new(ErrorKind::NotFound, message))
}

async fn another_method(request: Request<Body>) -> Response<Body> {
    let (method, path) = (request.method(), clip(request.uri().path()));
    let expected = match *method {
        Method::POST => "GET",
        Method::GET | Method::HEAD => "POST",
        _ => "GET or POST",
    };
    let message = format!("expected {expected} at `{path}`, got {method}");
    let mut response = refusal(&Error::new(ErrorKind::UnsupportedOperation, message));
    *response.status_mut() = StatusCode::METHOD_NOT_ALLOWED;
    response
}

async fn metadata(Shared(state): Shared<Arc<State>>, named: Named) -> Response<Body> {
    written(of_ready(&state, &named, about::model))
}

async fn configuration(Shared(state): Shared<Arc<State>>, named: Named) -> Response<Body> {
    written(of_ready(&state, &named, about::configuration))
}

fn of_ready<T>(state: &State, named: &Named, about: impl FnOnce(&Entry, &Ready) -> T) -> Result<T> {
    let entry = named.entry(state)?;
    Ok(about(entry, &*entry.ready()?))
}

async fn ready(Shared(state): Shared<Arc<State>>, named: Named) -> Response<Body> {
    #[derive(Serialize)]
    struct Readiness<'a> {
        name: &'a str,
        ready: bool,
    }
    let entry = match named.entry(&state) {
        Ok(entry) => entry,
        Err(error) => return refusal(&error),
    };
    let readiness = Readiness {
        name: entry.name(),
        ready: state.repository.can_answer(entry),
    };
    let mut response = written(Ok(&readiness));
    if !readiness.ready {
        *response.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
    }
    response
}

async fn answer(
    Shared(state): Shared<Arc<State>>,
    named: Named,
    request: Request<Body>,
) -> Response<Body> {
    rest::answer(state, (named.model, named.version), request).await
}

#[derive(Serialize)]
struct AllStatistics {
    model_stats: Vec<about::ModelStatistics>,
}

async fn all_statistics(Shared(state): Shared<Arc<State>>) -> Response<Body> {
    let entries = state.repository.entries();
    written(Ok(AllStatistics {
        model_stats: entries.iter().map(about::statistics).collect(),
    }))
}

async fn statistics(Shared(state): Shared<Arc<State>>, named: Named) -> Response<Body> {
    written(named.entry(&state).map(|entry| AllStatistics {
        model_stats: vec![about::statistics(entry)],
    }))
}

async fn index(Shared(state): Shared<Arc<State>>, request: Request<Body>) -> Response<Body> {
    #[derive(Default, Deserialize)]
    #[serde(default, expecting = "an object")]
    struct Wanted {
        ready: bool,
    }
    let wanted = read(&state, request, "{\"ready\": true} or nothing").await;
    written(wanted.map(|Wanted { ready }| about::index(&state, ready)))
}

/// What a request of a few words says; nothing is the default.
async fn read<T: Default + DeserializeOwned>(
    state: &State,
    request: Request<Body>,
    expected: &str,
) -> Result<T> {
    let (_, body) = rest::collect(state, request, Instant::now()).await?;
    if body.trim_ascii().is_empty() {
        return Ok(T::default());
    }
    serde_json::from_slice(&body).map_err(|error| {
        let message = format!("expected {expected}");
        Error::new(ErrorKind::InvalidArgument, message).with_source(error)
    })
}

async fn load(
    Shared(state): Shared<Arc<State>>,
    named: Named,
    request: Request<Body>,
) -> Response<Body> {
    change(&state, (named.model, Change::Load), request).await
}

async fn unload(
    Shared(state): Shared<Arc<State>>,
    named: Named,
    request: Request<Body>,
) -> Response<Body> {
    change(&state, (named.model, Change::Unload), request).await
}

async fn change(
    state: &Arc<State>,
    (model, change): (String, Change),
    request: Request<Body>,
) -> Response<Body> {
    #[derive(Default, Deserialize)]
    #[serde(default, expecting = "an object")]
    struct Wanted {
        parameters: Option<BTreeMap<String, IgnoredAny>>,
    }
    let authorization = request.headers().get(header::AUTHORIZATION);
    let authorization = authorization.and_then(|value| value.to_str().ok());
    if let Err(denied) = control::check(&state.config.model_control, authorization) {
        let mut response = refusal(&denied.error());
        if denied == Denied::NoToken {
            *response.status_mut() = StatusCode::UNAUTHORIZED;
            let scheme = HeaderValue::from_static("Bearer");
            response
                .headers_mut()
                .insert(header::WWW_AUTHENTICATE, scheme);
        }
        return response;
    }
    let changed = async {
        let wanted: Wanted = read(state, request, "{\"parameters\": {...}} or nothing").await?;
        let parameters = wanted.parameters.unwrap_or_default();
        control::check_parameters(parameters.keys().map(String::as_str))?;
        control::change(state, model, change).await
    };
    match changed.await {
        Ok(()) => json_response(StatusCode::OK, b"{}".to_vec()),
        Err(error) => refusal(&error),
    }
}
