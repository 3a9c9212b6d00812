//! Measures on which engine, with how many threads and in which precision a model runs fastest on this machine.
//!
//! Steps: [`Backends::candidates`] lists what there is to try; [`tune`] has the first backend that can run the model in
//! f32 on the processor, which is the reference; then it loads each candidate, runs it with the same made-up inputs,
//! compares the outputs with the reference's and times runs, one at a time. [`Report::best`] says what to take, and
//! [`TunedStore`] keeps it for later runs of the model.

mod agreement;
mod candidates;
pub(crate) mod inputs;
mod saved;

use std::fmt;
use std::num::NonZeroUsize;
use std::time::{Duration, Instant};

use infer_core::{
    Arithmetic, Call, Cancel, Device, Error, ErrorKind, LoadOptions, Precision, Result, Session,
    Source, Tensor, run_engine,
};
use infer_models::Model;

pub use agreement::Agreement;
pub use candidates::{Candidate, Precisions, Wishes};
pub use saved::{Choice, TunedStore};

use crate::backends::{Backends, Loaded};
use crate::config::{DeviceChoice, Selection};

/// How often progress is told at most.
const TELL: Duration = Duration::from_millis(50);

/// What part of its time a candidate is warmed up for before it is timed.
const WARM_UP: u32 = 10;

/// The most runs that are timed.
const MOST_RUNS: usize = 1_000_000;

/// A way to run a model.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Setting {
    /// The backend's name.
    pub backend: String,
    /// The device.
    pub device: Device,
    /// Threads of one run; the engine's own choice where absent.
    pub threads: Option<NonZeroUsize>,
    /// What the engine computes in where the model says f32.
    pub precision: Precision,
}

impl Setting {
    /// This setting as what a person could have asked for.
    pub fn selection(&self) -> Selection {
        Selection {
            backend: Some(self.backend.clone()),
            device: DeviceChoice::Exactly(self.device),
            options: LoadOptions {
                precision: self.precision,
                threads: self.threads,
                ..LoadOptions::default()
            },
            ..Selection::default()
        }
    }

    fn is_beside(&self, other: &Setting) -> bool {
        self.backend == other.backend && self.device == other.device
    }
}

impl fmt::Display for Setting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} on {}", self.backend, self.device)?;
        match self.threads.map(usize::from) {
            Some(1) => f.write_str(", 1 thread")?,
            Some(threads) => write!(f, ", {threads} threads")?,
            None => {}
        }
        write!(f, ", {}", self.precision)
    }
}

/// What to measure.
#[derive(Clone, Debug)]
pub struct Plan {
    /// What to try, in this order; of a backend's device first what it has to be able to do.
    pub candidates: Vec<Candidate>,
    /// Shapes of inputs by name, in elements; a dynamic dimension of any other input is 1.
    pub shapes: Vec<(String, Vec<usize>)>,
    /// How long each candidate is timed for; one run is always timed.
    pub time: Duration,
}

/// What was found.
#[derive(Debug)]
pub struct Report {
    /// The backend that the others are compared with; absent where none runs the model in f32.
    pub reference: Option<&'static str>,
    /// What was measured, the fastest by its median first, then what could not be.
    pub rows: Vec<Row>,
}

/// What was found of one candidate.
#[derive(Debug)]
pub struct Row {
    /// How the model was run.
    pub setting: Setting,
    /// What was measured, or why nothing could be.
    pub result: Result<Measured>,
}

/// One candidate's numbers.
#[derive(Clone, Debug)]
pub struct Measured {
    /// Loading the model.
    pub load: Duration,
    /// The middle one of all runs, in order of their time.
    pub median: Duration,
    /// 95 of 100 runs took no longer.
    pub p95: Duration,
    /// The fastest run.
    pub min: Duration,
    /// How many runs were timed.
    pub runs: usize,
    /// Runs in a second, one at a time.
    pub runs_per_second: f64,
    /// What the engine says that it computes in.
    pub computes_in: Arithmetic,
    /// How many nodes run on another device.
    pub elsewhere: usize,
    /// How the outputs compare with the reference's; absent where there is none.
    pub agreement: Option<Agreement>,
}

/// How far the work is.
#[derive(Debug)]
pub enum Progress<'a> {
    /// The reference is loaded and run.
    Reference,
    /// A candidate is loaded or timed.
    Measuring {
        /// Its place in the plan.
        index: usize,
        /// How the model is run.
        setting: &'a Setting,
        /// How much of its time is over, from 0 to 1.
        part: f64,
    },
    /// A candidate is done.
    Done(&'a Row),
}

/// Measures every candidate of the plan. One that cannot run the model is a row that says why; where nobody asked for
/// it and its engine cannot do it at all, it is left out.
///
/// # Errors
/// `UnsupportedOperation` for a model that takes strings, `InvalidArgument` for a shape that does not fit the model,
/// `TooLarge` for inputs that do not fit in memory.
pub fn tune(
    backends: &Backends,
    files: &Model,
    plan: &Plan,
    progress: &mut dyn FnMut(Progress<'_>),
) -> Result<Report> {
    progress(Progress::Reference);
    let mut tuning = Tuning {
        backends,
        files,
        plan,
        inputs: None,
        reference: None,
    };
    tuning.run_reference()?;
    let mut rows: Vec<Row> = Vec::new();
    for (index, candidate) in plan.candidates.iter().enumerate() {
        let setting = &candidate.setting;
        let first = rows.iter().find(|row| row.setting.is_beside(setting));
        if !candidate.required && first.is_some_and(|row| row.result.is_err()) {
            continue;
        }
        let result = tuning.measure(setting, &mut |part| {
            progress(Progress::Measuring {
                index,
                setting,
                part,
            });
        })?;
        let refused = |error: &Error| error.kind() == ErrorKind::UnsupportedOperation;
        if !candidate.required && result.as_ref().is_err_and(refused) {
            continue;
        }
        let row = Row {
            setting: setting.clone(),
            result,
        };
        progress(Progress::Done(&row));
        rows.push(row);
    }
    sort(&mut rows);
    Ok(Report {
        reference: tuning.reference.map(|reference| reference.backend),
        rows,
    })
}

/// The fastest first, then what failed, as it was tried.
fn sort(rows: &mut [Row]) {
    rows.sort_by_key(|row| match &row.result {
        Ok(measured) => measured.median,
        Err(_) => Duration::MAX,
    });
}

impl Report {
    /// The fastest setting in one of these precisions whose outputs can be relied on: near the reference's in f32, and
    /// numbers wherever those of the reference are.
    pub fn best(&self, precisions: &[Precision]) -> Option<&Row> {
        self.rows.iter().find(|row| {
            let measured = row.result.as_ref().ok();
            precisions.contains(&row.setting.precision)
                && measured.is_some_and(|measured| is_reliable(&row.setting, measured))
        })
    }
}

fn is_reliable(setting: &Setting, measured: &Measured) -> bool {
    match (&measured.agreement, setting.precision) {
        (None, _) => true,
        (Some(agreement), Precision::F32) => agreement.is_near(),
        (Some(agreement), _) => agreement.relative_l2.is_finite(),
    }
}

/// What the candidates share.
struct Tuning<'a> {
    backends: &'a Backends,
    files: &'a Model,
    plan: &'a Plan,
    /// Made for the first signature that is seen.
    inputs: Option<Vec<(String, Tensor)>>,
    reference: Option<Reference>,
}

/// What is taken for right.
struct Reference {
    backend: &'static str,
    outputs: Vec<Tensor>,
}

impl Tuning<'_> {
    /// The errors are of the inputs only: a model that no backend runs in f32 has no reference.
    fn run_reference(&mut self) -> Result<()> {
        let selection = Selection {
            device: DeviceChoice::Exactly(Device::Cpu),
            ..Selection::default()
        };
        let outputs = match self.load(&selection) {
            Ok(loaded) => {
                let run = self.runs(&loaded)?.and_then(|mut runs| Ok(runs.run()?.1));
                run.map(|outputs| (loaded.backend, outputs))
            }
            Err(error) => Err(error),
        };
        match outputs {
            Ok((backend, outputs)) => self.reference = Some(Reference { backend, outputs }),
            Err(error) => tracing::warn!(
                "there is no f32 reference to compare outputs with: {}",
                error.report()
            ),
        }
        Ok(())
    }

    /// The outer errors are of the inputs, the inner ones of the candidate.
    fn measure(
        &mut self,
        setting: &Setting,
        progress: &mut dyn FnMut(f64),
    ) -> Result<Result<Measured>> {
        progress(0.0);
        let started = Instant::now();
        let loaded = match self.load(&setting.selection()) {
            Ok(loaded) => loaded,
            Err(error) => return Ok(Err(error)),
        };
        let load = started.elapsed();
        let runs = self.runs(&loaded)?;
        Ok(runs.and_then(|mut runs| {
            let placement = loaded.graph.placement();
            let outputs = runs.warm_up(self.plan.time / WARM_UP)?;
            let agreement = self
                .reference
                .as_ref()
                .map(|reference| Agreement::of(&outputs, &reference.outputs))
                .transpose()?;
            let mut times = runs.time(self.plan.time, progress)?;
            times.sort();
            let sum: Duration = times.iter().sum();
            Ok(Measured {
                load,
                median: at(&times, 0.5),
                p95: at(&times, 0.95),
                min: at(&times, 0.0),
                runs: times.len(),
                runs_per_second: times.len() as f64 / sum.as_secs_f64().max(f64::MIN_POSITIVE),
                computes_in: placement.precision,
                elsewhere: placement.elsewhere.len(),
                agreement,
            })
        }))
    }

    fn load(&self, selection: &Selection) -> Result<Loaded> {
        let source = Source::Files(self.files.files.clone());
        let model = (&source, self.files.encoding);
        let loaded = self.backends.load(selection, model, &Cancel::default())?;
        self.files.check_signature(loaded.graph.signature())?;
        Ok(loaded)
    }

    fn runs(&mut self, loaded: &Loaded) -> Result<Result<Runs>> {
        let signature = loaded.graph.signature();
        let named = match &self.inputs {
            Some(inputs) => inputs.clone(),
            None => {
                let made = inputs::make(signature, &self.plan.shapes)?;
                self.inputs.insert(made).clone()
            }
        };
        let start = || {
            Ok(Runs {
                engine: loaded.backend,
                inputs: signature.arrange(named)?,
                stateful: signature.stateful,
                session: run_engine(loaded.backend, || loaded.graph.session())?,
            })
        };
        Ok(start())
    }
}

/// A loaded model and the inputs that it is run with.
struct Runs {
    engine: &'static str,
    inputs: Vec<Tensor>,
    stateful: bool,
    session: Box<dyn Session>,
}

impl Runs {
    /// One run, and how long it took. One that remembers starts anew each time.
    fn run(&mut self) -> Result<(Duration, Vec<Tensor>)> {
        if self.stateful {
            run_engine(self.engine, || self.session.reset())?;
        }
        let mut call = [Call::new(self.inputs.clone(), Cancel::default())];
        let started = Instant::now();
        run_engine(self.engine, || {
            self.session.run(&mut call);
            Ok(())
        })?;
        let took = started.elapsed();
        let [call] = call;
        let missing = || Error::new(ErrorKind::RuntimeError, "the engine gave no result");
        Ok((took, call.result.ok_or_else(missing)??))
    }

    /// Runs for that long, at least once, and gives the first run's outputs.
    fn warm_up(&mut self, time: Duration) -> Result<Vec<Tensor>> {
        let started = Instant::now();
        let (_, outputs) = self.run()?;
        while started.elapsed() < time {
            self.run()?;
        }
        Ok(outputs)
    }

    /// Runs for that long, at least once, and gives each run's time.
    fn time(&mut self, time: Duration, progress: &mut dyn FnMut(f64)) -> Result<Vec<Duration>> {
        let started = Instant::now();
        let (mut times, mut told) = (Vec::new(), Duration::ZERO);
        while times.is_empty() || started.elapsed() < time && times.len() < MOST_RUNS {
            times.push(self.run()?.0);
            let spent = started.elapsed();
            if spent - told > TELL {
                told = spent;
                progress((spent.as_secs_f64() / time.as_secs_f64()).min(1.0));
            }
        }
        Ok(times)
    }
}

/// The time that this part of the runs did not exceed; the times are in order, at least one.
fn at(times: &[Duration], part: f64) -> Duration {
    let place = (times.len() as f64 * part).ceil() as usize;
    times[place.clamp(1, times.len()) - 1]
}

#[cfg(test)]
mod tests;
