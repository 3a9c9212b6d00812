//! Traces, exported by OTLP over gRPC to a collector.
//!
//! What is exported are the spans of `spans`. A request that names the trace of its client (`traceparent`, W3C Trace
//! Context) becomes a part of that. Spans are sent in batches by a thread of their own; what a collector does not take
//! in time is dropped, so that a server never waits for one.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use axum::http::{HeaderMap, Request, StatusCode};
use infer_core::{Error, ErrorKind, Result};
use opentelemetry::propagation::{Extractor, TextMapPropagator};
use opentelemetry::trace::{TraceContextExt, TracerProvider};
use opentelemetry::{Context, KeyValue};
use opentelemetry_otlp::{SpanExporter, WithExportConfig};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::propagation::TraceContextPropagator;
use opentelemetry_sdk::trace::{SdkTracerProvider, SpanData};
use tracing::{Span, Subscriber};
use tracing_opentelemetry::{OpenTelemetryLayer, OpenTelemetrySpanExt};
use tracing_subscriber::Layer;
use tracing_subscriber::filter::filter_fn;
use tracing_subscriber::registry::LookupSpan;

use crate::spans::TARGET;

/// How long a batch of spans may take to be sent.
const EXPORT: Duration = Duration::from_secs(5);

/// How the traces of a process name it, unless its environment says otherwise.
const SERVICE: &str = "infer";
const SERVICE_VARIABLE: &str = "OTEL_SERVICE_NAME";

/// Where a process sends its traces.
pub struct Traces {
    provider: SdkTracerProvider,
}

impl Traces {
    /// Traces for the collector at this address: `http://localhost:4317`, say. It is not connected to before there is a
    /// span. Must be called within a tokio runtime, which has to run until [`Traces::end`] has returned.
    ///
    /// # Errors
    /// `InvalidArgument` for an address that is none.
    pub fn to(collector: &str) -> Result<Traces> {
        let wrong = |got: String| {
            Error::new(
                ErrorKind::InvalidArgument,
                format!("expected a collector's address, such as http://localhost:4317, {got}"),
            )
            .with_hint("--otlp takes OTLP over gRPC without encryption; TLS ends at a collector beside the server")
        };
        if !collector.starts_with("http://") {
            return Err(wrong(format!("got `{}`", infer_core::clip(collector))));
        }
        let exporter = SpanExporter::builder()
            .with_tonic()
            .with_endpoint(collector)
            .with_timeout(EXPORT)
            .build()
            .map_err(|error| {
                wrong(format!("got `{}`", infer_core::clip(collector))).with_source(error)
            })?;
        let version = KeyValue::new("service.version", env!("CARGO_PKG_VERSION"));
        let resource = Resource::builder().with_attribute(version);
        let resource = match std::env::var_os(SERVICE_VARIABLE) {
            Some(_) => resource,
            None => resource.with_service_name(SERVICE),
        };
        let exporter = Telling {
            exporter,
            failing: AtomicBool::new(false),
        };
        let provider = SdkTracerProvider::builder()
            .with_resource(resource.build())
            .with_batch_exporter(exporter)
            .build();
        Ok(Traces { provider })
    }

    /// What hands the spans over; it goes into the process's subscriber.
    pub fn layer<S>(&self) -> impl Layer<S> + Send + Sync + use<S>
    where
        S: Subscriber + for<'span> LookupSpan<'span> + Send + Sync,
    {
        OpenTelemetryLayer::new(self.provider.tracer(SERVICE))
            .with_location(false)
            .with_target(false)
            .with_threads(false)
            .with_tracked_inactivity(false)
            .with_filter(filter_fn(|metadata| metadata.target() == TARGET))
    }

    /// Sends what is left, and ends. Blocks, for so long at most.
    pub fn end(self, time: Duration) {
        if let Err(error) = self.provider.shutdown_with_timeout(time) {
            tracing::warn!("not all traces were sent: {error}");
        }
    }
}

/// Says when a collector takes no spans, and when it does again.
#[derive(Debug)]
struct Telling {
    exporter: SpanExporter,
    failing: AtomicBool,
}

impl opentelemetry_sdk::trace::SpanExporter for Telling {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        let exported = self.exporter.export(batch).await;
        let failed_before = self.failing.swap(exported.is_err(), Ordering::Relaxed);
        match &exported {
            Err(error) if !failed_before => {
                tracing::warn!("the collector takes no traces, which are lost: {error}");
            }
            Ok(()) if failed_before => tracing::info!("the collector takes traces again"),
            Ok(()) | Err(_) => {}
        }
        exported
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.exporter.shutdown_with_timeout(timeout)
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.exporter.set_resource(resource);
    }
}

/// The span of a request; it belongs to its client's trace where that names one.
pub(crate) fn request<B>(request: &Request<B>) -> Span {
    let span = tracing::info_span!(
        target: TARGET,
        "request",
        otel.kind = "server",
        otel.status_code = tracing::field::Empty,
        http.request.method = %request.method(),
        url.path = infer_core::clip(request.uri().path()),
        http.response.status_code = tracing::field::Empty,
    );
    if !span.is_disabled() {
        let parent = context(request.headers());
        if parent.span().span_context().is_valid() {
            // It fails only where nobody exports.
            let _ = span.set_parent(parent);
        }
    }
    span
}

/// Enters a response's status.
pub(crate) fn answered(span: &Span, status: StatusCode) {
    span.record("http.response.status_code", i64::from(status.as_u16()));
    if status.is_server_error() {
        span.record("otel.status_code", "error");
    }
}

/// The trace that a request belongs to.
pub(crate) fn id(span: &Span, headers: &HeaderMap) -> Option<String> {
    if span.is_disabled() && !headers.contains_key("traceparent") {
        return None;
    }
    let context = match span.is_disabled() {
        true => context(headers),
        false => span.context(),
    };
    let span = context.span();
    let span = span.span_context();
    span.is_valid().then(|| span.trace_id().to_string())
}

fn context(headers: &HeaderMap) -> Context {
    TraceContextPropagator::new().extract_with_context(&Context::new(), &Headers(headers))
}

struct Headers<'a>(&'a HeaderMap);

impl Extractor for Headers<'_> {
    fn get(&self, key: &str) -> Option<&str> {
        self.0.get(key)?.to_str().ok()
    }

    fn keys(&self) -> Vec<&str> {
        self.0.keys().map(|name| name.as_str()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_trace_is_taken_from_a_sound_traceparent_alone() {
        let of = |value: &str| {
            let mut headers = HeaderMap::new();
            headers.insert("traceparent", value.parse().expect("a header's value"));
            id(&Span::none(), &headers)
        };
        let trace = "0af7651916cd43dd8448eb211c80319c";
        let sound = format!("00-{trace}-b7ad6b7169203331-01");
        assert_eq!(of(&sound).as_deref(), Some(trace));
        for unsound in [
            "",
            "00",
            trace,
            &sound[..40],
            "00-00000000000000000000000000000000-b7ad6b7169203331-01",
        ] {
            assert_eq!(of(unsound), None, "{unsound}");
        }
        assert_eq!(id(&Span::none(), &HeaderMap::new()), None);
    }

    #[tokio::test]
    async fn only_an_address_is_one() {
        assert!(Traces::to("http://127.0.0.1:4317").is_ok());
        for wrong in ["", "localhost:4317", "https://collector:4317", "http://"] {
            let Err(error) = Traces::to(wrong) else {
                panic!("`{wrong}` is no address");
            };
            assert_eq!(error.kind(), ErrorKind::InvalidArgument, "{wrong}");
        }
    }
}
