//! The page for operators at `/` of the metrics port, and `/status.json`, which it reads.
//!
//! The page is one file without outside parts. Its script and style are allowed by their digests, so nothing that ends up
//! in its text can run.

use std::collections::BTreeMap;
use std::sync::{Arc, LazyLock};

use axum::Router;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde::Serialize;
use sha2::{Digest, Sha256};

use crate::guest::Role;
use crate::latency::{BOUNDS, Latencies};
use crate::nn::usage::LIMITS;
use crate::serve::State;
use crate::serve::counters::Ending;
use crate::serve::errors::Failure;
use crate::serve::guests::ServedGuest;
use crate::serve::repository::{Entry, Stage};

const PAGE: &str = include_str!("page.html");

/// What the page may load: itself, and what it reads from this server.
static POLICY: LazyLock<String> = LazyLock::new(|| {
    let digest = |element| {
        let text = inside(element);
        BASE64_STANDARD.encode(Sha256::digest(text))
    };
    format!(
        "default-src 'none'; connect-src 'self'; img-src data:; script-src 'sha256-{}'; style-src 'sha256-{}'; \
         base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
        digest("script"),
        digest("style")
    )
});

pub(crate) fn router(state: Arc<State>) -> Router {
    let status = move || {
        let state = state.clone();
        async move { json(&state) }
    };
    Router::new()
        .route("/", get(|| async { page() }))
        .route("/status.json", get(status))
}

fn page() -> Response {
    let headers = [
        (header::CONTENT_TYPE, "text/html; charset=utf-8"),
        (header::CONTENT_SECURITY_POLICY, POLICY.as_str()),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "no-referrer"),
        (header::CACHE_CONTROL, "no-cache"),
    ];
    (headers, PAGE).into_response()
}

fn json(state: &State) -> Response {
    match serde_json::to_vec(&Status::of(state)) {
        Ok(text) => {
            let headers = [
                (header::CONTENT_TYPE, "application/json"),
                (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
                (header::CACHE_CONTROL, "no-store"),
            ];
            (headers, text).into_response()
        }
        Err(error) => {
            tracing::warn!("the status cannot be written: {error}");
            StatusCode::INTERNAL_SERVER_ERROR.into_response()
        }
    }
}

/// The text of the page's element of this name, of which there is one.
fn inside(element: &str) -> &'static str {
    let (open, close) = (format!("<{element}>"), format!("</{element}>"));
    let rest = PAGE.split_once(&*open).map_or("", |(_, rest)| rest);
    rest.split_once(&*close).map_or("", |(text, _)| text)
}

/// What the page shows. Everything that is counted only grows; the page makes rates of it.
#[derive(Serialize)]
struct Status {
    version: &'static str,
    ready: bool,
    uptime_seconds: u64,
    abandoned_threads: usize,
    /// The upper bounds of the classes of all latencies, in microseconds; one more class follows.
    latency_bounds_us: Vec<u64>,
    listeners: Vec<ListenerStatus>,
    models: Vec<ModelStatus>,
    guests: Vec<GuestStatus>,
    errors: Vec<Failure>,
}

#[derive(Serialize)]
struct ListenerStatus {
    name: &'static str,
    connections: u64,
    requests: u64,
}

#[derive(Serialize)]
struct ModelStatus {
    name: String,
    /// Whether it is a guest, which is among those too, with its figures.
    guest: bool,
    state: &'static str,
    error: Option<String>,
    backend: Option<&'static str>,
    device: Option<String>,
    precision: Option<String>,
    /// The most rows of a batch; calls run one by one where absent.
    max_batch: Option<usize>,
    /// Calls that wait now, and how many may.
    waiting: usize,
    queue: usize,
    succeeded: u64,
    failed: u64,
    runs: u64,
    run_calls: u64,
    latencies: Vec<u64>,
}

#[derive(Serialize)]
struct GuestStatus {
    name: String,
    /// None of one that is a model.
    route: Option<String>,
    instances: usize,
    max_instances: usize,
    waiting: usize,
    max_waiting: usize,
    requests: BTreeMap<&'static str, u64>,
    limits: BTreeMap<&'static str, u64>,
    instance_seconds: f64,
    sandbox_seconds: f64,
    latencies: Vec<u64>,
}

impl Status {
    fn of(state: &State) -> Status {
        Status {
            version: env!("CARGO_PKG_VERSION"),
            ready: state.is_ready(),
            uptime_seconds: state.started.elapsed().as_secs(),
            abandoned_threads: state.repository.engine().threads().abandoned(),
            latency_bounds_us: BOUNDS.iter().map(|bound| bound / 1000).collect(),
            listeners: state
                .sockets
                .iter()
                .map(|(name, there)| ListenerStatus {
                    name,
                    connections: there.open(),
                    requests: there.requests().map(|(_, count)| count).sum(),
                })
                .collect(),
            models: state.repository.entries().iter().map(model).collect(),
            guests: state
                .guests
                .all()
                .iter()
                .map(|found| guest(found))
                .collect(),
            errors: state.errors.all(),
        }
    }
}

fn model(entry: &Entry) -> ModelStatus {
    let (state, error) = match entry.stage() {
        Stage::Unloaded => ("unloaded", None),
        Stage::Loading => ("loading", None),
        Stage::Ready(_) => ("ready", None),
        Stage::Failed(error) => ("failed", Some(error.report())),
    };
    let (placed, calls) = (entry.placed(), entry.statistics());
    let scheduling = entry.config().map(|config| &config.selection.scheduling);
    let batching = scheduling.and_then(|scheduling| scheduling.batching);
    ModelStatus {
        name: entry.name().to_owned(),
        guest: entry.config().is_none(),
        state,
        error: error.map(|text| infer_core::clip_to(&text, 400).to_owned()),
        backend: placed.as_ref().map(|placed| placed.backend),
        device: placed.as_ref().map(|placed| placed.device.clone()),
        precision: placed.as_ref().map(|placed| placed.precision.clone()),
        max_batch: batching.map(|batching| batching.max_batch.get()),
        waiting: calls.waiting,
        queue: scheduling.map_or(0, |scheduling| scheduling.queue),
        succeeded: calls.succeeded,
        failed: calls.failed,
        runs: calls.runs,
        run_calls: calls.run,
        latencies: counts(entry.calls.latencies()),
    }
}

fn guest(guest: &ServedGuest) -> GuestStatus {
    let (config, requests, instances) = (&guest.config, &guest.requests, &guest.instances);
    GuestStatus {
        name: config.name.clone(),
        route: (guest.role() == Role::Http).then(|| config.route.clone()),
        instances: guest.admission.running(),
        max_instances: config.concurrency.get(),
        waiting: guest.admission.waiting(),
        max_waiting: config.queue,
        requests: Ending::ALL
            .map(|ending| (ending.name(), requests.count(ending)))
            .into(),
        limits: LIMITS
            .map(|limit| (limit.name(), instances.hits(limit)))
            .into(),
        instance_seconds: instances.living().as_secs_f64(),
        sandbox_seconds: instances.in_the_sandbox().as_secs_f64(),
        latencies: counts(requests.latencies()),
    }
}

fn counts(latencies: &Latencies) -> Vec<u64> {
    latencies.counts().to_vec()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_has_one_script_one_style_and_nothing_from_outside() {
        for element in ["script", "style"] {
            assert_eq!(PAGE.matches(&format!("<{element}")).count(), 1);
            assert!(inside(element).len() > 100, "{element}");
        }
        for outside in [
            "http:",
            "https:",
            "src=",
            "@import",
            "url(",
            "innerHTML",
            " style=",
        ] {
            assert!(!PAGE.contains(outside), "`{outside}`");
        }
        assert!(POLICY.contains("default-src 'none'") && !POLICY.contains("unsafe"));
    }
}
