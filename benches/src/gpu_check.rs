//! What `scripts/gpu-check` measures: models on a device, by our backend and by the same engine driven natively.
//!
//! For each model and batch size: where the nodes ran, by the engine's own profile, held against what it recorded when
//! it assigned them; what our backend and the engine alone answer, held against the processor's answer; how long both
//! take, run by run in turns.

use std::fmt::Write;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use infer::tune::Agreement;
use infer_core::{Backend, Call, Cancel, Device, Graph, LoadOptions, Session, Tensor};
use infer_onnxruntime::OnnxRuntime;

use crate::measure::{self, Spread, made_up};
use crate::native::profile::Profile;
use crate::native::{Bound, NativeModel, NativeOptions};

/// What part of its time a measurement is warmed up for.
const WARM_UP: u32 = 5;

/// The fewest runs that are timed.
const FEWEST: usize = 5;

/// A model to check.
#[derive(Clone, Copy, Debug)]
pub struct Subject {
    /// The name of a known model, or a path.
    pub model: &'static str,
    /// Sizes of the first dimension.
    pub batches: &'static [usize],
    /// What the other dynamic dimensions of the input are.
    pub size: &'static [usize],
    /// Where its nodes must run.
    pub nodes: Nodes,
}

/// Where the nodes of a model must run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Nodes {
    /// All on the device.
    OnDevice,
    /// On a GPU some are on the processor, because the engine has no kernel for them there.
    Split,
    /// Wherever the engine puts them.
    Anywhere,
}

/// The models of `scripts/gpu-check`.
pub const SUBJECTS: [Subject; 4] = [
    Subject {
        model: "efficientnet-lite0",
        batches: &[1],
        size: &[],
        nodes: Nodes::OnDevice,
    },
    Subject {
        model: "opennsfw-dynamic",
        batches: &[1, 8, 32],
        size: &[],
        nodes: Nodes::Anywhere,
    },
    Subject {
        model: "resnet50-imgsim",
        batches: &[1, 8, 32],
        size: &[224, 224],
        nodes: Nodes::Anywhere,
    },
    Subject {
        model: "models/testdata/split.onnx",
        batches: &[64],
        size: &[],
        nodes: Nodes::Split,
    },
];

/// How to check.
pub struct Plan {
    /// The engine.
    pub engine: OnnxRuntime,
    /// Where.
    pub device: Device,
    /// How long each measurement takes.
    pub time: Duration,
    /// Threads of one run on the processor.
    pub threads: NonZeroUsize,
}

/// A model with one batch size.
pub struct Row {
    model: String,
    batch: usize,
    on_device: usize,
    elsewhere: usize,
    copies: usize,
    ours: Spread,
    native: Spread,
    cpu: Spread,
    distance: f64,
}

impl Plan {
    /// The table's head: the device, the engine, the machine.
    ///
    /// # Errors
    /// Where the engine has no such device.
    pub fn about(&self) -> anyhow::Result<String> {
        let probe = self.engine.probe().map_err(measure::described)?;
        let found = probe.devices.iter().find(|info| info.device == self.device);
        let Some(found) = found else {
            bail!(
                "ONNX Runtime has no device `{}` here: {}",
                self.device,
                probe.problems.join("; ")
            );
        };
        Ok(format!(
            "- device: {}: {}\n- engine: ONNX Runtime {}\n- machine: {}, {} threads on the cpu\n",
            self.device,
            found.description,
            probe.version,
            measure::machine(),
            self.threads
        ))
    }

    /// Checks and measures a model with each of its batch sizes.
    ///
    /// # Errors
    /// At the first thing that is wrong: nodes elsewhere, another answer, a profile that disagrees.
    pub fn check(&self, subject: &Subject) -> anyhow::Result<Vec<Row>> {
        let file = measure::model_file(subject.model)?;
        let on_device = self.load(&file, self.device)?;
        let mut loaded = Loaded {
            on_cpu: match self.device {
                Device::Cpu => on_device.clone(),
                _ => self.load(&file, Device::Cpu)?,
            },
            on_device,
            native: NativeModel::open(&self.engine, &file, &self.native())?,
            file,
        };
        let row = |&batch| {
            let row = self.row(subject, &mut loaded, batch);
            row.with_context(|| format!("{}, batch {batch}", subject.model))
        };
        subject.batches.iter().map(row).collect()
    }

    fn row(&self, subject: &Subject, loaded: &mut Loaded, batch: usize) -> anyhow::Result<Row> {
        let dynamic = [&[batch], subject.size].concat();
        let inputs = made_up(loaded.on_cpu.signature(), &dynamic)?;
        let profile = self.profile(subject, (loaded, &inputs))?;
        let mut native = loaded.native.bind(&inputs)?;
        let mut ours = Ours::new(&loaded.on_device, inputs.clone())?;
        let mut cpu = Ours::new(&loaded.on_cpu, inputs)?;
        let expected = cpu.run()?;
        let distance = near("our backend", &ours.run()?, &expected)?;
        near("the engine alone", &native.outputs()?, &expected)?;
        let (our_times, native_times) = self.in_turns(&mut ours, &mut native)?;
        Ok(Row {
            model: file_name(subject.model).to_owned(),
            batch,
            on_device: profile.nodes_on(self.device, self.device),
            elsewhere: profile.all() - profile.nodes_on(self.device, self.device),
            copies: profile.copies,
            ours: our_times,
            native: native_times,
            cpu: match self.device {
                Device::Cpu => our_times,
                _ => self.alone(&mut cpu)?,
            },
            distance,
        })
    }

    fn load(&self, file: &Path, device: Device) -> anyhow::Result<Arc<dyn Graph>> {
        let options = LoadOptions {
            threads: Some(self.threads),
            ..LoadOptions::default()
        };
        measure::load(&self.engine, file.to_owned(), (device, options))
    }

    fn native(&self) -> NativeOptions {
        NativeOptions {
            threads: Some(self.threads),
            ..NativeOptions::on(self.device)
        }
    }

    /// Where the nodes ran; wrong places are an error.
    fn profile(
        &self,
        subject: &Subject,
        (loaded, inputs): (&Loaded, &[(String, Tensor)]),
    ) -> anyhow::Result<Profile> {
        let model = (loaded.file.as_path(), &self.native());
        let profile = Profile::of(&self.engine, model, inputs)?;
        profile.check(&loaded.on_device.placement())?;
        let on_device = profile.nodes_on(self.device, self.device);
        let all = profile.all();
        match subject.nodes {
            Nodes::OnDevice => ensure!(
                all == on_device,
                "expected every node on {}, the profile has {:?}",
                self.device,
                profile.nodes
            ),
            Nodes::Split => ensure!(
                self.device == Device::Cpu || all > on_device && on_device > 0,
                "expected nodes on {} and on the cpu, the profile has {:?}",
                self.device,
                profile.nodes
            ),
            Nodes::Anywhere => {}
        }
        Ok(profile)
    }

    /// Both in turns, so that whatever else the machine does meets both.
    fn in_turns(
        &self,
        ours: &mut Ours,
        native: &mut Bound<'_>,
    ) -> anyhow::Result<(Spread, Spread)> {
        let started = Instant::now();
        while started.elapsed() < self.time / WARM_UP {
            ours.run()?;
            native.run()?;
        }
        let (mut our_times, mut native_times) = (Vec::new(), Vec::new());
        let started = Instant::now();
        while our_times.len() < FEWEST || started.elapsed() < self.time {
            // Each is first as often as the other.
            if our_times.len().is_multiple_of(2) {
                our_times.push(timed(|| ours.run().map(drop))?);
                native_times.push(timed(|| Ok(native.run()?))?);
            } else {
                native_times.push(timed(|| Ok(native.run()?))?);
                our_times.push(timed(|| ours.run().map(drop))?);
            }
        }
        let missing = "no runs";
        Ok((
            Spread::of(our_times).context(missing)?,
            Spread::of(native_times).context(missing)?,
        ))
    }

    fn alone(&self, ours: &mut Ours) -> anyhow::Result<Spread> {
        let (mut times, started) = (Vec::new(), Instant::now());
        while times.len() < FEWEST || started.elapsed() < self.time / 2 {
            times.push(timed(|| ours.run().map(drop))?);
        }
        Spread::of(times).context("no runs")
    }
}

/// A model wherever it is run.
struct Loaded {
    file: PathBuf,
    on_cpu: Arc<dyn Graph>,
    on_device: Arc<dyn Graph>,
    native: NativeModel,
}

/// A session of our backend, used as the host uses it for a guest's call.
struct Ours {
    session: Box<dyn Session>,
    inputs: Vec<Tensor>,
}

impl Ours {
    fn new(graph: &Arc<dyn Graph>, inputs: Vec<(String, Tensor)>) -> anyhow::Result<Ours> {
        Ok(Ours {
            inputs: graph.signature().arrange(inputs)?,
            session: graph.session()?,
        })
    }

    fn run(&mut self) -> anyhow::Result<Vec<Tensor>> {
        let mut calls = [Call::new(self.inputs.clone(), Cancel::default())];
        self.session.run(&mut calls);
        let [call] = calls;
        let outputs = call.result.context("the engine gave no result")?;
        outputs.map_err(measure::described)
    }
}

fn timed(mut work: impl FnMut() -> anyhow::Result<()>) -> anyhow::Result<Duration> {
    let started = Instant::now();
    work()?;
    Ok(started.elapsed())
}

fn near(who: &str, got: &[Tensor], expected: &[Tensor]) -> anyhow::Result<f64> {
    let agreement = Agreement::of(got, expected).map_err(measure::described)?;
    ensure!(
        agreement.is_near(),
        "{who} answers another thing than the cpu: a distance of {:.1e}",
        agreement.relative_l2
    );
    Ok(agreement.relative_l2)
}

fn file_name(model: &str) -> &str {
    model.rsplit('/').next().unwrap_or(model)
}

/// The table, in Markdown.
pub fn table(rows: &[Row]) -> String {
    let mut text = "| model | batch | nodes there / elsewhere | copies | ours, median (p5 - p95) ms | native, median (p5 - p95) ms \
         | ours / native | rows/s | cpu, median ms | relative L2 to the cpu |\n\
         |---|--:|--:|--:|--:|--:|--:|--:|--:|--:|\n"
        .to_owned();
    for row in rows {
        let seconds = row.ours.median.as_secs_f64();
        let _ = writeln!(
            text,
            "| {} | {} | {} / {} | {} | {} | {} | {:.3} | {:.1} | {:.3} | {:.1e} |",
            row.model,
            row.batch,
            row.on_device,
            row.elsewhere,
            row.copies,
            spread(&row.ours),
            spread(&row.native),
            seconds / row.native.median.as_secs_f64(),
            row.batch as f64 / seconds,
            milliseconds(row.cpu.median),
            row.distance,
        );
    }
    text
}

fn spread(times: &Spread) -> String {
    let [median, p5, p95] = [times.median, times.p5, times.p95].map(milliseconds);
    format!("{median:.3} ({p5:.3} - {p95:.3})")
}

fn milliseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}
