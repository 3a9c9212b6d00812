//! The command line: its definition. `values` reads what clap has no type for.

pub(crate) mod serve;
pub(crate) mod values;

use std::fs::DirBuilder;
use std::num::NonZeroUsize;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context;
use clap::builder::PossibleValuesParser;
use clap::{ArgAction, Args, Parser, Subcommand, ValueEnum, ValueHint};
use infer::tune::{Precisions, TunedStore, Wishes};
use infer::values::{
    parse_any_duration, parse_device, parse_dir, parse_duration, parse_host, parse_performance,
    parse_precision, parse_size, parse_threads,
};
use infer::{
    Backends, Batching, DeviceChoice, DirGrant, EngineLibraries, Grants, HostGrant, Limits,
    Scheduling, Selection,
};
use infer_core::{Device, LoadOptions, Performance, Precision};
use infer_models::ModelRef;
use tracing_subscriber::EnvFilter;

use crate::args::serve::ServeArgs;
use crate::args::values::{
    Levels, parse_count, parse_env, parse_levels, parse_number, parse_shape,
};
use crate::status;

/// Run WebAssembly guests that do AI inference, on the hardware that is there.
#[derive(Debug, Parser)]
#[command(
    name = "infer",
    version,
    max_term_width = 100,
    arg_required_else_help = true
)]
#[command(after_help = "\
Examples:
  infer models get efficientnet-lite0
  infer run classify.wasm --model efficientnet-lite0 --dir photos -- photos/coffee.png
  infer serve classify-http.wasm --model efficientnet-lite0
  infer inspect efficientnet-lite0
  infer tune efficientnet-lite0 --save
  infer devices")]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) verbosity: Verbosity,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// How much is said on stderr.
#[derive(Debug, Args)]
pub(crate) struct Verbosity {
    /// Say more: -v what runs where and what guests do wrong, -vv details
    #[arg(short, long, global = true, action = ArgAction::Count)]
    pub(crate) verbose: u8,
    /// Say nothing but errors
    #[arg(short, long, global = true, conflicts_with = "verbose")]
    pub(crate) quiet: bool,
    /// Which logs, in the syntax of RUST_LOG: `infer=debug`, say
    #[arg(long, global = true, value_name = "FILTER", value_parser = values::parse_filter)]
    pub(crate) log: Option<EnvFilter>,
    /// How a line of the log is written: for people, or as an object of JSON with the time
    #[arg(long, global = true, value_name = "FORMAT", default_value = "text")]
    pub(crate) log_format: LogFormat,
}

/// How a line of the log is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum LogFormat {
    Text,
    Json,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    Run(Box<RunArgs>),
    Serve(Box<ServeArgs>),
    Bench(Box<BenchArgs>),
    Inspect(InspectArgs),
    Devices(DevicesArgs),
    Compile(CompileArgs),
    Engines(EnginesArgs),
    Models(ModelsArgs),
    Tune(Box<TuneArgs>),
    Completions(CompletionsArgs),
}

/// Run a guest.
///
/// The guest is a component (wasm32-wasip2) or a core module (wasm32-wasip1). It reaches the models,
/// folders, variables and time that it is given here, and nothing else.
#[derive(Debug, Args)]
#[command(after_help = format!("\
Examples:
  infer run classify.wasm --model efficientnet-lite0 --dir photos -- photos/coffee.png
  infer run classify.wasm --model resnet.onnx --gpu < photo.jpg
  infer run pipeline.wasm --model detect=det.onnx --model read=rec.onnx --timeout 5s

{}", status::TABLE))]
pub(crate) struct RunArgs {
    /// The guest: a .wasm file, or what `infer compile` made of one
    #[arg(value_hint = ValueHint::FilePath)]
    pub(crate) guest: PathBuf,
    /// Compile the guest anew, and keep nothing of it. Else what was compiled is kept in this user's folder of caches
    #[arg(long)]
    pub(crate) no_cache: bool,
    #[command(flatten)]
    pub(crate) models: ModelArgs,
    #[command(flatten)]
    pub(crate) selection: SelectionArgs,
    #[command(flatten)]
    pub(crate) grants: GrantArgs,
    #[command(flatten)]
    pub(crate) limits: LimitArgs,
    /// Arguments for the guest, after `--`
    #[arg(last = true, value_name = "ARGS")]
    pub(crate) args: Vec<String>,
}

/// Measure how long a model or a guest takes, by the number of callers at one time.
///
/// Each caller starts anew when it is done: runs of a model with made-up inputs, or new instances of a guest, whose
/// output is thrown away. Nothing else should keep the machine busy meanwhile.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  infer bench efficientnet-lite0
  infer bench detect.onnx --shape x=1,3,640,640 --concurrency 1:8 --time 10s --json
  infer bench batched.onnx --concurrency 8 --max-batch 8 --max-delay 2ms
  infer bench classify.wasm --model efficientnet-lite0 --dir photos -- photos/coffee.png")]
pub(crate) struct BenchArgs {
    /// A model, as for `infer run --model`, or a guest
    #[arg(value_name = "MODEL|GUEST", value_hint = ValueHint::FilePath)]
    pub(crate) subject: String,
    #[command(flatten)]
    pub(crate) load: LoadArgs,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
    #[command(flatten)]
    pub(crate) batching: BatchingArgs,
    #[command(flatten)]
    pub(crate) models: ModelArgs,
    #[command(flatten)]
    pub(crate) selection: SelectionArgs,
    #[command(flatten)]
    pub(crate) grants: GrantArgs,
    #[command(flatten)]
    pub(crate) limits: LimitArgs,
    /// Arguments for the guest, after `--`
    #[arg(last = true, value_name = "ARGS")]
    pub(crate) args: Vec<String>,
}

/// How much work is asked for.
#[derive(Debug, Args)]
#[command(next_help_heading = "Load")]
pub(crate) struct LoadArgs {
    /// Callers at one time: `1,2,4`, or from first to last (`1:8`), or in steps (`1:8:2`)
    #[arg(long, value_name = "NUMBERS", default_value = "1", value_parser = parse_levels)]
    pub(crate) concurrency: Levels,
    /// How long each number of callers is measured: 500ms, 5s, 1m
    #[arg(long, value_name = "TIME", default_value = "5s", value_parser = parse_duration)]
    pub(crate) time: Duration,
    /// How long it runs before that without being measured
    #[arg(long, value_name = "TIME", default_value = "500ms", value_parser = parse_any_duration)]
    pub(crate) warm_up: Duration,
    /// A model's input's shape: `x=1,3,224,224`. Dynamic dimensions of other inputs are 1. Repeatable
    #[arg(long = "shape", value_name = "INPUT=DIMENSIONS", value_parser = parse_shape)]
    pub(crate) shapes: Vec<(String, Vec<usize>)>,
}

impl LoadArgs {
    /// The largest number of callers at one time.
    pub(crate) fn most_callers(&self) -> usize {
        let callers = self.concurrency.0.iter().max();
        callers.map_or(1, |callers| callers.get())
    }
}

/// Whether calls of several callers are one run of the engine.
#[derive(Debug, Args)]
#[command(next_help_heading = "Batching")]
pub(crate) struct BatchingArgs {
    /// Make calls of several callers one run of at most so many rows. The model's first dimension must be dynamic in
    /// every input and output [default: no batches]
    #[arg(long, value_name = "NUMBER", value_parser = parse_count)]
    max_batch: Option<NonZeroUsize>,
    /// How long a call may wait for others [default: only as long as the engine is busy]
    #[arg(long, value_name = "TIME", value_parser = parse_any_duration, requires = "max_batch")]
    max_delay: Option<Duration>,
}

impl BatchingArgs {
    pub(crate) fn is_on(&self) -> bool {
        self.max_batch.is_some()
    }

    pub(crate) fn scheduling(&self) -> Scheduling {
        Scheduling {
            batching: self.max_batch.map(|max_batch| Batching {
                max_batch,
                max_delay: self.max_delay.unwrap_or_default(),
            }),
            ..Scheduling::default()
        }
    }
}

impl BenchArgs {
    pub(crate) fn selection(&self) -> anyhow::Result<Selection> {
        Ok(Selection {
            scheduling: Scheduling {
                queue: Scheduling::default().queue.max(self.load.most_callers()),
                ..self.batching.scheduling()
            },
            ..self.selection.selection()?
        })
    }

    /// Fails for what only a guest can use.
    pub(crate) fn check_for_a_model(&self) -> anyhow::Result<()> {
        let (grants, limits) = (&self.grants, &self.limits);
        let guests_alone = [
            ("--model", self.models.models.is_empty()),
            ("--dir", grants.dirs.is_empty()),
            ("--env", grants.env.is_empty()),
            ("--net", !grants.net),
            ("--outgoing", grants.outgoing.is_empty()),
            ("--allow-load", !grants.allow_load),
            ("--allow-precompiled", !grants.allow_precompiled),
            ("--timeout", limits.timeout.is_none()),
            ("--fuel", limits.fuel.is_none()),
            ("--max-memory", limits.max_memory == LIMIT),
            ("--max-tensor-bytes", limits.max_tensor_bytes == LIMIT),
            (
                "--max-handles",
                limits.max_handles == infer::Limits::HANDLES,
            ),
            ("arguments after `--`", self.args.is_empty()),
        ];
        match guests_alone.iter().find(|(_, absent)| !absent) {
            Some((what, _)) => {
                anyhow::bail!("expected a guest (a .wasm file) for {what}, got a model")
            }
            None => Ok(()),
        }
    }

    /// Fails for what only a model can use.
    pub(crate) fn check_for_a_guest(&self) -> anyhow::Result<()> {
        anyhow::ensure!(
            self.load.shapes.is_empty(),
            "expected a model for --shape, got a guest, which makes its inputs itself"
        );
        Ok(())
    }
}

#[derive(Debug, Args)]
pub(crate) struct ModelArgs {
    /// A model for the guest: a file or folder (ONNX, OpenVINO, TensorFlow, TensorFlow Lite), or a known model's name. NAME is its name for
    /// the guest, else the file's stem. The first model is also `default`. Repeatable
    #[arg(
        long = "model",
        short,
        value_name = "[NAME=]REF",
        help_heading = "Models"
    )]
    pub(crate) models: Vec<ModelRef>,
}

/// Which engine and device, and how models run there.
#[derive(Debug, Args)]
#[command(next_help_heading = "Engine and device")]
pub(crate) struct SelectionArgs {
    /// The engine that runs the models [default: auto]
    #[arg(long, value_parser = backend_names())]
    backend: Option<String>,
    /// The device: auto, cpu, gpu, gpu:N or npu. One that cannot be used is an error [default: auto]
    #[arg(long, value_parser = parse_device)]
    device: Option<DeviceChoice>,
    /// Short for --device gpu
    #[arg(long, conflicts_with = "device")]
    gpu: bool,
    /// Take a model of which parts run on another device for an error
    #[arg(long)]
    strict_device: bool,
    /// What is computed in where the model says f32: f32, f16, bf16, or auto for what the engine takes for the
    /// fastest. All but f32 give other numbers [default: f32]
    #[arg(long, value_name = "TYPE", value_parser = parse_precision)]
    precision: Option<Precision>,
    /// Threads of one inference [default: the engine's own choice]
    #[arg(long, value_name = "NUMBER", value_parser = parse_threads)]
    threads: Option<NonZeroUsize>,
    /// Inferences of one model at one time [default: the engine's own choice]
    #[arg(long, value_name = "NUMBER", value_parser = parse_count)]
    streams: Option<NonZeroUsize>,
    /// What matters more to the engine: latency or throughput [default: the engine's own choice]
    #[arg(long, value_name = "HINT", value_parser = parse_performance)]
    performance: Option<Performance>,
    /// The most that the engine takes of a GPU's memory [default: none]
    #[arg(long, value_name = "SIZE", value_parser = parse_size)]
    max_device_memory: Option<u64>,
    /// A folder in which engines may keep models that they compiled. It must be nobody else's
    #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath)]
    engine_cache: Option<PathBuf>,
    /// Leave aside what `infer tune --save` chose for the models. It is used where neither engine nor device nor how
    /// they run there is said
    #[arg(long)]
    no_tuned: bool,
    #[command(flatten)]
    libraries: LibraryArgs,
}

/// Where the engines are.
#[derive(Debug, Args)]
#[command(next_help_heading = "Engine and device")]
pub(crate) struct LibraryArgs {
    /// ONNX Runtime's library [default: $ORT_DYLIB_PATH, else what is installed, else the system's]
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    ort_lib: Option<PathBuf>,
    /// OpenVINO's library [default: $INFER_OPENVINO_LIB, else what is installed, else the system's]
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    openvino_lib: Option<PathBuf>,
}

impl LibraryArgs {
    /// Fails for a library that is not there: another engine must not stand in for it in silence.
    fn check(&self) -> anyhow::Result<()> {
        let named = [
            ("--ort-lib", &self.ort_lib),
            ("--openvino-lib", &self.openvino_lib),
        ];
        for (option, path) in named {
            // A bare name is for the system's loader to find.
            if let Some(path) = path.as_ref().filter(|path| path.components().count() > 1) {
                let found = path.metadata();
                found.with_context(|| format!("cannot find `{}` ({option})", path.display()))?;
            }
        }
        Ok(())
    }

    pub(crate) fn backends(&self) -> anyhow::Result<Backends> {
        Ok(Backends::of_machine(&EngineLibraries {
            onnxruntime: self.ort_lib.clone(),
            openvino: self.openvino_lib.clone(),
        })?)
    }
}

impl GrantArgs {
    pub(crate) fn grants(&self, devices: Vec<Device>, engine: &Selection) -> Grants {
        Grants {
            dirs: self.dirs.clone(),
            env: self.env.clone(),
            network: self.net,
            outgoing: self.outgoing.clone(),
            load: self.allow_load,
            devices,
            engine: engine.clone(),
            priority: None,
        }
    }
}

impl LimitArgs {
    pub(crate) fn limits(&self) -> Limits {
        Limits {
            timeout: self.timeout,
            fuel: self.fuel,
            memory: usize::try_from(self.max_memory).unwrap_or(usize::MAX),
            tensor_bytes: self.max_tensor_bytes,
            handles: self.max_handles,
        }
    }
}

impl SelectionArgs {
    pub(crate) fn backends(&self) -> anyhow::Result<Backends> {
        self.libraries.check()?;
        self.libraries.backends()
    }

    pub(crate) fn selection(&self) -> anyhow::Result<Selection> {
        let cache = self
            .engine_cache
            .as_deref()
            .map(private_folder)
            .transpose()?;
        Ok(Selection {
            backend: self.backend.clone().filter(|backend| backend != "auto"),
            device: match self.gpu {
                true => DeviceChoice::Exactly(Device::Gpu(0)),
                false => self.device.unwrap_or_default(),
            },
            options: LoadOptions {
                precision: self.precision.unwrap_or_default(),
                threads: self.threads,
                streams: self.streams,
                performance: self.performance,
                device_memory: self.max_device_memory,
                cache,
            },
            strict_device: self.strict_device,
            reason: None,
            scheduling: Scheduling::default(),
        })
    }

    /// What `infer tune` chose for models, where nothing that it could choose is said here.
    pub(crate) fn tuned(&self) -> anyhow::Result<Option<TunedStore>> {
        let SelectionArgs {
            backend,
            device,
            gpu,
            precision,
            threads,
            streams,
            performance,
            max_device_memory,
            no_tuned,
            ..
        } = self;
        let said = backend.is_some()
            || device.is_some()
            || precision.is_some()
            || threads.is_some()
            || streams.is_some()
            || performance.is_some()
            || max_device_memory.is_some();
        match said || *gpu || *no_tuned {
            true => Ok(None),
            false => Ok(Some(TunedStore::from_environment()?)),
        }
    }
}

#[derive(Debug, Args)]
#[command(next_help_heading = "What the guest may reach")]
pub(crate) struct GrantArgs {
    /// A folder, and its path in the guest if that differs; `:ro` to read only. Repeatable
    #[arg(long = "dir", value_name = "HOST[::GUEST][:ro]", value_parser = parse_dir)]
    pub(crate) dirs: Vec<DirGrant>,
    /// An environment variable. Repeatable
    #[arg(long = "env", value_name = "KEY=VALUE", value_parser = parse_env)]
    pub(crate) env: Vec<(String, String)>,
    /// The network, all of it
    #[arg(long)]
    pub(crate) net: bool,
    /// A host that it may send HTTP requests to. Repeatable
    #[arg(long, value_name = "HOST[:PORT]", value_parser = parse_host)]
    pub(crate) outgoing: Vec<HostGrant>,
    /// Handing models of its own to the engines, which parse them with native code
    #[arg(long)]
    pub(crate) allow_load: bool,
    /// Take a guest that `infer compile` made. It is native code with all rights of this process: its
    /// version, processor and settings are checked, its code is trusted
    #[arg(long)]
    pub(crate) allow_precompiled: bool,
}

/// What a guest's memory, and that of its tensors, is limited to unless something else is said.
const LIMIT: u64 = 1 << 30;
const LIMIT_TEXT: &str = "1GiB";

#[derive(Debug, Args)]
#[command(next_help_heading = "Limits of the guest")]
pub(crate) struct LimitArgs {
    /// From its start to its end, opening models apart: 500ms, 10s, 2m [default: none]
    #[arg(long, value_name = "TIME", value_parser = parse_duration)]
    pub(crate) timeout: Option<Duration>,
    /// Units of fuel, about one per instruction [default: none]
    #[arg(long, value_name = "UNITS", value_parser = parse_number::<u64>)]
    pub(crate) fuel: Option<u64>,
    /// Its own memory
    #[arg(long, value_name = "SIZE", default_value = LIMIT_TEXT, value_parser = parse_size)]
    pub(crate) max_memory: u64,
    /// What the host holds for it at one time: tensors, contexts and models of its own
    #[arg(long, value_name = "SIZE", default_value = LIMIT_TEXT, value_parser = parse_size)]
    pub(crate) max_tensor_bytes: u64,
    /// Graphs, contexts, tensors and errors at one time
    #[arg(long, value_name = "NUMBER", default_value_t = infer::Limits::HANDLES, value_parser = parse_number::<u64>)]
    pub(crate) max_handles: u64,
}

/// Show what a model takes and gives, or what a guest imports and needs.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  infer inspect efficientnet-lite0
  infer inspect resnet.onnx --json
  infer inspect classify.wasm")]
pub(crate) struct InspectArgs {
    /// A model, as for `infer run --model`, or a guest
    #[arg(value_name = "MODEL|GUEST", value_hint = ValueHint::FilePath)]
    pub(crate) subject: String,
    #[command(flatten)]
    pub(crate) selection: SelectionArgs,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}

/// Show each backend: its version, where it was found or why not, and its devices.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  infer devices --json")]
pub(crate) struct DevicesArgs {
    #[command(flatten)]
    pub(crate) libraries: LibraryArgs,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}

/// Compile a guest to native code for this processor.
///
/// The result starts without compiling, and is trusted code: `infer run` takes it with
/// --allow-precompiled only.
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  infer compile classify.wasm -o classify.cwasm
  infer run classify.cwasm --allow-precompiled --model efficientnet-lite0 < photo.jpg")]
pub(crate) struct CompileArgs {
    /// The guest: a .wasm file
    #[arg(value_hint = ValueHint::FilePath)]
    pub(crate) guest: PathBuf,
    /// The file to write
    #[arg(short, long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(crate) output: PathBuf,
    /// Count fuel, for `infer run --fuel`
    #[arg(long)]
    pub(crate) fuel: bool,
}

/// Bring, show and remove native engines.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  infer engines install onnxruntime openvino
  infer engines install onnxruntime --from onnxruntime-*.whl
  infer engines list
  infer engines remove openvino

Engines are kept in $INFER_HOME/engines, else $XDG_DATA_HOME/infer/engines, else
~/.local/share/infer/engines.")]
pub(crate) struct EnginesArgs {
    #[command(subcommand)]
    pub(crate) command: EnginesCommand,
}

#[derive(Debug, Subcommand)]
pub(crate) enum EnginesCommand {
    /// Install engines by name, with python3 and its pip; what is there is checked, and repaired
    Install {
        /// Their names, from `infer engines list`
        #[arg(required_unless_present = "from")]
        names: Vec<String>,
        /// The packages' files, in place of pip: for a machine without network. One engine at a time
        #[arg(long, value_name = "FILE", num_args = 1.., value_hint = ValueHint::FilePath)]
        from: Vec<PathBuf>,
    },
    /// List known engines, their versions, and whether they are installed
    List {
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Remove installed engines
    Remove {
        /// Their names, from `infer engines list`
        #[arg(required = true)]
        names: Vec<String>,
    },
}

/// Bring and show known models.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  infer models list
  infer models get efficientnet-lite0

Models are kept in $INFER_HOME/models, else $XDG_DATA_HOME/infer/models, else ~/.local/share/infer/models.")]
pub(crate) struct ModelsArgs {
    #[command(subcommand)]
    pub(crate) command: ModelsCommand,
}

#[derive(Debug, Subcommand)]
pub(crate) enum ModelsCommand {
    /// Install known models by name, with python3 and its pip; nothing is done for one that is there
    Get {
        /// Their names, from `infer models list`
        #[arg(required = true)]
        names: Vec<String>,
    },
    /// List known and installed models
    List {
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
}

/// What has no meaning where nothing is measured.
const FORGET_ALONE: [&str; 9] = [
    "save",
    "json",
    "shapes",
    "time",
    "backend",
    "device",
    "threads",
    "precision",
    "all_precisions",
];

/// Measure where a model runs fastest on this machine: each engine, threads, precision.
///
/// Each is loaded, run with made-up inputs, compared with the first engine in f32 on the processor, and timed, one run
/// at a time. Nothing else should keep the machine busy meanwhile.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  infer tune efficientnet-lite0
  infer tune efficientnet-lite0 --threads 1,2 --precision f32,bf16 --save
  infer tune detect.onnx --shape x=1,3,640,640 --time 5s --json
  infer tune --forget efficientnet-lite0

Choices are kept in $INFER_HOME/tuned, else $XDG_DATA_HOME/infer/tuned, else ~/.local/share/infer/tuned.
`infer run`, `inspect`, `bench` and, for --model, `serve` use a model's choice unless told otherwise (--no-tuned).")]
pub(crate) struct TuneArgs {
    /// The model, as for `infer run --model`
    #[arg(value_hint = ValueHint::FilePath)]
    pub(crate) model: ModelRef,
    /// One engine only
    #[arg(long, value_parser = backend_names(), help_heading = "What to try")]
    backend: Option<String>,
    /// One device only: cpu, gpu, gpu:N or npu
    #[arg(long, value_parser = parse_device, help_heading = "What to try")]
    device: Option<DeviceChoice>,
    /// Threads of one run on the processor [default: 1,2,4 and so on, up to what the machine runs at once]
    #[arg(
        long,
        value_name = "NUMBERS",
        value_delimiter = ',', value_parser = parse_threads,
        help_heading = "What to try"
    )]
    threads: Option<Vec<NonZeroUsize>>,
    /// What is computed in where the model says f32: f32, f16, bf16, auto. All but f32 give other numbers
    #[arg(long, value_name = "TYPES", value_delimiter = ',', value_parser = parse_precision,
        conflicts_with = "all_precisions", help_heading = "What to try")]
    #[arg(default_value = "f32")]
    precision: Vec<Precision>,
    /// Every precision that an engine has; --save still takes f32, since no other was named
    #[arg(long, help_heading = "What to try")]
    all_precisions: bool,
    /// An input's shape: `x=1,3,224,224`. Dynamic dimensions of other inputs are 1. Repeatable
    #[arg(long = "shape", value_name = "INPUT=DIMENSIONS", value_parser = parse_shape)]
    pub(crate) shapes: Vec<(String, Vec<usize>)>,
    /// How long each is timed for: 500ms, 2s, 1m
    #[arg(long, value_name = "TIME", default_value = "2s", value_parser = parse_duration)]
    pub(crate) time: Duration,
    /// Keep the fastest for later runs of the model
    #[arg(long)]
    pub(crate) save: bool,
    /// Forget what was kept for the model, and measure nothing
    #[arg(long, conflicts_with_all = FORGET_ALONE)]
    pub(crate) forget: bool,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
    #[command(flatten)]
    pub(crate) libraries: LibraryArgs,
}

impl TuneArgs {
    pub(crate) fn wishes(&self) -> Wishes {
        Wishes {
            backend: self.backend.clone().filter(|backend| backend != "auto"),
            device: self.device.unwrap_or_default(),
            threads: self.threads.clone(),
            precisions: match self.all_precisions {
                true => Precisions::All,
                false => Precisions::Named(self.precision.clone()),
            },
        }
    }
}

/// Print a completion script for a shell.
#[derive(Debug, Args)]
#[command(
    after_help = "Example:\n  infer completions bash > ~/.local/share/bash-completion/completions/infer"
)]
pub(crate) struct CompletionsArgs {
    /// The shell
    pub(crate) shell: clap_complete::Shell,
}

fn backend_names() -> PossibleValuesParser {
    PossibleValuesParser::new(std::iter::once("auto").chain(Backends::NAMES))
}

/// A folder of engines' code, which runs with all rights of this process: made, or found to be this user's alone.
fn private_folder(folder: &Path) -> anyhow::Result<PathBuf> {
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(folder)
        .with_context(|| format!("cannot create the folder `{}`", folder.display()))?;
    let data = folder.symlink_metadata()?;
    let own = Path::new("/proc/self").metadata()?.uid();
    anyhow::ensure!(
        data.is_dir() && data.uid() == own && data.mode() & 0o022 == 0,
        "expected `{}` to be a folder of this user that nobody else can write, got mode {:o} of user {}",
        folder.display(),
        data.mode() & 0o7777,
        data.uid()
    );
    Ok(folder.canonicalize()?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_definition_is_sound() {
        Cli::command().debug_assert();
    }
}
