//! Tuning with the fake backend, and with one that is wrong on purpose.

use std::path::Path;
use std::sync::Arc;

use infer_core::testing::FakeBackend;
use infer_core::{
    Backend, Dtype, Encoding, Graph, LoadRequest, Placement, Precision, Probe, Session, Signature,
};
use infer_models::Manifest;

use super::*;

/// Short, so that no test waits; nothing that is asserted depends on it.
const TIME: Duration = Duration::from_millis(2);

/// A model of the fake backend, as a file.
pub(super) fn model(folder: &Path, description: &str) -> Model {
    let files = Model {
        name: "described".to_owned(),
        manifest: Manifest::default(),
        manifest_path: None,
        folder: folder.to_owned(),
        files: vec![folder.join("described.onnx")],
        encoding: Encoding::Onnx,
    };
    write(&files, description);
    files
}

pub(super) fn write(files: &Model, description: &str) {
    std::fs::write(&files.files[0], description).expect("writable");
}

/// A backend that does as the fake one, on one thread and in f32, but for what it is told.
#[derive(Clone)]
struct Odd {
    name: &'static str,
    /// What f32 elements of outputs are multiplied by, in f32 and in bf16; `None` for a precision that it lacks.
    factors: [Option<f32>; 2],
    most_threads: usize,
}

struct OddGraph(Arc<dyn Graph>, f32);

struct OddSession(Box<dyn Session>, f32);

impl Backend for Odd {
    fn name(&self) -> &'static str {
        self.name
    }

    fn probe(&self) -> Result<Probe> {
        FakeBackend::new().probe()
    }

    fn encodings(&self) -> &'static [Encoding] {
        &[Encoding::Onnx]
    }

    fn load(&self, request: &LoadRequest, cancel: &Cancel) -> Result<Arc<dyn Graph>> {
        let refuse = |what: &str| Err(Error::new(ErrorKind::UnsupportedOperation, what));
        let factor = match request.options.precision {
            Precision::F32 => self.factors[0],
            Precision::BF16 => self.factors[1],
            _ => None,
        };
        let Some(factor) = factor else {
            return refuse("no such precision");
        };
        let threads = request.options.threads.map_or(1, usize::from);
        if threads > self.most_threads {
            return refuse("too many threads");
        }
        let graph = FakeBackend::new().load(request, cancel)?;
        Ok(Arc::new(OddGraph(graph, factor)))
    }
}

impl Graph for OddGraph {
    fn signature(&self) -> &Signature {
        self.0.signature()
    }

    fn placement(&self) -> Placement {
        self.0.placement()
    }

    fn concurrency(&self) -> usize {
        1
    }

    fn session(&self) -> Result<Box<dyn Session>> {
        Ok(Box::new(OddSession(self.0.session()?, self.1)))
    }
}

impl Session for OddSession {
    fn run(&mut self, calls: &mut [Call]) {
        self.0.run(calls);
        for call in calls {
            let outputs = call.result.take().expect("has run");
            call.result = Some(outputs.map(|outputs| {
                let scaled = |tensor: &Tensor| scale(tensor, self.1);
                outputs.iter().map(scaled).collect()
            }));
        }
    }

    fn reset(&mut self) -> Result<()> {
        self.0.reset()
    }
}

fn scale(tensor: &Tensor, factor: f32) -> Tensor {
    if tensor.dtype() != Dtype::F32 {
        return tensor.clone();
    }
    let bytes = tensor.host().expect("here");
    let numbers = bytes.as_chunks().0.iter().map(|b| f32::from_le_bytes(*b));
    let scaled: Vec<u8> = numbers.flat_map(|n| (n * factor).to_le_bytes()).collect();
    Tensor::copied_from(Dtype::F32, tensor.shape().to_vec(), &scaled).expect("valid")
}

fn odd(name: &'static str, factors: [Option<f32>; 2], most_threads: usize) -> Arc<dyn Backend> {
    Arc::new(Odd {
        name,
        factors,
        most_threads,
    })
}

fn counts(counts: &[usize]) -> Option<Vec<NonZeroUsize>> {
    Some(
        counts
            .iter()
            .copied()
            .filter_map(NonZeroUsize::new)
            .collect(),
    )
}

fn plan(backends: &Backends, wishes: &Wishes) -> Plan {
    Plan {
        candidates: backends
            .candidates(wishes, Encoding::Onnx)
            .expect("candidates"),
        shapes: Vec::new(),
        time: TIME,
    }
}

fn tuned(backends: &Backends, description: &str, wishes: &Wishes) -> Result<Report> {
    let folder = tempfile::tempdir().expect("a folder");
    let files = model(folder.path(), description);
    tune(backends, &files, &plan(backends, wishes), &mut |_| {})
}

/// Each row's setting, sorted, and `: ERROR` where it has one.
fn shown(report: &Report) -> Vec<String> {
    let shown = |row: &Row| match &row.result {
        Ok(_) => row.setting.to_string(),
        Err(error) => format!("{}: {error}", row.setting),
    };
    let mut shown: Vec<String> = report.rows.iter().map(shown).collect();
    shown.sort();
    shown
}

#[test]
fn numbers_are_consistent() {
    let fake = FakeBackend::new();
    let counters = fake.clone();
    let backends = Backends::new(vec![Arc::new(fake)]);
    let wishes = Wishes {
        threads: counts(&[1, 2]),
        ..Wishes::default()
    };
    let report = tuned(&backends, "several", &wishes).expect("runs");
    assert_eq!(report.reference, Some("fake"));
    assert_eq!(report.rows.len(), 2);
    let mut runs = 0;
    for row in &report.rows {
        let measured = row.result.as_ref().expect("runs");
        assert!(measured.min <= measured.median && measured.median <= measured.p95);
        assert!(measured.runs >= 1 && measured.runs_per_second > 0.0);
        let agreement = measured.agreement.expect("compared");
        assert_eq!((agreement.relative_l2, agreement.same_top), (0.0, true));
        runs += measured.runs;
    }
    let counters = counters.counters();
    assert!(counters.calls() > runs, "the warm-up is not timed");
    assert_eq!(counters.most_running(), 1, "one run at a time");
    assert_eq!((counters.live_graphs(), counters.live_sessions()), (0, 0));
}

#[test]
fn rows_are_in_the_order_of_their_median() {
    let row = |milliseconds: Option<u64>| {
        let measured = milliseconds.map(|ms| {
            let time = Duration::from_millis(ms);
            Measured {
                load: time,
                median: time,
                p95: time,
                min: time,
                runs: 1,
                runs_per_second: 1.0,
                computes_in: Arithmetic::F32,
                elsewhere: 0,
                agreement: None,
            }
        });
        Row {
            setting: Setting {
                backend: "fake".to_owned(),
                device: Device::Cpu,
                threads: None,
                precision: Precision::F32,
            },
            result: measured.ok_or_else(|| Error::new(ErrorKind::Unknown, "no")),
        }
    };
    let mut rows = vec![
        row(None),
        row(Some(9)),
        row(Some(1)),
        row(None),
        row(Some(5)),
    ];
    sort(&mut rows);
    let medians: Vec<Option<u128>> = rows
        .iter()
        .map(|row| Some(row.result.as_ref().ok()?.median.as_millis()))
        .collect();
    assert_eq!(medians, [Some(1), Some(5), Some(9), None, None]);
}

#[test]
fn percentiles() {
    let times: Vec<Duration> = (1..=200).map(Duration::from_millis).collect();
    for (part, expected) in [(0.0, 1), (0.5, 100), (0.95, 190), (1.0, 200)] {
        assert_eq!(at(&times, part), Duration::from_millis(expected), "{part}");
    }
    assert_eq!(at(&times[..1], 0.95), Duration::from_millis(1));
}

#[test]
fn what_an_engine_cannot_do_is_left_out_unless_asked_for() {
    let backends = Backends::new(vec![odd("one", [Some(1.0), None], 1)]);
    let all = Wishes {
        threads: None,
        precisions: Precisions::All,
        ..Wishes::default()
    };
    let report = tuned(&backends, "add", &all).expect("runs");
    assert_eq!(shown(&report), ["one on cpu, 1 thread, f32"]);
    let named = Wishes {
        threads: counts(&[1, 4]),
        precisions: Precisions::Named(vec![Precision::F32, Precision::F16]),
        ..Wishes::default()
    };
    let report = tuned(&backends, "add", &named).expect("runs");
    assert_eq!(
        shown(&report),
        [
            "one on cpu, 1 thread, f16: no such precision",
            "one on cpu, 1 thread, f32",
            "one on cpu, 4 threads, f16: no such precision",
            "one on cpu, 4 threads, f32: too many threads",
        ]
    );
}

#[test]
fn a_model_that_does_not_load_or_run_is_a_row_for_each_backend() {
    let backends = Backends::new(vec![
        odd("one", [Some(1.0), None], 8),
        Arc::new(FakeBackend::new()),
    ]);
    for (description, message) in [
        ("operator Conv", "fake does not have the operator `Conv`"),
        ("panic-load", "panicked: a panic on purpose"),
    ] {
        let report = tuned(&backends, description, &Wishes::default()).expect("a report");
        assert_eq!(report.reference, None);
        assert!(report.best(&[Precision::F32]).is_none());
        let backends: Vec<&str> = report
            .rows
            .iter()
            .map(|r| r.setting.backend.as_str())
            .collect();
        assert!(
            backends.contains(&"one") && backends.contains(&"fake"),
            "{backends:?}"
        );
        for row in &report.rows {
            let error = row.result.as_ref().expect_err("cannot be");
            assert!(error.to_string().contains(message), "{error}");
        }
    }
    let report = tuned(&backends, "fail too-large", &Wishes::default()).expect("a report");
    assert!(report.rows.iter().all(|row| row.result.is_err()));
}

#[test]
fn what_differs_is_seen_and_not_best() {
    let backends = Backends::new(vec![
        odd("right", [Some(1.0), Some(1.01)], 1),
        odd("wrong", [Some(-1.0), Some(f32::NAN)], 1),
    ]);
    let wishes = Wishes {
        threads: counts(&[1]),
        precisions: Precisions::Named(vec![Precision::F32, Precision::BF16]),
        ..Wishes::default()
    };
    let report = tuned(&backends, "add", &wishes).expect("runs");
    let agreement = |backend: &str, precision: Precision| {
        let mut rows = report.rows.iter();
        let row =
            rows.find(|row| row.setting.backend == backend && row.setting.precision == precision);
        let measured = row.expect("a row").result.as_ref().expect("runs");
        measured.agreement.expect("compared")
    };
    let right = agreement("right", Precision::BF16);
    assert!(
        (right.relative_l2 - 0.01).abs() < 1e-4 && right.same_top,
        "{right:?}"
    );
    let wrong = agreement("wrong", Precision::F32);
    assert!(
        (wrong.relative_l2 - 2.0).abs() < 1e-4 && !wrong.same_top,
        "{wrong:?}"
    );
    assert_eq!(
        agreement("wrong", Precision::BF16).relative_l2,
        f64::INFINITY
    );
    let best = |precisions: &[Precision]| {
        report
            .best(precisions)
            .map(|row| (row.setting.backend.clone(), row.setting.precision))
    };
    assert_eq!(
        best(&[Precision::F32]),
        Some(("right".to_owned(), Precision::F32))
    );
    assert_eq!(
        best(&[Precision::BF16]),
        Some(("right".to_owned(), Precision::BF16))
    );
    assert_eq!(best(&[Precision::F16]), None);
}

#[test]
fn a_model_that_remembers_starts_anew_each_time() {
    let backends = Backends::new(vec![Arc::new(FakeBackend::new())]);
    let report = tuned(&backends, "stateful", &Wishes::default()).expect("runs");
    for row in &report.rows {
        let measured = row.result.as_ref().expect("runs");
        assert_eq!(measured.agreement.expect("compared").relative_l2, 0.0);
    }
}

#[test]
fn inputs_that_cannot_be_made_are_an_error() {
    let backends = Backends::new(vec![Arc::new(FakeBackend::new())]);
    let error = tuned(&backends, "identity string [?]", &Wishes::default()).expect_err("strings");
    assert_eq!(
        error.to_string(),
        "input `x` takes strings, which cannot be made up"
    );
    let folder = tempfile::tempdir().expect("a folder");
    let plan = Plan {
        shapes: vec![("x".to_owned(), vec![3])],
        ..plan(&backends, &Wishes::default())
    };
    let files = model(folder.path(), "identity f32 [4]");
    let error = tune(&backends, &files, &plan, &mut |_| {}).expect_err("another shape");
    assert_eq!(
        error.to_string(),
        "input `x`: expected f32 [4], got f32 [3]"
    );
}

#[test]
fn progress_names_each_candidate_and_ends_with_its_row() {
    let backends = Backends::new(vec![Arc::new(FakeBackend::new())]);
    let wishes = Wishes {
        threads: counts(&[1, 2]),
        ..Wishes::default()
    };
    let folder = tempfile::tempdir().expect("a folder");
    let files = model(folder.path(), "slow 1ms");
    let mut told: Vec<String> = Vec::new();
    tune(
        &backends,
        &files,
        &plan(&backends, &wishes),
        &mut |progress| {
            let line = match progress {
                Progress::Reference => "reference".to_owned(),
                Progress::Measuring { index, part, .. } => {
                    assert!((0.0..=1.0).contains(&part));
                    format!("{index}")
                }
                Progress::Done(row) => format!("done {}", row.setting),
            };
            if told.last() != Some(&line) {
                told.push(line);
            }
        },
    )
    .expect("runs");
    assert_eq!(
        told,
        [
            "reference",
            "0",
            "done fake on cpu, 1 thread, f32",
            "1",
            "done fake on cpu, 2 threads, f32"
        ]
    );
}
