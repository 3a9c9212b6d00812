//! Which references lead to which models, and what is said of those that do not.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use super::*;
use infer_core::{Dtype, TensorInfo};
use std::fs;
use tempfile::TempDir;

const ADD: &[u8] = include_bytes!("../../testdata/add.onnx");

fn folder(files: &[(&str, &[u8])]) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    for (path, content) in files {
        let path = folder.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }
    folder
}

fn open(folder: &TempDir, reference: &str) -> Result<Model> {
    let (name, reference) = reference
        .split_once('=')
        .map_or((None, reference), |(n, r)| (Some(n), r));
    let path = folder.path().join(reference);
    let known = !reference.contains(['/', '.']);
    let reference = if known {
        reference.to_owned()
    } else {
        path.to_str().unwrap().to_owned()
    };
    let reference = ModelRef {
        name: name.map(str::to_owned),
        reference,
    };
    reference.open(&ModelStore::at(folder.path().join("store")))
}

#[test]
fn references_are_parsed() {
    let cases = [
        ("a.onnx", None, "a.onnx"),
        ("m=a.onnx", Some("m"), "a.onnx"),
        ("m=a=b.onnx", Some("m"), "a=b.onnx"),
        ("./a=b.onnx", None, "./a=b.onnx"),
        ("mein Modell=x", Some("mein Modell"), "x"),
    ];
    for (text, name, reference) in cases {
        let parsed: ModelRef = text.parse().unwrap();
        assert_eq!(
            (parsed.name.as_deref(), parsed.reference.as_str()),
            (name, reference)
        );
        assert_eq!(parsed.to_string(), text);
    }
    for text in [
        "",
        "m=",
        "=a.onnx",
        "a#b=x",
        "a\nb=x",
        " a=x",
        "..=x",
        &format!("{}=x", "a".repeat(129)),
    ] {
        let error = text.parse::<ModelRef>().expect_err(text);
        assert_eq!(error.kind(), ErrorKind::InvalidArgument);
        assert!(error.to_string().starts_with("expected "), "{error}");
    }
}

#[test]
fn models_are_found() {
    let manifest = b"description = \"x\"\n[[files]]\npath = \"a.onnx\"\n";
    let folder = folder(&[
        ("one/a.onnx", ADD),
        ("both/a.onnx", ADD),
        ("both/b.onnx", ADD),
        ("both/model.toml", manifest),
        ("stem/a.onnx", ADD),
        ("stem/a.toml", manifest),
        ("any.name", ADD),
        ("store/mine/a.onnx", ADD),
        ("store/mine/model.toml", manifest),
    ]);
    let cases = [
        ("one/a.onnx", "a", "one/a.onnx", false),
        ("m=one/a.onnx", "m", "one/a.onnx", false),
        ("./one", "one", "one/a.onnx", false),
        ("./both", "both", "both/a.onnx", true),
        ("both/b.onnx", "b", "both/b.onnx", false),
        ("stem/a.onnx", "a", "stem/a.onnx", true),
        ("one/../both/.", "both", "both/a.onnx", true),
        ("any.name", "any", "any.name", false),
        ("mine", "mine", "store/mine/a.onnx", true),
    ];
    for (reference, name, file, manifest) in cases {
        let model = open(&folder, reference)
            .unwrap_or_else(|error| panic!("{reference}: {}", error.report()));
        assert_eq!(model.name, name, "{reference}");
        let (got, expected) = (
            model.files[0].canonicalize(),
            folder.path().join(file).canonicalize(),
        );
        assert_eq!(got.unwrap(), expected.unwrap(), "{reference}");
        assert_eq!(
            model.manifest.description.is_some(),
            manifest,
            "{reference}"
        );
        assert_eq!(model.encoding, Encoding::Onnx);
    }
}

#[test]
fn errors_say_what_came_and_what_to_do() {
    let with_sha = format!(
        "[[files]]\npath = \"a.onnx\"\nsha256 = \"{}\"",
        "0".repeat(64)
    );
    let folder = folder(&[
        ("empty.onnx", b""),
        ("page.onnx", b"<!doctype html>"),
        ("lfs.onnx", b"version https://git-lfs.github.com/spec/v1"),
        ("wheel.onnx", b"PK\x03\x04"),
        ("text.onnx", b"hello"),
        ("short.onnx", &ADD[..60]),
        ("a#b.onnx", ADD),
        ("none/readme", b""),
        ("two/a.onnx", ADD),
        ("two/b.onnx", ADD),
        ("sha/a.onnx", ADD),
        ("sha/model.toml", with_sha.as_bytes()),
        ("gone/model.toml", with_sha.as_bytes()),
        ("store/magika/a.onnx", ADD),
        ("store/magika/model.toml", with_sha.as_bytes()),
        ("other/a.onnx", ADD),
        ("other/a.toml", b"[[files]]\npath = \"b.onnx\""),
        ("other/b.onnx", ADD),
        ("tflite/a.onnx", ADD),
        ("tflite/a.toml", b"encoding = \"tensorflowlite\""),
        ("key/a.onnx", ADD),
        ("key/a.toml", b"file = \"x\""),
    ]);
    let cases = [
        (
            "empty.onnx",
            "expected a model, got an empty file",
            "get the file again",
        ),
        (
            "page.onnx",
            "expected a model, got a web page (HTML)",
            "get the file again",
        ),
        (
            "lfs.onnx",
            "expected a model, got a Git LFS pointer",
            "git lfs pull",
        ),
        (
            "wheel.onnx",
            "expected a model, got a zip archive",
            "unpack it",
        ),
        (
            "text.onnx",
            "expected a model, got bytes of no known model encoding",
            "convert the model to ONNX",
        ),
        (
            "short.onnx",
            "the beginning of an ONNX model, cut short",
            "get the file again",
        ),
        ("a#b.onnx", "no `#`", "name it: NAME="),
        (
            "./none",
            "expected a model.toml, a saved_model.pb or one model (.onnx, .xml, .tflite or .pb), found none",
            "",
        ),
        ("./two", "expected one model, found 2", "a.onnx` say"),
        ("./sha", "expected sha256 0000", "correct the sha256"),
        ("magika", "expected sha256 0000", "infer models get magika"),
        ("./gone", "cannot open", ""),
        (
            "no/such.onnx",
            "expected a file or folder, found nothing there",
            "",
        ),
        (
            "other/a.onnx",
            "lists other files than",
            "add it to `files`",
        ),
        (
            "tflite/a.onnx",
            "expected tensorflowlite as the manifest says, got onnx",
            "correct or remove `encoding` in `",
        ),
        (
            "key/a.onnx",
            "unknown field `file`, expected one of `name`",
            "",
        ),
        (
            "efficientnet-lite0",
            "is known and not installed",
            "run `infer models get efficientnet-lite0`",
        ),
        (
            "eficientnet-lite0",
            "no such file, folder or known model",
            "did you mean `efficientnet-lite0`?",
        ),
        (
            "llama",
            "no such file, folder or known model",
            "known models: ",
        ),
    ];
    for (reference, message, hint) in cases {
        let error = open(&folder, reference).expect_err(reference);
        assert!(
            error.report().contains(message),
            "{reference}: {}",
            error.report()
        );
        assert!(
            error.hint().unwrap_or_default().contains(hint),
            "{reference}: {:?}",
            error.hint()
        );
    }
}

const XML: &[u8] = include_bytes!("../../testdata/network.xml");
const WEIGHTS: &[u8] = include_bytes!("../../testdata/network.bin");
const LITE: &[u8] = include_bytes!("../../testdata/network.tflite");
const GRAPH: &[u8] = include_bytes!("../../testdata/network.pb");
const SAVED_MODEL: &[u8] = include_bytes!("../../testdata/network-saved-model/saved_model.pb");
const NO_WEIGHTS: &[u8] = b"<net name=\"a\" version=\"11\"><layers><layer type=\"Parameter\"/>";

#[test]
fn every_encoding_is_found() {
    let folder = folder(&[
        ("ir/m.xml", XML),
        ("ir/m.bin", WEIGHTS),
        ("ir/project.xml", b"<project/>"),
        ("plain.xml", NO_WEIGHTS),
        ("lite/m.tflite", LITE),
        ("graph/m.pb", GRAPH),
        ("graph/other.pb", b"\x08\x01"),
        ("saved/saved_model.pb", SAVED_MODEL),
        ("saved/variables/variables.index", b"x"),
        ("data/m.onnx", ADD),
        ("data/m.onnx.data", b"x"),
        (
            "data/model.toml",
            b"[[files]]\npath = \"m.onnx\"\n[[files]]\npath = \"m.onnx.data\"",
        ),
        (
            "two/model.toml",
            b"[[files]]\npath = \"a.xml\"\n[[files]]\npath = \"b.bin\"",
        ),
        ("two/a.xml", XML),
        ("two/b.bin", WEIGHTS),
        (
            "one/model.toml",
            b"name = \"own\"\n[[files]]\npath = \"a.xml\"",
        ),
        ("one/a.xml", XML),
        ("one/a.bin", WEIGHTS),
        (
            "list/model.toml",
            b"encoding = \"tensorflow\"\n[[files]]\npath = \"s/saved_model.pb\"",
        ),
        ("list/s/saved_model.pb", SAVED_MODEL),
        ("sub/model.toml", b"[[files]]\npath = \"s\""),
        ("sub/s/saved_model.pb", SAVED_MODEL),
        ("frozen/saved_model.pb", GRAPH),
    ]);
    let openvino = Encoding::OpenVino;
    let tensorflow = Encoding::TensorFlow;
    let cases: [(&str, &str, &[&str], Encoding, usize); 16] = [
        ("ir/m.xml", "m", &["ir/m.xml", "ir/m.bin"], openvino, 2),
        ("./ir", "ir", &["ir/m.xml", "ir/m.bin"], openvino, 2),
        ("plain.xml", "plain", &["plain.xml"], openvino, 1),
        ("./two", "two", &["two/a.xml", "two/b.bin"], openvino, 2),
        ("./one", "own", &["one/a.xml", "one/a.bin"], openvino, 2),
        ("n=./one", "n", &["one/a.xml", "one/a.bin"], openvino, 2),
        (
            "lite/m.tflite",
            "m",
            &["lite/m.tflite"],
            Encoding::TensorFlowLite,
            1,
        ),
        (
            "./lite",
            "lite",
            &["lite/m.tflite"],
            Encoding::TensorFlowLite,
            1,
        ),
        ("graph/m.pb", "m", &["graph/m.pb"], tensorflow, 1),
        ("./graph", "graph", &["graph/m.pb"], tensorflow, 1),
        ("./saved", "saved", &["saved"], tensorflow, 2),
        ("saved/saved_model.pb", "saved", &["saved"], tensorflow, 2),
        ("./list", "list", &["list/s"], tensorflow, 1),
        ("./sub", "sub", &["sub/s"], tensorflow, 1),
        (
            "frozen/saved_model.pb",
            "saved_model",
            &["frozen/saved_model.pb"],
            tensorflow,
            1,
        ),
        ("./data", "data", &["data/m.onnx"], Encoding::Onnx, 2),
    ];
    for (reference, name, files, encoding, all) in cases {
        let model = open(&folder, reference)
            .unwrap_or_else(|error| panic!("{reference}: {}", error.report()));
        let expected: Vec<PathBuf> = files
            .iter()
            .map(|file| folder.path().join(file).canonicalize().unwrap())
            .collect();
        let got: Vec<PathBuf> = model
            .files
            .iter()
            .map(|file| file.canonicalize().unwrap())
            .collect();
        assert_eq!((model.name.as_str(), got), (name, expected), "{reference}");
        assert_eq!(model.encoding, encoding, "{reference}");
        assert_eq!(model.all_files().unwrap().len(), all, "{reference}");
        let request = model.load_request(Device::Cpu, LoadOptions::default());
        assert!(matches!(request.source, Source::Files(parts) if parts == model.files));
    }
}

#[test]
fn what_does_not_run_says_what_does() {
    let sha = format!("[[files]]\npath = \"s\"\nsha256 = \"{}\"", "0".repeat(64));
    let folder = folder(&[
        ("bare/m.xml", XML),
        ("loose/m.bin", WEIGHTS),
        ("loose/m.xml", XML),
        ("lost/m.bin", WEIGHTS),
        ("llm/m.gguf", b"GGUF\x03\0\0\0"),
        ("ckpt.pth", b"\x80\x02\x8a\x0al\xfc"),
        ("tensors.safetensors", b"\x02\0\0\0\0\0\0\0{}"),
        ("old.h5", b"\x89HDF\r\n\x1a\n"),
        ("renamed.pb", SAVED_MODEL),
        ("three/model.toml", b"[[files]]\npath = \"a.xml\"\n[[files]]\npath = \"a.bin\"\n[[files]]\npath = \"b.bin\""),
        ("three/a.xml", XML),
        ("three/a.bin", b""),
        ("three/b.bin", b""),
        ("empty/model.toml", b"[[files]]\npath = \"s\""),
        ("empty/s/readme", b""),
        ("digest/model.toml", sha.as_bytes()),
        ("digest/s/saved_model.pb", SAVED_MODEL),
        ("said/m.pb", GRAPH),
        ("said/m.toml", b"encoding = \"openvino\""),
    ]);
    let runs =
        "infer runs ONNX, OpenVINO IR, TensorFlow (frozen graph or SavedModel) and TensorFlow Lite";
    let cases = [
        (
            "bare/m.xml",
            "expected its weights in `",
            "put the .bin file beside",
        ),
        (
            "loose/m.bin",
            "got bytes of no known model encoding",
            "m.xml`",
        ),
        ("lost/m.bin", "got bytes of no known", "give the .xml file"),
        ("llm/m.gguf", "got a GGUF or GGML model", runs),
        (
            "./llm",
            "found none",
            "`m.gguf` is a GGUF or GGML model: infer runs ONNX",
        ),
        ("ckpt.pth", "got Python objects", runs),
        ("tensors.safetensors", "got tensors without a network", runs),
        ("old.h5", "got an HDF5 file", runs),
        ("renamed.pb", "got the saved_model.pb of", "give the folder"),
        (
            "./three",
            "expected an OpenVINO IR of 2 files, .xml and .bin, got 3",
            "",
        ),
        ("./empty", "got a folder without saved_model.pb", ""),
        ("./digest", "expected sha256 0000", "correct the sha256"),
        (
            "said/m.pb",
            "expected openvino as the manifest says, got tensorflow",
            "m.toml`",
        ),
        (
            "gone.pth",
            "expected a file or folder, found nothing there",
            "",
        ),
    ];
    for (reference, message, hint) in cases {
        let error = open(&folder, reference).expect_err(reference);
        let (report, got) = (error.report(), error.hint().unwrap_or_default());
        assert!(report.contains(message), "{reference}: {report}");
        assert!(got.contains(hint), "{reference}: {got}");
    }
}

#[cfg(unix)]
#[test]
fn what_would_block_is_refused_at_once() {
    let folder = folder(&[
        ("listed/model.toml", b"[[files]]\npath = \"pipe\""),
        ("ir/m.xml", XML),
    ]);
    for path in ["pipe.onnx", "listed/pipe", "ir/m.bin"] {
        let made = std::process::Command::new("mkfifo")
            .arg(folder.path().join(path))
            .status();
        assert!(made.unwrap().success());
    }
    for reference in ["pipe.onnx", "./listed", "ir/m.xml", "/dev/zero"] {
        let error = open(&folder, reference).expect_err(reference);
        assert!(
            error
                .to_string()
                .contains("expected a file, got a pipe or a device"),
            "{reference}: {}",
            error.report()
        );
    }
    assert!(crate::Content::of_file(&folder.path().join("pipe.onnx")).is_err());
}

#[cfg(unix)]
#[test]
fn links_do_not_lead_out_of_the_folder() {
    let folder = folder(&[
        ("out.onnx", ADD),
        ("in/model.toml", b"[[files]]\npath = \"a.onnx\""),
        ("out.bin", WEIGHTS),
        ("ir/model.toml", b"[[files]]\npath = \"m.xml\""),
        ("ir/m.xml", XML),
        ("saved/model.toml", b"[[files]]\npath = \"s\""),
        ("saved/s/saved_model.pb", SAVED_MODEL),
        ("saved/s/variables/other", b""),
    ]);
    for (target, link) in [
        ("../out.onnx", "in/a.onnx"),
        ("../out.bin", "ir/m.bin"),
        ("../../../out.bin", "saved/s/variables/variables.index"),
    ] {
        std::os::unix::fs::symlink(target, folder.path().join(link)).unwrap();
    }
    for reference in ["./in", "./ir", "./saved"] {
        let error = open(&folder, reference).expect_err(reference);
        assert_eq!(error.kind(), ErrorKind::Security, "{reference}");
    }
    // A person's own file beside no manifest may be a link to anywhere.
    open(&folder, "ir/m.xml").unwrap();
}

#[test]
fn labels_are_lines() {
    let manifest = b"[[outputs]]\nname = \"y\"\nlabels = \"l.txt\"\n[[outputs]]\nname = \"z\"\nlabels = \"bad\"\n";
    let folder = folder(&[
        ("m/a.onnx", ADD),
        ("m/model.toml", manifest),
        ("m/l.txt", b"\xef\xbb\xbftench\r\ngreat white shark\n"),
        ("m/bad", b"\xff"),
    ]);
    let model = open(&folder, "./m").unwrap();
    assert_eq!(
        model.labels("y").unwrap().unwrap(),
        ["tench", "great white shark"]
    );
    assert_eq!(model.labels("other").unwrap(), None);
    let classes = |number| Signature {
        outputs: vec![TensorInfo {
            name: "y".to_owned(),
            dtype: Dtype::F32,
            dimensions: vec![None, number],
        }],
        ..Signature::default()
    };
    // The manifest also speaks of `z`, which this model does not have.
    assert!(model.check_signature(&classes(Some(2))).is_err());
    let mut model = model;
    model.manifest.outputs.truncate(1);
    model.check_signature(&classes(Some(2))).unwrap();
    model.check_signature(&classes(None)).unwrap();
    let error = model.check_signature(&classes(Some(3))).unwrap_err();
    assert!(error.to_string().contains("expected 3"), "{error}");
    model = open(&folder, "./m").unwrap();
    assert_eq!(
        model.labels("z").unwrap_err().kind(),
        ErrorKind::InvalidEncoding
    );
    assert_eq!(model.bytes().unwrap(), ADD.len() as u64);
}

#[test]
fn a_digest_is_of_what_the_model_is() {
    use crate::install::sha256;
    let model = ADD;
    let folder = folder(&[
        ("alone.onnx", model),
        ("made/model.onnx", model),
        ("made/labels.txt", b"a\nb\n"),
        ("made/weights", b"123"),
    ]);
    let path = |name: &str| folder.path().join(name);
    let own = sha256(&path("alone.onnx")).unwrap();
    let alone = open(&folder, "alone.onnx").unwrap();
    assert_eq!(alone.sha256().unwrap(), own);
    assert_eq!(alone.sha256_bytes().unwrap(), model.len() as u64);

    // Labels are no part of it, and what the manifest says is not computed again.
    let manifest = |digest: &str, more: &str| {
        let text = format!(
            "[[files]]\npath = \"model.onnx\"\n{digest}{more}\n[[outputs]]\nname = \"sum\"\nlabels = \"labels.txt\"\n"
        );
        fs::write(path("made/model.toml"), text).unwrap();
    };
    let labels = "[[files]]\npath = \"labels.txt\"\n";
    manifest("", labels);
    assert_eq!(open(&folder, "made/").unwrap().sha256().unwrap(), own);
    manifest(&format!("sha256 = \"{}\"\n", own.to_uppercase()), labels);
    let mut listed = open(&folder, "made/").unwrap();
    assert_eq!(listed.sha256().unwrap(), own);
    listed.manifest.files[0].sha256 = Some("ff".repeat(32));
    assert_eq!(listed.sha256().unwrap(), "ff".repeat(32));

    // What stands behind the model is.
    let weights = "[[files]]\npath = \"weights\"\n";
    manifest("", weights);
    let both = open(&folder, "made/").unwrap();
    assert_eq!(both.sha256_bytes().unwrap(), model.len() as u64 + 3);
    let before = both.sha256().unwrap();
    fs::write(path("made/weights"), b"124").unwrap();
    assert!(before != own && both.sha256().unwrap() != before);
}
