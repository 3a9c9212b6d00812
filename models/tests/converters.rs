//! The checkpoint reader runs nothing that is in a checkpoint, and the programs say what is wrong.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::path::Path;
use std::process::Command;

/// Runs Python in a folder; gives whether it succeeded and what it wrote.
fn python(folder: &Path, arguments: &[&str]) -> (bool, String) {
    let output = Command::new("python3")
        .args(["-I", "-B"])
        .args(arguments)
        .current_dir(folder)
        .output()
        .unwrap();
    let text = [output.stdout, output.stderr].concat();
    (
        output.status.success(),
        String::from_utf8_lossy(&text).into_owned(),
    )
}

// A pickle that makes a file when it is loaded in the ordinary way, alone and inside a zip.
const HOSTILE: &str = r#"
import os, pickle, zipfile
class Hostile:
    def __reduce__(self):
        return os.mkdir, ("pwned",)
text = pickle.dumps(Hostile(), 2)
open("stream.pth", "wb").write(text)
with zipfile.ZipFile("zip.pth", "w") as z:
    z.writestr("model/data.pkl", text)
with zipfile.ZipFile("other.pth", "w") as z:
    z.writestr("readme", "")
"#;

#[test]
fn a_checkpoint_runs_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let (made, text) = python(folder.path(), &["-c", HOSTILE]);
    assert!(made, "{text}");
    let converter = concat!(env!("CARGO_MANIFEST_DIR"), "/convert/efficientnet_lite.py");
    let cases = [
        ("stream.pth", "refused `posix.mkdir`"),
        ("zip.pth", "refused `posix.mkdir`"),
        ("other.pth", "error: expected one `data.pkl`, got 0"),
    ];
    for (checkpoint, expected) in cases {
        let (converted, text) = python(folder.path(), &[converter, "out.onnx", checkpoint]);
        assert!(
            !converted && text.contains(expected),
            "{checkpoint}: {text}"
        );
        assert!(!folder.path().join("pwned").exists() && !folder.path().join("out.onnx").exists());
    }
}
