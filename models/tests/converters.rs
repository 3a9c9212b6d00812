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
    let converters = [
        "efficientnet_lite",
        "efficientnet_lite_openvino",
        "efficientnet_lite_tensorflow",
        "efficientnet_lite_tflite",
        "imgsim_resnet50",
    ];
    let cases = [
        ("stream.pth", "refused `posix.mkdir`"),
        ("zip.pth", "refused `posix.mkdir`"),
        ("other.pth", "error: expected one `data.pkl`, got 0"),
    ];
    for converter in converters {
        let program = format!("{}/convert/{converter}.py", env!("CARGO_MANIFEST_DIR"));
        for (checkpoint, expected) in cases {
            let (converted, text) = python(folder.path(), &[&program, "out", checkpoint]);
            assert!(
                !converted && text.contains(expected),
                "{converter} {checkpoint}: {text}"
            );
            assert!(!folder.path().join("pwned").exists() && !folder.path().join("out").exists());
        }
    }
}

// Writes a checkpoint as PyTorch does, with modules of its names, and reads it again.
const TENSORS: &str = r#"
import array, pickle, sys, types, zipfile
sys.path.insert(0, sys.argv[1])
import torch_reader

class FloatStorage:
    pass

def _rebuild_tensor_v2(*state):
    pass

FloatStorage.__module__, _rebuild_tensor_v2.__module__ = "torch", "torch._utils"
for part in (FloatStorage, _rebuild_tensor_v2):
    module = sys.modules.setdefault(part.__module__, types.ModuleType(part.__module__))
    setattr(module, part.__name__, part)

class Tensor:
    def __init__(self, offset, shape, strides):
        self.state = (FloatStorage(), offset, shape, strides)
    def __reduce__(self):
        return _rebuild_tensor_v2, self.state

class Pickler(pickle.Pickler):
    def persistent_id(self, value):
        return ("storage", FloatStorage, "0", "cpu", 12) if isinstance(value, FloatStorage) else None

tensors = {
    "dense": Tensor(2, (2, 3), (3, 1)),
    "turned": Tensor(2, (3, 2), (1, 3)),
    "scalar": Tensor(11, (), ()),
    "empty": Tensor(0, (0, 3), (3, 1)),
}
with open("data.pkl", "wb") as file:
    Pickler(file, 2).dump(tensors)
with zipfile.ZipFile("model.pth", "w") as z:
    z.write("data.pkl", "model/data.pkl")
    z.writestr("model/data/0", array.array("f", range(12)).tobytes())
for name, tensor in sorted(torch_reader.read("model.pth").items()):
    print(name, tensor.shape, list(tensor.values))
"#;

#[test]
fn tensors_are_cut_from_their_storage() {
    let folder = tempfile::tempdir().unwrap();
    let convert = concat!(env!("CARGO_MANIFEST_DIR"), "/convert");
    let (read, text) = python(folder.path(), &["-c", TENSORS, convert]);
    assert!(read, "{text}");
    let expected = "dense (2, 3) [2.0, 3.0, 4.0, 5.0, 6.0, 7.0]\nempty (0, 3) []\nscalar () [11.0]\n\
                    turned (3, 2) [2.0, 5.0, 3.0, 6.0, 4.0, 7.0]\n";
    assert_eq!(text, expected);
}
