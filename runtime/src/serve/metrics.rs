//! `/metrics`: everything that is counted, in Prometheus' text format, read out when it is asked for.
//!
//! A name of Triton's (`nv_inference_...`) stands where the meaning is the same, all others begin with `infer_`. What is
//! counted lives as long as the server, so that counters do not go backwards when a model is loaded anew.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use axum::Router;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use prometheus::TextEncoder;
use prometheus::core::Collector;
use prometheus::process_collector::ProcessCollector;
use prometheus::proto::{
    Bucket, Counter, Gauge, Histogram, LabelPair, Metric, MetricFamily, MetricType,
};

use crate::latency::{BOUNDS, Latencies};
use crate::nn::usage::LIMITS;
use crate::scheduler::Statistics;
use crate::serve::State;
use crate::serve::counters::Ending;
use crate::serve::guests::ServedGuest;
use crate::serve::repository::{Entry, Placed, Stage};

const FORMAT: &str = "text/plain; version=0.0.4; charset=utf-8";

/// The version that every model has in the protocol.
const VERSION: &str = "1";

/// Leading digits, in tenths, of the bounds that histograms of times show.
const SHOWN: [u64; 3] = [10, 25, 50];

pub(crate) fn router(state: Arc<State>) -> Router {
    let process = Arc::new(ProcessCollector::for_self());
    let metrics = move || {
        let (state, process) = (state.clone(), process.clone());
        async move { answer(&state, &process) }
    };
    Router::new().route("/metrics", get(metrics))
}

fn answer(state: &State, process: &ProcessCollector) -> Response {
    let mut families = families(state);
    families.extend(process.collect());
    families.retain(|family| !family.get_metric().is_empty());
    match TextEncoder::new().encode_to_string(&families) {
        Ok(text) => ([(header::CONTENT_TYPE, FORMAT)], text).into_response(),
        Err(error) => {
            tracing::warn!("metrics cannot be written: {error}");
            StatusCode::INTERNAL_SERVER_ERROR.into_response()
        }
    }
}

fn families(state: &State) -> Vec<MetricFamily> {
    let mut families = Vec::new();
    server(state, &mut families);
    models(state, &mut families);
    guests(state, &mut families);
    families
}

/// A model with what is known of it: nothing before it was loaded for the first time.
struct Known<'a> {
    entry: &'a Entry,
    placed: Arc<Placed>,
    calls: Statistics,
}

impl Known<'_> {
    fn labels(&self) -> [(&'static str, &str); 4] {
        [
            ("model", self.entry.name()),
            ("version", VERSION),
            ("backend", self.placed.backend),
            ("device", &self.placed.device),
        ]
    }
}

fn models(state: &State, families: &mut Vec<MetricFamily>) {
    let entries = state.repository.entries();
    let ready = entries.iter().map(|entry| {
        let ready = matches!(entry.stage(), Stage::Ready(_));
        gauge(&[("model", entry.name())], f64::from(u8::from(ready)))
    });
    families.push(family(
        "infer_model_ready",
        "Whether the model is loaded",
        MetricType::GAUGE,
        ready.collect(),
    ));
    let known = entries.iter().filter_map(|entry| {
        Some(Known {
            entry,
            placed: entry.placed()?,
            calls: entry.statistics(),
        })
    });
    let known: Vec<Known> = known.collect();
    let info = known.iter().map(|known| {
        let [model, version, backend, device] = known.labels();
        let precision = ("precision", known.placed.precision.as_str());
        gauge(&[model, version, backend, device, precision], 1.0)
    });
    families.push(family(
        "infer_model_info",
        "Where the model really runs, and what it computes in where it says f32",
        MetricType::GAUGE,
        info.collect(),
    ));
    let failures = known.iter().flat_map(|known| {
        let (calls, requests) = (&known.calls, &known.entry.requests);
        let others = calls.refused + calls.stopped + calls.unfit + calls.unfit_of_clients;
        let engine = calls.failed.saturating_sub(others);
        let reasons = [
            ("REJECTED", calls.refused),
            ("CANCELED", calls.stopped),
            ("BACKEND", engine),
            // What did not fit for a client is among its requests already.
            ("OTHER", requests.count(Ending::Invalid) + calls.unfit),
        ];
        reasons.map(|(reason, count)| {
            let labels = known.labels();
            counter(&[&labels[..], &[("reason", reason)]].concat(), count as f64)
        })
    });
    families.push(family(
        "nv_inference_request_failure",
        "Calls of the model that failed, by clients and by guests",
        MetricType::COUNTER,
        failures.collect(),
    ));
    for (name, help, read) in OF_CALLS {
        let samples = known
            .iter()
            .map(|known| counter(&known.labels(), read(known)));
        families.push(family(name, help, MetricType::COUNTER, samples.collect()));
    }
    let pending = known
        .iter()
        .map(|known| gauge(&known.labels(), known.calls.waiting as f64));
    families.push(family(
        "nv_inference_pending_request_count",
        "Calls of the model that wait now",
        MetricType::GAUGE,
        pending.collect(),
    ));
    let sizes = known
        .iter()
        .map(|known| histogram(&known.labels(), batch_sizes(&known.calls)));
    families.push(family(
        "infer_model_batch_size",
        "How many calls one run of the engine had",
        MetricType::HISTOGRAM,
        sizes.collect(),
    ));
    let times = known
        .iter()
        .map(|known| histogram(&known.labels(), times(known.entry.calls.latencies())));
    families.push(family(
        "infer_model_call_duration_seconds",
        "How long calls of the model took, by clients and by guests, their wait included",
        MetricType::HISTOGRAM,
        times.collect(),
    ));
    let requests = entries.iter().flat_map(|entry| {
        let ended = Ending::ALL.into_iter();
        let of_clients = ended.filter(|ending| *ending != Ending::Trapped);
        of_clients.map(|ending| {
            let labels = [("model", entry.name()), ("outcome", ending.name())];
            counter(&labels, entry.requests.count(ending) as f64)
        })
    });
    families.push(family(
        "infer_model_requests_total",
        "Requests of clients to the model, by how they ended",
        MetricType::COUNTER,
        requests.collect(),
    ));
}

type OfCalls = (&'static str, &'static str, fn(&Known) -> f64);

/// Counters of a model's calls.
const OF_CALLS: &[OfCalls] = &[
    (
        "nv_inference_request_success",
        "Calls of the model that were answered, by clients and by guests",
        |known| known.calls.succeeded as f64,
    ),
    (
        "nv_inference_count",
        "Inferences: with batching on a call of several rows is so many",
        |known| known.calls.inferences as f64,
    ),
    (
        "nv_inference_exec_count",
        "Runs of the engine; a batch is one",
        |known| known.calls.runs as f64,
    ),
    (
        "nv_inference_request_duration_us",
        "Microseconds of all answered calls: their wait, and for clients the reading of inputs and writing of outputs, included",
        |known| {
            let requests = &known.entry.requests;
            microseconds(known.calls.answering + requests.reading() + requests.writing())
        },
    ),
    (
        "nv_inference_queue_duration_us",
        "Microseconds for which calls waited for their turn",
        |known| microseconds(known.calls.queueing),
    ),
    (
        "nv_inference_compute_input_duration_us",
        "Microseconds in which inputs were read out of clients' requests",
        |known| microseconds(known.entry.requests.reading()),
    ),
    (
        "nv_inference_compute_infer_duration_us",
        "Microseconds in the engine; those of a batch count for each of its calls",
        |known| microseconds(known.calls.executing),
    ),
    (
        "nv_inference_compute_output_duration_us",
        "Microseconds in which outputs were written into responses for clients",
        |known| microseconds(known.entry.requests.writing()),
    ),
];

fn guests(state: &State, families: &mut Vec<MetricFamily>) {
    let all = state.guests.all();
    let requests = all.iter().flat_map(|guest| {
        Ending::ALL.map(|ending| {
            let labels = [
                ("guest", guest.config.name.as_str()),
                ("outcome", ending.name()),
            ];
            counter(&labels, guest.requests.count(ending) as f64)
        })
    });
    families.push(family(
        "infer_guest_requests_total",
        "Requests to the guest, by how they ended",
        MetricType::COUNTER,
        requests.collect(),
    ));
    let limits = all.iter().flat_map(|guest| {
        LIMITS.map(|limit| {
            let labels = [
                ("guest", guest.config.name.as_str()),
                ("limit", limit.name()),
            ];
            counter(&labels, guest.instances.hits(limit) as f64)
        })
    });
    families.push(family(
        "infer_guest_limit_hits_total",
        "Requests to the guest that ran into a limit",
        MetricType::COUNTER,
        limits.collect(),
    ));
    for (name, help, kind, read) in OF_GUESTS {
        let samples = all.iter().map(|guest| {
            let labels = [("guest", guest.config.name.as_str())];
            match kind {
                MetricType::COUNTER => counter(&labels, read(guest)),
                _ => gauge(&labels, read(guest)),
            }
        });
        families.push(family(name, help, *kind, samples.collect()));
    }
    let times = all.iter().map(|guest| {
        let labels = [("guest", guest.config.name.as_str())];
        histogram(&labels, times(guest.requests.latencies()))
    });
    families.push(family(
        "infer_guest_request_duration_seconds",
        "From a request's arrival to the end of its instance",
        MetricType::HISTOGRAM,
        times.collect(),
    ));
}

type OfGuests = (
    &'static str,
    &'static str,
    MetricType,
    fn(&ServedGuest) -> f64,
);

/// What is counted of guests.
const OF_GUESTS: &[OfGuests] = &[
    (
        "infer_guest_instances_running",
        "Instances of the guest now",
        MetricType::GAUGE,
        |guest| guest.admission.running() as f64,
    ),
    (
        "infer_guest_instances_max",
        "The most instances of the guest at one time",
        MetricType::GAUGE,
        |guest| guest.config.concurrency.get() as f64,
    ),
    (
        "infer_guest_waiting",
        "Requests that wait for an instance of the guest now",
        MetricType::GAUGE,
        |guest| guest.admission.waiting() as f64,
    ),
    (
        "infer_guest_waiting_max",
        "The most requests that may wait for an instance of the guest",
        MetricType::GAUGE,
        |guest| guest.config.queue as f64,
    ),
    (
        "infer_guest_waiting_seconds_total",
        "Seconds for which requests waited for an instance of the guest",
        MetricType::COUNTER,
        |guest| guest.requests.waiting().as_secs_f64(),
    ),
    (
        "infer_guest_instances_total",
        "Instances of the guest that have ended",
        MetricType::COUNTER,
        |guest| guest.instances.count() as f64,
    ),
    (
        "infer_guest_instance_seconds_total",
        "Seconds of all instances that have ended",
        MetricType::COUNTER,
        |guest| guest.instances.living().as_secs_f64(),
    ),
    (
        "infer_guest_model_seconds_total",
        "Seconds of these in calls of models, waiting for a turn included",
        MetricType::COUNTER,
        |guest| guest.instances.computing().as_secs_f64(),
    ),
    (
        "infer_guest_sandbox_seconds_total",
        "Seconds of these outside of models: in the guest itself and in its input and output",
        MetricType::COUNTER,
        |guest| guest.instances.in_the_sandbox().as_secs_f64(),
    ),
];

fn server(state: &State, families: &mut Vec<MetricFamily>) {
    let one = |name, help, value| family(name, help, MetricType::GAUGE, vec![gauge(&[], value)]);
    families.push(family(
        "infer_build_info",
        "The program",
        MetricType::GAUGE,
        vec![gauge(&[("version", env!("CARGO_PKG_VERSION"))], 1.0)],
    ));
    families.push(one(
        "infer_ready",
        "Whether every model is there and the server is not stopping",
        f64::from(u8::from(state.is_ready())),
    ));
    let started = SystemTime::now().checked_sub(state.started.elapsed());
    let started = started.and_then(|at| at.duration_since(SystemTime::UNIX_EPOCH).ok());
    families.push(one(
        "infer_start_time_seconds",
        "When the server started, in seconds since 1970",
        started.unwrap_or_default().as_secs_f64(),
    ));
    families.push(one(
        "infer_abandoned_threads",
        "Threads in engine calls that could not be stopped",
        state.repository.engine().threads().abandoned() as f64,
    ));
    let sockets = &state.sockets;
    let open = sockets
        .iter()
        .map(|(what, there)| gauge(&[("listener", what)], there.open() as f64));
    families.push(family(
        "infer_connections_open",
        "Connections now",
        MetricType::GAUGE,
        open.collect(),
    ));
    let taken = sockets
        .iter()
        .map(|(what, there)| counter(&[("listener", what)], there.count() as f64));
    families.push(family(
        "infer_connections_total",
        "Connections that were taken",
        MetricType::COUNTER,
        taken.collect(),
    ));
    let requests = sockets.iter().flat_map(|(what, there)| {
        there.requests().map(move |(class, count)| {
            counter(&[("listener", what), ("status", &class)], count as f64)
        })
    });
    families.push(family(
        "infer_http_requests_total",
        "Requests by the class of their status; failures of gRPC are 2xx here",
        MetricType::COUNTER,
        requests.collect(),
    ));
    for (name, help, sent) in [
        (
            "infer_received_bytes_total",
            "Bytes of requests' bodies",
            false,
        ),
        ("infer_sent_bytes_total", "Bytes of responses' bodies", true),
    ] {
        let bytes = sockets.iter().map(|(what, there)| {
            let (received, given) = there.bytes();
            let bytes = if sent { given } else { received };
            counter(&[("listener", what)], bytes as f64)
        });
        families.push(family(name, help, MetricType::COUNTER, bytes.collect()));
    }
}

fn microseconds(time: Duration) -> f64 {
    (time.as_nanos() / 1000) as f64
}

/// A histogram's counts, not cumulative, by their upper bounds, and its sum.
struct Counts {
    /// The last has no bound.
    classes: Vec<(f64, u64)>,
    sum: f64,
}

fn batch_sizes(calls: &Statistics) -> Counts {
    let classes = calls
        .batch_sizes
        .iter()
        .map(|(most, runs)| (most.map_or(f64::INFINITY, |most| most as f64), *runs));
    Counts {
        classes: classes.collect(),
        sum: calls.run as f64,
    }
}

/// Times in seconds, at the bounds that people know.
fn times(latencies: &Latencies) -> Counts {
    let counts = latencies.counts();
    let (mut classes, mut collected) = (Vec::new(), 0);
    for (bound, count) in BOUNDS.iter().zip(counts) {
        collected += count;
        let digits = bound / 10u64.pow(bound.ilog10() - 1);
        if SHOWN.contains(&digits) {
            classes.push((*bound as f64 / 1e9, collected));
            collected = 0;
        }
    }
    let above = counts[BOUNDS.len()..].iter().sum::<u64>();
    classes.push((f64::INFINITY, collected + above));
    Counts {
        classes,
        sum: latencies.sum().as_secs_f64(),
    }
}

fn family(name: &str, help: &str, kind: MetricType, metrics: Vec<Metric>) -> MetricFamily {
    let mut family = MetricFamily::default();
    family.set_name(name.to_owned());
    family.set_help(help.to_owned());
    family.set_field_type(kind);
    family.set_metric(metrics);
    family
}

fn labelled(labels: &[(&str, &str)]) -> Metric {
    let pairs = labels.iter().map(|(name, value)| {
        let mut pair = LabelPair::default();
        pair.set_name((*name).to_owned());
        pair.set_value((*value).to_owned());
        pair
    });
    let mut metric = Metric::default();
    metric.set_label(pairs.collect());
    metric
}

fn counter(labels: &[(&str, &str)], value: f64) -> Metric {
    let mut counter = Counter::default();
    counter.set_value(value);
    let mut metric = labelled(labels);
    metric.set_counter(counter);
    metric
}

fn gauge(labels: &[(&str, &str)], value: f64) -> Metric {
    let mut gauge = Gauge::default();
    gauge.set_value(value);
    let mut metric = labelled(labels);
    metric.set_gauge(gauge);
    metric
}

fn histogram(labels: &[(&str, &str)], counts: Counts) -> Metric {
    let mut total = 0;
    let mut buckets = Vec::new();
    for (bound, count) in counts.classes {
        total += count;
        // That without a bound is written of itself.
        if bound.is_finite() {
            let mut bucket = Bucket::default();
            bucket.set_upper_bound(bound);
            bucket.set_cumulative_count(total);
            buckets.push(bucket);
        }
    }
    let mut histogram = Histogram::default();
    histogram.set_bucket(buckets);
    histogram.set_sample_count(total);
    histogram.set_sample_sum(counts.sum);
    let mut metric = labelled(labels);
    metric.set_histogram(histogram);
    metric
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_shown_at_round_bounds_and_none_is_lost() {
        let latencies = Latencies::default();
        for micros in [3, 10, 11, 3_000, 3_000_000, 90_000_000] {
            latencies.add(Duration::from_micros(micros));
        }
        let Counts { classes, sum } = times(&latencies);
        let bounds: Vec<f64> = classes.iter().map(|(bound, _)| *bound).collect();
        assert_eq!(bounds[..4], [1e-5, 2.5e-5, 5e-5, 1e-4]);
        assert!(bounds[bounds.len() - 1].is_infinite());
        let filled: Vec<(f64, u64)> = classes.into_iter().filter(|(_, n)| *n > 0).collect();
        let expected = [
            (1e-5, 2),
            (2.5e-5, 1),
            (5e-3, 1),
            (5.0, 1),
            (f64::INFINITY, 1),
        ];
        assert_eq!(filled, expected);
        assert!((sum - 93.003_024).abs() < 1e-9, "{sum}");
    }
}
