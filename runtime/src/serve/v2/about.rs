//! What is said of the server and its models: metadata, configuration, statistics, the repository's index.

use std::time::Duration;

use infer_core::TensorInfo;
use serde::Serialize;

use crate::serve::State;
use crate::serve::counters::Ending;
use crate::serve::repository::{Entry, Ready, Stage};
use crate::serve::served::GUEST_PLATFORM;
use crate::serve::v2::datatype;
use crate::serve::v2::infer::VERSION;

/// The protocol's extensions that there are.
pub(crate) const EXTENSIONS: [&str; 5] = [
    "binary_tensor_data",
    "model_repository",
    "model_repository(unload_dependents)",
    "model_configuration",
    "statistics",
];

#[derive(Serialize)]
pub(crate) struct ServerMetadata {
    pub(crate) name: &'static str,
    pub(crate) version: &'static str,
    pub(crate) extensions: [&'static str; EXTENSIONS.len()],
}

pub(crate) fn server() -> ServerMetadata {
    ServerMetadata {
        name: "infer",
        version: env!("CARGO_PKG_VERSION"),
        extensions: EXTENSIONS,
    }
}

#[derive(Serialize)]
pub(crate) struct ModelMetadata {
    pub(crate) name: String,
    pub(crate) versions: [&'static str; 1],
    pub(crate) platform: String,
    pub(crate) inputs: Vec<TensorMetadata>,
    pub(crate) outputs: Vec<TensorMetadata>,
}

#[derive(Serialize)]
pub(crate) struct TensorMetadata {
    pub(crate) name: String,
    pub(crate) datatype: &'static str,
    /// A dynamic dimension is -1.
    pub(crate) shape: Vec<i64>,
}

pub(crate) fn model(entry: &Entry, ready: &Ready) -> ModelMetadata {
    let signature = ready.model.signature();
    ModelMetadata {
        name: entry.name().to_owned(),
        versions: [VERSION],
        platform: platform(ready),
        inputs: signature.inputs.iter().map(tensor).collect(),
        outputs: signature.outputs.iter().map(tensor).collect(),
    }
}

fn platform(ready: &Ready) -> String {
    ready.model.model().map_or_else(
        || GUEST_PLATFORM.to_owned(),
        |model| format!("{}_{}", model.backend(), model.encoding()),
    )
}

fn tensor(info: &TensorInfo) -> TensorMetadata {
    let size = |dimension: &Option<usize>| {
        dimension.map_or(-1, |size| size.try_into().unwrap_or(i64::MAX))
    };
    TensorMetadata {
        name: info.name.clone(),
        datatype: datatype::name(info.dtype),
        shape: info.dimensions.iter().map(size).collect(),
    }
}

/// What Triton's clients read of a model's configuration.
#[derive(Serialize)]
pub(crate) struct ModelConfiguration {
    pub(crate) name: String,
    pub(crate) platform: String,
    pub(crate) backend: String,
    /// 0, because shapes say the batch here.
    pub(crate) max_batch_size: i32,
    pub(crate) input: Vec<TensorConfiguration>,
    pub(crate) output: Vec<TensorConfiguration>,
}

#[derive(Serialize)]
pub(crate) struct TensorConfiguration {
    pub(crate) name: String,
    pub(crate) data_type: String,
    pub(crate) dims: Vec<i64>,
}

pub(crate) fn configuration(entry: &Entry, ready: &Ready) -> ModelConfiguration {
    let about = model(entry, ready);
    let tensors = |all: Vec<TensorMetadata>| {
        let tensor = |tensor: TensorMetadata| TensorConfiguration {
            name: tensor.name,
            data_type: configured_type(tensor.datatype),
            dims: tensor.shape,
        };
        all.into_iter().map(tensor).collect()
    };
    let backend = ready.model.model().map_or("infer", |model| model.backend());
    ModelConfiguration {
        name: about.name,
        platform: about.platform,
        backend: backend.to_owned(),
        max_batch_size: 0,
        input: tensors(about.inputs),
        output: tensors(about.outputs),
    }
}

/// A configuration has another name for text.
pub(crate) fn configured_type(datatype: &str) -> String {
    match datatype {
        "BYTES" => "TYPE_STRING".to_owned(),
        other => format!("TYPE_{other}"),
    }
}

/// What a model has done since the server started.
#[derive(Serialize)]
pub(crate) struct ModelStatistics {
    pub(crate) name: String,
    pub(crate) version: &'static str,
    pub(crate) inference_count: u64,
    pub(crate) execution_count: u64,
    pub(crate) inference_stats: InferenceStatistics,
}

#[derive(Serialize)]
pub(crate) struct InferenceStatistics {
    pub(crate) success: Counted,
    pub(crate) fail: Counted,
    pub(crate) queue: Counted,
    pub(crate) compute_input: Counted,
    pub(crate) compute_infer: Counted,
    pub(crate) compute_output: Counted,
}

/// How often something was done, and for how long together.
#[derive(Clone, Copy, Serialize)]
pub(crate) struct Counted {
    pub(crate) count: u64,
    pub(crate) ns: u64,
}

impl Counted {
    fn new(count: u64, time: Duration) -> Counted {
        let ns = u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        Counted { count, ns }
    }
}

pub(crate) fn statistics(entry: &Entry) -> ModelStatistics {
    let (requests, calls) = (&entry.requests, entry.statistics());
    let success = requests.count(Ending::Ok);
    let failures = Ending::ALL
        .iter()
        .filter(|ending| **ending != Ending::Ok)
        .map(|ending| requests.count(*ending));
    ModelStatistics {
        name: entry.name().to_owned(),
        version: VERSION,
        inference_count: calls.inferences,
        execution_count: calls.runs,
        inference_stats: InferenceStatistics {
            success: Counted::new(success, requests.succeeding()),
            fail: Counted::new(failures.sum(), requests.failing()),
            queue: Counted::new(calls.succeeded, calls.queueing + requests.waiting()),
            compute_input: Counted::new(success, requests.reading()),
            // Guests' calls are among these.
            compute_infer: Counted::new(calls.run, calls.executing),
            compute_output: Counted::new(success, requests.writing()),
        },
    }
}

/// A line of the repository's index.
#[derive(Serialize)]
pub(crate) struct Indexed {
    pub(crate) name: String,
    pub(crate) version: &'static str,
    pub(crate) state: &'static str,
    pub(crate) reason: String,
}

/// The models, or those that are ready.
pub(crate) fn index(state: &State, only_ready: bool) -> Vec<Indexed> {
    let entries = state.repository.entries().iter().map(|entry| {
        let (state, reason) = match entry.stage() {
            Stage::Ready(_) => ("READY", String::new()),
            Stage::Loading => ("LOADING", String::new()),
            Stage::Unloaded => ("UNAVAILABLE", "unloaded".to_owned()),
            Stage::Failed(_) => {
                let reason = "it could not be loaded, as the server's log says";
                ("UNAVAILABLE", reason.to_owned())
            }
        };
        Indexed {
            name: entry.name().to_owned(),
            version: VERSION,
            state,
            reason,
        }
    });
    entries
        .filter(|line| !only_ready || line.state == "READY")
        .collect()
}
