//! The sides of `scripts/bench` speak the same lines and do the same work; its driver is sound Python, and its script
//! refuses what it does not know. Nothing is timed.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::Arc;

use infer::{
    Backends, DeviceChoice, Engine, EngineConfig, EngineLibraries, Guest, Instance, Registry,
    Selection,
};
use infer_benches::measure;
use infer_core::{Backend, Device};
use infer_models::{ModelRef, ModelStore};
use wasmtime_wasi::p2::pipe::{MemoryInputPipe, MemoryOutputPipe};

/// Three values in and out, and then as many others as a picture has.
const ORDERS: &str = "identity x 3 12 2 3\nidentity x 150528 602112 1 1\n";

/// What `Σ (2 x place + 1) x word` is for -1.0, -0.992 and -0.984, which the first order gives the model.
const THREE: u64 = 0xbf80_0000 + 3 * 0xbf7d_f3b6 + 5 * 0xbf7b_e76d;

#[test]
fn native_sides_and_guests_answer_the_same() {
    let onnxruntime = has_onnxruntime();
    let sides = [("tract", &["--tract"][..]), ("onnxruntime", &[])];
    for (backend, options) in sides {
        if backend == "onnxruntime" && !onnxruntime {
            continue;
        }
        let native = natively(options);
        assert_eq!(native.len(), 2, "{backend}: an answer for each order");
        assert_eq!(native[0], format!("{THREE:016x} 2"), "{backend}");
        for target in ["wasm32-wasip2", "wasm32-wasip1"] {
            assert_eq!(by_guest(target, backend), native, "{backend} {target}");
        }
    }
}

#[test]
fn native_worker_says_what_it_cannot_do() {
    for (orders, expected) in [
        ("identity x 3", "cannot read the order `identity x 3`"),
        ("other x 3 12 1 1", "got `other`"),
        ("identity x 3 16 1 1", "expected 16 bytes of output, got 12"),
        ("identity x 3 12 0 1", "cannot read the order"),
    ] {
        let output = native_worker(&["--tract"], &format!("{orders}\n"));
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{orders}: {stderr}");
        assert!(stderr.contains(expected), "{orders}: {stderr}");
    }
}

#[test]
fn a_copy_copies() {
    let output = native_worker(&["--tract"], "copy - 1 8 3 2\n");
    let answer = answers(&output.stdout);
    // The bytes are 0 to 7: two words.
    let expected = 0x0302_0100_u64 + 3 * 0x0706_0504;
    assert_eq!(answer, [format!("{expected:016x} 3")]);
}

#[test]
fn the_driver_is_sound() {
    let folder = root().join("benches");
    let mut files = python(&folder.join("driver"));
    files.extend(python(&folder.join("peers")));
    files.extend(python(&folder.join("serve")));
    assert!(files.len() > 8, "the driver is found");
    let parse =
        "import ast, sys; [ast.parse(open(f, encoding='utf-8').read(), f) for f in sys.argv[1:]]";
    let output = Command::new("python3")
        .args(["-I", "-B", "-c", parse])
        .args(&files)
        .output();
    well(&output.expect("python3"));
    let test = folder.join("driver/selftest.py");
    let output = Command::new("python3")
        .args(["-I", "-B"])
        .arg(test)
        .output();
    well(&output.expect("python3"));
}

#[test]
fn the_script_refuses_what_it_does_not_know() {
    for (arguments, expected) in [
        (&["--fast"][..], "error: expected an option, got `--fast`"),
        (&["--only"], "error: expected a value after `--only`"),
        (
            &["--only", "none"],
            "error: expected a work after `--only`, got `none`",
        ),
        (
            &["--containers", "--only", "parts"],
            "error: expected `--containers` with `--quick` and `--write` alone",
        ),
        (
            &["serve", "--only", "squeezenet"],
            "error: expected a server after `--only`, got `squeezenet`",
        ),
        (
            &["serve", "--containers"],
            "error: expected `--containers` with `--quick` and `--write` alone",
        ),
        (
            &["--quick", "serve"],
            "error: expected an option, got `serve`",
        ),
        (
            &["--rounds", "many"],
            "error: expected a number of rounds after `--rounds`, got `many`",
        ),
    ] {
        let output = Command::new(root().join("scripts/bench"))
            .args(arguments)
            .output();
        let output = output.expect("the script runs");
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{stderr}");
        assert!(stderr.contains(expected), "{stderr}");
        assert!(stderr.contains("hint: scripts/bench --help"), "{stderr}");
    }
}

/// Whether the engine is here; a missing one fails the test unless a person said to go on without.
fn has_onnxruntime() -> bool {
    let engine = measure::engine().expect("a place for engines");
    let Err(error) = engine.probe() else {
        return true;
    };
    assert!(
        std::env::var_os("INFER_SKIP_ENGINES").is_some(),
        "{}: run `infer engines install onnxruntime`",
        error.report()
    );
    #[allow(clippy::print_stderr, reason = "a test that does less must say so")]
    {
        eprintln!("skipped without onnxruntime: native_sides_and_guests_answer_the_same");
    }
    false
}

/// The repository's root.
fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// The built guest.
fn worker(target: &str) -> Vec<u8> {
    let path = format!("guest-examples/target/{target}/release/worker.wasm");
    let bytes = std::fs::read(root().join(&path));
    bytes.unwrap_or_else(|error| {
        panic!("cannot read `{path}`: {error}\nhint: run guest-examples/build")
    })
}

fn model() -> String {
    let path = root().join("models/testdata/identity-f32.onnx");
    path.to_str().expect("UTF-8").to_owned()
}

fn natively(options: &[&str]) -> Vec<String> {
    let output = native_worker(options, ORDERS);
    well(&output);
    answers(&output.stdout)
}

fn native_worker(options: &[&str], orders: &str) -> Output {
    let mut child = Command::new(env!("CARGO_BIN_EXE_native-worker"))
        .args(["--threads", "1"])
        .args(options)
        .arg(format!("identity={}", model()))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("starts");
    let mut stdin = child.stdin.take().expect("a pipe");
    stdin.write_all(orders.as_bytes()).expect("writes");
    drop(stdin);
    child.wait_with_output().expect("ends")
}

fn by_guest(target: &str, backend: &str) -> Vec<String> {
    let engine = Engine::new(&EngineConfig::default()).expect("this machine runs wasmtime");
    let guest = Guest::compile(&engine, &worker(target)).expect("a valid guest");
    let backends = Arc::new(Backends::of_machine(&EngineLibraries::default()).expect("engines"));
    let mut registry = Registry::default();
    let selection = Selection {
        backend: Some(backend.to_owned()),
        device: DeviceChoice::Exactly(Device::Cpu),
        ..Selection::default()
    };
    let reference = ModelRef {
        name: Some("identity".to_owned()),
        reference: model(),
    };
    let files = reference
        .open(&ModelStore::at("no-store"))
        .expect("the model");
    infer::open_model(&backends, &files, &selection, &mut registry).expect("opens");
    let stdout = MemoryOutputPipe::new(1 << 16);
    let mut instance = Instance::new(vec!["worker".to_owned()], Arc::new(registry), backends);
    instance.stdin = Box::new(MemoryInputPipe::new(ORDERS.as_bytes().to_vec()));
    instance.stdout = Box::new(stdout.clone());
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build();
    let outcome = runtime.expect("a runtime").block_on(guest.run(instance));
    assert!(
        matches!(outcome.end, infer::End::Exited(0)),
        "{:?}",
        outcome.end
    );
    answers(&stdout.contents())
}

/// Each answer as its checksum and how many samples it has, all of which are numbers.
fn answers(stdout: &[u8]) -> Vec<String> {
    let text = std::str::from_utf8(stdout).expect("UTF-8");
    let answer = |line: &str| {
        let (checksum, samples) = line.split_once(' ').expect("samples");
        let samples: Vec<u64> = samples
            .split(' ')
            .map(|sample| sample.parse().expect("nanoseconds"))
            .collect();
        format!("{checksum} {}", samples.len())
    };
    text.lines().map(answer).collect()
}

fn python(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).expect("a folder");
    let paths = entries.map(|entry| entry.expect("an entry").path());
    paths
        .filter(|path| path.extension().is_some_and(|ending| ending == "py"))
        .collect()
}

fn well(output: &Output) {
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
}
