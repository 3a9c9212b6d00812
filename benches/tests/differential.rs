//! The same guests on two hosts, ours and `wasmtime-wasi-nn`, by both ABIs, on the same engine.
//!
//! Outputs must be the same bytes; portable guests must say the same on both; errors may differ, and how they
//! do is a table here. Needs the built guests, the models `efficientnet-lite0` and `magika`, and the photos, all
//! of which `scripts/test` brings; what is missing fails a test, which names the command that brings it. Nothing
//! is timed. BF16 is not compared, because tract does not have it.

mod hosts;

use std::path::PathBuf;

use hosts::{Abi, Drops, End, Hosts, Ran, Run};
use infer_core::{Call, Cancel, Dtype, Tensor, byte_length};

/// Photo, class, its probability.
const PHOTOS: [(&str, &str, f32); 3] = [
    ("photos/coffee.png", "espresso", 0.95),
    ("photos/macaque.jpg", "macaque", 0.93),
    ("photos/camera.png", "tripod", 0.94),
];

/// How EfficientNet-lite0 wants its pictures, for a host that does not say.
const PREPARATION: &str = "--input input --size 224x224 --layout nchw --color rgb --resize center-crop \
                           --crop 0.875 --filter bicubic --mean 127 --std 128";

/// The folder of photos, which are all there, for the host and the guest.
fn photos() -> (PathBuf, &'static str) {
    (hosts::photos(&PHOTOS.map(|(path, ..)| path)), "photos")
}

/// Words on a command line.
fn words(line: &str) -> Vec<&str> {
    line.split(' ').collect()
}

#[test]
fn a_real_model_gives_the_same_bytes_on_both_hosts_by_both_abis() {
    let (hosts, model) = Hosts::with_installed("efficientnet-lite0");
    let labels = model.labels("probabilities").expect("readable");
    let labels = labels.expect("the manifest names labels");
    let dirs = [photos()];
    let [component, preview1] = Abi::BOTH.map(|abi| hosts.guest(abi, "dump"));
    for (photo, label, probability) in PHOTOS {
        let line = format!("{PREPARATION} --no-info {photo}");
        let args = words(&line);
        let run = Run {
            args: &args,
            dirs: &dirs,
            stdin: &[],
        };
        // The model's information in place of the flags.
        let told = Run {
            args: &[photo],
            ..run
        };
        let outputs = [
            hosts.ours(&component, run),
            hosts.ours(&preview1, run),
            hosts.peers(&component, run),
            hosts.peers(&preview1, run),
            hosts.ours(&component, told),
            hosts.ours(&preview1, told),
        ];
        let first = outputs[0].well();
        assert_eq!(first.len(), labels.len() * 4, "{photo}: f32 [1, 1000]");
        for (place, other) in outputs.iter().enumerate() {
            assert!(
                other.well() == first,
                "{photo}: output {place} differs from output 0"
            );
        }
        let (index, top) = top(first);
        assert_eq!(labels[index], label, "{photo}");
        assert!(
            (top - probability).abs() < 0.005,
            "{photo}: expected {probability}, got {top}"
        );
    }
}

/// The largest of f32 values, and where it is.
fn top(bytes: &[u8]) -> (usize, f32) {
    let values = bytes
        .as_chunks()
        .0
        .iter()
        .map(|bytes| f32::from_le_bytes(*bytes));
    values
        .enumerate()
        .max_by(|a, b| a.1.total_cmp(&b.1))
        .expect("not empty")
}

/// Cases of the guest `probe` in which it checks every byte that comes out, with their arguments.
const RIGHT: [&str; 15] = [
    "right",
    "rank-0",
    "empty-tensor",
    "dynamic-dimension",
    "two-inputs-any-order",
    "dtype-fp16",
    "dtype-fp32",
    "dtype-fp64",
    "dtype-u8",
    "dtype-i32",
    "dtype-i64",
    "graph-dropped-before-context",
    "context-reused-after-error",
    "many-contexts",
    "open-and-close 300",
];

/// The models of the guest `probe`, in every dtype that tract and wasi-nn share.
const PROBED: [&str; 10] = [
    "identity-f32",
    "identity-f16",
    "identity-f64",
    "identity-u8",
    "identity-i32",
    "identity-i64",
    "identity-bool",
    "add",
    "scalar",
    "several",
];

#[test]
fn right_uses_are_right_on_both_hosts() {
    let hosts = Hosts::with_test_models(&PROBED);
    for abi in Abi::BOTH {
        let probe = hosts.guest_with(abi, "probe", Drops::Ignored);
        for case in RIGHT {
            let (ours, peers) = hosts.both(
                &probe,
                Run {
                    args: &words(case),
                    ..Run::default()
                },
            );
            assert!(ours.text().starts_with("ok"), "{abi:?} {case}: {ours:?}");
            assert!(
                ours.text().ends_with("right: ok\n"),
                "{abi:?} {case}: {ours:?}"
            );
            assert_eq!(ours.well(), peers.well(), "{abi:?} {case}: {peers:?}");
        }
        // Outputs by name: preview1 has no names, and the peer does not tell them by other means.
        let run = Run {
            args: &["several-outputs"],
            ..Run::default()
        };
        let (ours, peers) = hosts.both(&probe, run);
        match abi {
            Abi::Component => assert_eq!(ours.well(), peers.well()),
            Abi::Preview1 => assert_eq!([answer(&ours), answer(&peers)], ["ok", "errno 8"]),
        }
    }
}

#[test]
fn tiny_models_give_the_bytes_of_the_engine_on_both_hosts() {
    let models = [
        "several",
        "network",
        "batch",
        "two-d",
        "empty-ok",
        "identity-f32",
    ];
    let hosts = Hosts::with_test_models(&models);
    let guests = Abi::BOTH.map(|abi| hosts.guest_with(abi, "loop", Drops::Ignored));
    // Model, dimensions of its input, output, bytes of that.
    let cases: [(&str, &[usize], usize, usize); 10] = [
        ("several", &[4], 0, 16),
        ("several", &[4], 1, 16),
        ("several", &[4], 2, 8),
        ("network", &[1, 1, 4, 4], 0, 12),
        ("batch", &[1, 4], 0, 8),
        ("batch", &[17, 4], 0, 136),
        ("two-d", &[2, 2], 0, 16),
        ("empty-ok", &[0, 3], 0, 0),
        ("empty-ok", &[5, 3], 0, 60),
        ("identity-f32", &[100_000], 0, 400_000),
    ];
    for (model, shape, output, length) in cases {
        let bytes = engine_output(&hosts, model, shape, output);
        assert_eq!(bytes.len(), length, "{model} {shape:?} output {output}");
        let expected = format!("{:016x}\n", fnv(&bytes));
        let dims: Vec<String> = shape.iter().map(usize::to_string).collect();
        let dims = dims.join(",");
        let line = format!("--model {model} --input x --dims {dims} --output {output} --runs 1");
        for guest in &guests {
            let (ours, peers) = hosts.both(
                guest,
                Run {
                    args: &words(&line),
                    ..Run::default()
                },
            );
            assert_eq!(ours.well(), expected.as_bytes(), "{line}");
            assert_eq!(peers.well(), expected.as_bytes(), "{line}, on the peer");
        }
    }
}

/// What the engine itself gives for the input that the guest `loop` makes: 0, 1, 2 ... 255, 0, ...
fn engine_output(hosts: &Hosts, model: &str, shape: &[usize], output: usize) -> Vec<u8> {
    let length = byte_length(Dtype::F32, shape).expect("small") / 4;
    let values = (0..length).flat_map(|place| ((place % 256) as f32).to_le_bytes());
    let values: Vec<u8> = values.collect();
    let input = Tensor::copied_from(Dtype::F32, shape.to_vec(), &values).expect("fits");
    let mut call = [Call::new(vec![input], Cancel::default())];
    let mut session = hosts.graph(model).session().expect("a session");
    session.run(&mut call);
    let [call] = call;
    let outputs = call.result.expect("it ran").expect("outputs");
    outputs[output].host().expect("in host memory").to_vec()
}

/// FNV-1a of 64 bits, as the guest `loop` prints it.
fn fnv(bytes: &[u8]) -> u64 {
    let step = |hash: u64, byte: &u8| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, step)
}

#[test]
fn classify_is_portable() {
    let (hosts, model) = Hosts::with_installed("efficientnet-lite0");
    let dirs = [photos(), (model.folder, "model")];
    let paths = PHOTOS.map(|(path, ..)| path).join(" ");
    let expected = PHOTOS.map(|(path, label, score)| format!("{path}\n  {score:.2}  {label}\n"));
    let expected = expected.concat();
    let flags = format!("{PREPARATION} --labels model/labels.txt --top 1 {paths}");
    let told = format!("--top 1 {paths}");
    for abi in Abi::BOTH {
        let classify = hosts.guest(abi, "classify");
        let run = |line: &str| {
            let args = words(line);
            let run = Run {
                args: &args,
                dirs: &dirs,
                stdin: &[],
            };
            hosts.both(&classify, run)
        };
        let (ours, peers) = run(&flags);
        assert_eq!(ours.well(), expected.as_bytes(), "{abi:?}: {}", ours.stderr);
        assert_eq!(
            peers.well(),
            expected.as_bytes(),
            "{abi:?}: {}",
            peers.stderr
        );
        // Our host tells what the flags said; on the peer the guest assumes, and says so.
        let (ours, peers) = run(&told);
        assert_eq!(ours.well(), expected.as_bytes(), "{abi:?}: {}", ours.stderr);
        assert_eq!(ours.stderr, "", "{abi:?}: nothing is assumed");
        assert!(peers.text().contains("class 967"), "{abi:?}: {peers:?}");
        for assumed in [
            "--input", "--size", "--layout", "--color", "--resize", "--mean",
        ] {
            assert!(peers.stderr.contains(assumed), "{abi:?}: {}", peers.stderr);
        }
    }
}

#[test]
fn filetype_is_portable() {
    let (hosts, model) = Hosts::with_installed("magika");
    let labels = model.labels("target_label").expect("readable");
    let labels = labels.expect("the manifest names labels");
    photos();
    let dirs = [(hosts::root(), ".")];
    let files = [
        ("photos/coffee.png", "png"),
        ("photos/macaque.jpg", "jpeg"),
        ("Cargo.toml", "toml"),
        ("benches/src/peer.rs", "rust"),
        ("models/testdata/make.py", "python"),
    ];
    for abi in Abi::BOTH {
        let filetype = hosts.guest(abi, "filetype");
        for (file, label) in files {
            let run = Run {
                args: &[file],
                dirs: &dirs,
                stdin: &[],
            };
            let (ours, peers) = hosts.both(&filetype, run);
            assert_eq!(
                [&ours.end, &peers.end],
                [&End::Exited(0); 2],
                "{ours:?} {peers:?}"
            );
            assert!(
                ours.text().starts_with(&format!("{file}: {label} (")),
                "{abi:?}: {ours:?}"
            );
            // The same but for the name: the peer does not tell labels.
            let class = labels
                .iter()
                .position(|known| known == label)
                .expect("a known label");
            let by_number = format!("{file}: class {class} (");
            assert!(peers.text().starts_with(&by_number), "{abi:?}: {peers:?}");
            let named = peers.text().replace(&format!("class {class}"), label);
            assert_eq!(named, ours.text(), "{abi:?}");
            assert!(
                peers.stderr.contains("by number"),
                "{abi:?}: {}",
                peers.stderr
            );
        }
    }
}

#[test]
fn only_guests_that_close_handles_by_preview1_are_not_portable() {
    let hosts = Hosts::with_test_models(&[]);
    for guest in ["classify", "filetype", "hello", "dump", "loop", "probe"] {
        assert_eq!(hosts.peers_refusal(Abi::Component, guest), None, "{guest}");
        let closes = matches!(guest, "loop" | "probe");
        match hosts.peers_refusal(Abi::Preview1, guest) {
            Some(refusal) => assert!(
                closes && refusal.contains("wasi_ephemeral_nn"),
                "{guest}: {refusal}"
            ),
            None => assert!(!closes, "{guest} imports nothing beyond the standard"),
        }
    }
}

/// Case of the guest `probe`; our answer and the peer's by the component ABI; the same by preview1, where 1 is
/// invalid-argument, 2 invalid-encoding, 5 runtime-error, 6 unsupported-operation, 7 too-large, 8 not-found. `-`
/// where the ABI has no such case.
///
/// The peer says `runtime-error` to whatever its backend refuses, and by preview1 `unsupported-operation` to
/// whatever it refuses itself; by that ABI it panics on a bad address or text, and traps on a bad record or
/// number. Left out: stale handles by preview1, whose stand-in for the peer's missing calls frees nothing, and
/// limits, of which the peer has none.
const ERRORS: [(&str, [&str; 2], [&str; 2]); 28] = [
    ("duplicate-input", ["invalid-argument", "ok"], ["ok", "ok"]),
    (
        "unknown-input",
        ["invalid-argument", "runtime-error"],
        ["errno 1", "errno 5"],
    ),
    (
        "missing-input",
        ["invalid-argument", "runtime-error"],
        ["errno 1", "errno 5"],
    ),
    (
        "wrong-dtype",
        ["invalid-argument", "runtime-error"],
        ["errno 1", "errno 5"],
    ),
    (
        "wrong-rank",
        ["invalid-argument", "runtime-error"],
        ["errno 1", "errno 5"],
    ),
    (
        "wrong-byte-length",
        ["invalid-argument", "runtime-error"],
        ["errno 1", "errno 5"],
    ),
    (
        "overflow-dimensions",
        ["invalid-argument", "runtime-error"],
        ["errno 1", "errno 5"],
    ),
    (
        "dtype-bool-refused",
        ["unsupported-operation", "runtime-error"],
        ["errno 1", "errno 5"],
    ),
    (
        "unknown-model",
        ["not-found", "not-found"],
        ["errno 8", "errno 6"],
    ),
    ("info", ["ok", "not-found"], ["ok", "errno 6"]),
    ("load-not-allowed", ["ok", "ok"], ["ok", "ok"]),
    (
        "load-autodetect",
        ["ok", "invalid-encoding"],
        ["ok", "errno 6"],
    ),
    (
        "load-corrupt",
        ["invalid-encoding", "runtime-error"],
        ["errno 2", "errno 5"],
    ),
    (
        "load-no-parts",
        ["invalid-argument", "runtime-error"],
        ["errno 1", "errno 5"],
    ),
    (
        "load-unsupported-encoding",
        ["invalid-encoding", "invalid-encoding"],
        ["errno 2", "errno 6"],
    ),
    (
        "load-gpu",
        ["security", "runtime-error"],
        ["errno 6", "errno 5"],
    ),
    (
        "get-output-before-compute",
        ["-", "-"],
        ["errno 1", "errno 5"],
    ),
    ("set-input-bad-index", ["-", "-"], ["errno 1", "errno 5"]),
    ("out-buffer-too-small", ["-", "-"], ["errno 7", "errno 7"]),
    ("unknown-context", ["-", "-"], ["errno 1", "errno 6"]),
    ("unknown-graph", ["traps", "traps"], ["errno 1", "errno 6"]),
    ("bad-pointer", ["traps", "traps"], ["errno 1", "panics"]),
    ("bad-utf8-name", ["traps", "traps"], ["errno 1", "panics"]),
    ("bad-length-data", ["traps", "traps"], ["errno 1", "panics"]),
    (
        "misaligned-dimensions",
        ["traps", "traps"],
        ["ok", "panics"],
    ),
    ("bad-out-pointer", ["traps", "traps"], ["errno 1", "traps"]),
    ("bad-pointer-record", ["-", "-"], ["errno 1", "traps"]),
    ("bad-enum-dtype", ["traps", "traps"], ["errno 1", "traps"]),
];

#[test]
fn errors_differ_as_the_table_says() {
    let hosts = Hosts::with_test_models(&PROBED);
    for abi in Abi::BOTH {
        let probe = hosts.guest_with(abi, "probe", Drops::Ignored);
        for (case, component, preview1) in ERRORS {
            let expected = match abi {
                Abi::Component => component,
                Abi::Preview1 => preview1,
            };
            if expected == ["-", "-"] {
                continue;
            }
            let (ours, peers) = hosts.both(
                &probe,
                Run {
                    args: &[case],
                    ..Run::default()
                },
            );
            let answers = [answer(&ours), answer(&peers)];
            assert_eq!(answers, expected, "{abi:?} {case}: {ours:?} {peers:?}");
            for ran in [ours, peers] {
                let usable = ran.text().ends_with("right: ok\n");
                assert!(
                    usable || ran.end != End::Exited(0),
                    "{abi:?} {case}: {ran:?}"
                );
            }
        }
    }
}

/// The code, without the message.
fn answer(ran: &Ran) -> &str {
    match &ran.end {
        End::Trapped(_) => "traps",
        End::Panicked(_) => "panics",
        End::Exited(_) => {
            let line = ran.text().lines().next().unwrap_or("nothing");
            match line.strip_prefix("err ") {
                Some(code) if code.starts_with("errno") => &code[..7],
                Some(code) => code.split(' ').next().unwrap_or(code),
                None => line.split(' ').next().unwrap_or(line),
            }
        }
    }
}
