//! A backend without an engine, whose models are described by text (see `fake_model` for the words).
//!
//! Tests of the host use it to get what a real engine cannot promise: every dtype, a run that takes
//! exactly so long, a panic, state, an output of any size. It counts what it loads and runs, so that a
//! test can see what is shared and what is given back.

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;

use super::fake_model::{Behaviour, Model};
use crate::{
    Arithmetic, Backend, Call, Cancel, Device, DeviceInfo, Encoding, Error, ErrorKind, Graph,
    LoadOptions, LoadRequest, Placement, Probe, Result, Session, Signature, Source,
};

/// How often a cooperative model looks at its cancel.
const POLL: Duration = Duration::from_millis(1);

const ALL_ENCODINGS: [Encoding; 6] = [
    Encoding::OpenVino,
    Encoding::Onnx,
    Encoding::TensorFlow,
    Encoding::PyTorch,
    Encoding::TensorFlowLite,
    Encoding::Ggml,
];

/// The backend named `fake`. Clones share their counters.
#[derive(Clone, Debug)]
pub struct FakeBackend {
    devices: Vec<Device>,
    encodings: &'static [Encoding],
    counters: Arc<Counters>,
}

/// What a fake backend and its clones have done.
#[derive(Debug, Default)]
pub struct Counters {
    loads: AtomicUsize,
    graphs: AtomicUsize,
    sessions: AtomicUsize,
    running: AtomicUsize,
    most_running: AtomicUsize,
    batches: AtomicUsize,
    calls: AtomicUsize,
    resets: AtomicUsize,
}

impl Counters {
    /// Models loaded so far.
    pub fn loads(&self) -> usize {
        self.loads.load(Ordering::SeqCst)
    }

    /// Graphs that are alive.
    pub fn live_graphs(&self) -> usize {
        self.graphs.load(Ordering::SeqCst)
    }

    /// Sessions that are alive.
    pub fn live_sessions(&self) -> usize {
        self.sessions.load(Ordering::SeqCst)
    }

    /// Sessions inside `run`, abandoned ones included.
    pub fn running(&self) -> usize {
        self.running.load(Ordering::SeqCst)
    }

    /// The most sessions that were inside `run` at once.
    pub fn most_running(&self) -> usize {
        self.most_running.load(Ordering::SeqCst)
    }

    /// How often `run` was entered.
    pub fn batches(&self) -> usize {
        self.batches.load(Ordering::SeqCst)
    }

    /// Calls in all batches.
    pub fn calls(&self) -> usize {
        self.calls.load(Ordering::SeqCst)
    }

    /// How often sessions were reset.
    pub fn resets(&self) -> usize {
        self.resets.load(Ordering::SeqCst)
    }
}

impl Default for FakeBackend {
    fn default() -> Self {
        FakeBackend {
            devices: vec![Device::Cpu],
            encodings: &ALL_ENCODINGS,
            counters: Arc::default(),
        }
    }
}

impl FakeBackend {
    /// A backend that has the processor and reads every encoding.
    pub fn new() -> FakeBackend {
        FakeBackend::default()
    }

    /// The same backend with exactly these devices.
    pub fn with_devices(mut self, devices: &[Device]) -> FakeBackend {
        self.devices = devices.to_vec();
        self
    }

    /// The same backend with exactly these encodings.
    pub fn with_encodings(mut self, encodings: &'static [Encoding]) -> FakeBackend {
        self.encodings = encodings;
        self
    }

    /// What this backend and its clones have done.
    pub fn counters(&self) -> &Counters {
        &self.counters
    }

    /// A request for the model that `description` describes.
    pub fn request(description: &str) -> LoadRequest {
        LoadRequest {
            source: Source::Memory(vec![Bytes::copy_from_slice(description.as_bytes())]),
            encoding: Encoding::Onnx,
            device: Device::Cpu,
            options: LoadOptions::default(),
        }
    }
}

impl Backend for FakeBackend {
    fn name(&self) -> &'static str {
        "fake"
    }

    fn probe(&self) -> Result<Probe> {
        let info = |device: &Device| DeviceInfo {
            device: *device,
            description: format!("fake {device}"),
        };
        let devices = self.devices.iter().map(info).collect();
        Ok(Probe {
            version: "1.0".to_owned(),
            location: "built in".to_owned(),
            devices,
            problems: Vec::new(),
        })
    }

    fn encodings(&self) -> &'static [Encoding] {
        self.encodings
    }

    fn load(&self, request: &LoadRequest, cancel: &Cancel) -> Result<Arc<dyn Graph>> {
        if !self.encodings.contains(&request.encoding) {
            let message = format!("fake does not read models of encoding {}", request.encoding);
            return Err(Error::new(ErrorKind::InvalidEncoding, message));
        }
        if !self.devices.contains(&request.device) {
            let message = format!("fake has no device {}", request.device);
            return Err(Error::new(ErrorKind::UnsupportedOperation, message));
        }
        let model = Model::parse(&read(&request.source)?)?;
        check_file(&model, &request.source)?;
        if let Some(operator) = &model.operator {
            let message = format!("fake does not have the operator `{operator}`");
            return Err(Error::new(ErrorKind::UnsupportedOperation, message));
        }
        behave(&model.load, cancel)?;
        self.counters.loads.fetch_add(1, Ordering::SeqCst);
        self.counters.graphs.fetch_add(1, Ordering::SeqCst);
        let signature = model.signature();
        let inner = Arc::new(Inner {
            model,
            counters: self.counters.clone(),
        });
        Ok(Arc::new(FakeGraph {
            inner,
            signature,
            device: request.device,
        }))
    }
}

fn read(source: &Source) -> Result<Bytes> {
    let missing = || {
        Error::new(
            ErrorKind::InvalidArgument,
            "expected a model of at least 1 part, got 0",
        )
    };
    match source {
        Source::Memory(parts) => parts.first().cloned().ok_or_else(missing),
        Source::Files(paths) => {
            let path = paths.first().ok_or_else(missing)?;
            fs::read(path).map(Bytes::from).map_err(|error| {
                Error::new(
                    ErrorKind::NotFound,
                    format!("cannot read `{}`", path.display()),
                )
                .with_source(error)
            })
        }
    }
}

/// A model may name files in its own folder only, and none when it has no folder.
fn check_file(model: &Model, source: &Source) -> Result<()> {
    let Some(file) = &model.file else {
        return Ok(());
    };
    let inside = Path::new(file)
        .components()
        .all(|part| matches!(part, std::path::Component::Normal(_)));
    match (inside, source) {
        (true, Source::Files(_)) => Ok(()),
        _ => Err(Error::new(
            ErrorKind::Security,
            format!("the model may not read `{file}`"),
        )),
    }
}

/// Takes the time, panics or fails, as described.
fn behave(behaviour: &Behaviour, cancel: &Cancel) -> Result<()> {
    let until = Instant::now() + behaviour.time;
    while behaviour.cooperative && Instant::now() < until {
        cancel.check()?;
        std::thread::sleep(POLL);
    }
    std::thread::sleep(until.saturating_duration_since(Instant::now()));
    assert!(!behaviour.panics, "a panic on purpose");
    match behaviour.fails {
        Some(kind) => Err(Error::new(kind, "a failure on purpose")),
        None => Ok(()),
    }
}

struct FakeGraph {
    inner: Arc<Inner>,
    signature: Signature,
    device: Device,
}

struct Inner {
    model: Model,
    counters: Arc<Counters>,
}

impl Graph for FakeGraph {
    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn placement(&self) -> Placement {
        Placement {
            device: self.device,
            precision: Arithmetic::F32,
            nodes: None,
            elsewhere: Vec::new(),
        }
    }

    fn concurrency(&self) -> usize {
        self.inner.model.concurrency
    }

    fn session(&self) -> Result<Box<dyn Session>> {
        self.inner.counters.sessions.fetch_add(1, Ordering::SeqCst);
        Ok(Box::new(FakeSession {
            inner: self.inner.clone(),
            total: 0.0,
        }))
    }
}

impl Drop for FakeGraph {
    fn drop(&mut self) {
        self.inner.counters.graphs.fetch_sub(1, Ordering::SeqCst);
    }
}

struct FakeSession {
    inner: Arc<Inner>,
    total: f32,
}

impl Session for FakeSession {
    fn run(&mut self, calls: &mut [Call]) {
        let counters = self.inner.counters.clone();
        let _running = Running::start(&counters, calls.len());
        for call in calls {
            call.result = Some(self.run_one(call));
        }
    }

    fn reset(&mut self) -> Result<()> {
        self.inner.counters.resets.fetch_add(1, Ordering::SeqCst);
        self.total = 0.0;
        Ok(())
    }
}

impl FakeSession {
    fn run_one(&mut self, call: &Call) -> Result<Vec<crate::Tensor>> {
        call.cancel.check()?;
        behave(&self.inner.model.run, &call.cancel)?;
        self.inner.model.compute(&call.inputs, &mut self.total)
    }
}

impl Drop for FakeSession {
    fn drop(&mut self) {
        self.inner.counters.sessions.fetch_sub(1, Ordering::SeqCst);
    }
}

/// Counts a session as running, until dropped, by a panic too.
struct Running<'a>(&'a Counters);

impl Running<'_> {
    fn start(counters: &Counters, calls: usize) -> Running<'_> {
        counters.batches.fetch_add(1, Ordering::SeqCst);
        counters.calls.fetch_add(calls, Ordering::SeqCst);
        let now = counters.running.fetch_add(1, Ordering::SeqCst) + 1;
        counters.most_running.fetch_max(now, Ordering::SeqCst);
        Running(counters)
    }
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        self.0.running.fetch_sub(1, Ordering::SeqCst);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::conformance::{self, TestModel};
    use crate::{Dtype, Tensor, run_engine};

    fn described(model: TestModel) -> LoadRequest {
        FakeBackend::request(&match model {
            TestModel::Identity(dtype) => format!("identity {dtype} [?]"),
            TestModel::Add => "add".to_owned(),
            TestModel::Several => "several".to_owned(),
            TestModel::Scalar => "scalar".to_owned(),
            TestModel::Relu => "relu".to_owned(),
            TestModel::Transpose => "transpose".to_owned(),
            TestModel::MatMul => "matmul".to_owned(),
            TestModel::Shared => "shared".to_owned(),
            TestModel::Pick => "pick".to_owned(),
            TestModel::Network => "operator Conv".to_owned(),
            TestModel::OutsideFile => "file ../../etc/passwd".to_owned(),
            TestModel::UnknownOperator => "operator Frobnicate".to_owned(),
        })
    }

    #[test]
    fn the_fake_conforms() {
        let backend = FakeBackend::new().with_encodings(&[Encoding::Onnx]);
        assert_eq!(
            conformance::run(&backend, &described),
            ["network: fake does not have the operator `Conv`"]
        );
        assert_eq!(backend.counters().live_sessions(), 0);
        assert_eq!(backend.counters().live_graphs(), 0);
    }

    fn compute(session: &mut dyn Session, values: &[f32], cancel: &Cancel) -> Result<Vec<Tensor>> {
        let bytes: Vec<u8> = values.iter().flat_map(|v| v.to_le_bytes()).collect();
        let input = Tensor::copied_from(Dtype::F32, vec![values.len()], &bytes).expect("valid");
        let mut calls = [Call::new(vec![input], cancel.clone())];
        run_engine("fake", || {
            session.run(&mut calls);
            Ok(())
        })?;
        calls[0].result.take().expect("has run")
    }

    #[test]
    fn directives_behave_as_described() {
        let cases = [
            ("panic", "runtime-error: fake panicked: a panic on purpose"),
            ("fail too-large", "too-large: a failure on purpose"),
            ("outputs 100000000", "u8 [100000000]"),
            ("stateful", "f32 []"),
            ("slow 20ms", "f32 [2]"),
            (
                "slow 60s cooperative",
                "timeout: the deadline passed before the work was done",
            ),
        ];
        for (description, expected) in cases {
            let backend = FakeBackend::new();
            let graph = backend
                .load(&FakeBackend::request(description), &Cancel::default())
                .expect("loads");
            let mut session = graph.session().expect("has one");
            let cancel = Cancel::default();
            let got = std::thread::scope(|scope| {
                scope.spawn(|| {
                    std::thread::sleep(Duration::from_millis(200));
                    cancel.cancel();
                });
                compute(session.as_mut(), &[1.0, 2.0], &cancel)
            });
            let got = got.map_or_else(
                |error| format!("{}: {error}", error.kind().name()),
                |outputs| format!("{} {:?}", outputs[0].dtype(), outputs[0].shape()),
            );
            assert_eq!(got, expected, "{description}");
            assert_eq!(backend.counters().running(), 0);
        }
    }

    #[test]
    fn state_stays_in_its_session_until_a_reset() {
        let graph = FakeBackend::new()
            .load(&FakeBackend::request("stateful"), &Cancel::default())
            .expect("loads");
        let (mut one, mut other) = (
            graph.session().expect("has one"),
            graph.session().expect("has two"),
        );
        let total = |session: &mut Box<dyn Session>| {
            let outputs = compute(session.as_mut(), &[1.0, 2.0], &Cancel::default()).expect("runs");
            f32::from_le_bytes(
                outputs[0].host().expect("here")[..]
                    .try_into()
                    .expect("4 bytes"),
            )
        };
        assert_eq!(
            [total(&mut one), total(&mut one), total(&mut other)],
            [3.0, 6.0, 3.0]
        );
        one.reset().expect("resets");
        assert_eq!(total(&mut one), 3.0);
    }
}
