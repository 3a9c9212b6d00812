//! What ONNX Runtime would answer wrongly: a model for each rule, which has to be refused by name, and models just
//! beside, which have to get past the rules.

#[path = "common/mod.rs"]
mod common;
#[path = "../../openvino/tests/common/onnx.rs"]
mod onnx;

use infer_core::{Backend, Cancel, Device, Encoding, Error, LoadOptions, LoadRequest, Source};
use onnx::{Model, int, ints, one, string};

fn load(model: Model) -> Option<Error> {
    let engine = common::engine()?;
    let request = LoadRequest {
        source: Source::Memory(vec![model.bytes().into()]),
        encoding: Encoding::Onnx,
        device: Device::Cpu,
        options: LoadOptions::default(),
    };
    engine.load(&request, &Cancel::default()).err()
}

#[test]
fn each_is_refused_by_name() {
    if common::engine().is_none() {
        return;
    }
    let aligned = || string("coordinate_transformation_mode", "align_corners");
    let dilated = [
        ints("kernel_shape", &[3, 3]),
        ints("dilations", &[2, 2]),
        string("auto_pad", "SAME_UPPER"),
    ];
    let (inputs, outputs) = (["q", "k", "v"], ["y", "pk", "pv", "scores"]);
    let cases = [
        (
            "`Attention` wrongly: the scores",
            one("Attention", &inputs, &outputs, &[int("is_causal", 1)]),
        ),
        (
            "`AveragePool` wrongly: `auto_pad` together",
            one("AveragePool", &["x"], &["y"], &dilated),
        ),
        (
            "`LpPool` wrongly: `auto_pad` together",
            one("LpPool", &["x"], &["y"], &dilated),
        ),
        (
            "`MaxPool` wrongly: `auto_pad` together",
            one("MaxPool", &["x"], &["y"], &dilated),
        ),
        (
            "`MaxUnpool` wrongly: it takes indices",
            one("MaxUnpool", &["x", "i", "shape"], &["y"], &[]),
        ),
        (
            "`Resize` wrongly: `align_corners`",
            one("Resize", &["x", "", "scales"], &["y"], &[aligned()]),
        ),
    ];
    for (expected, model) in cases {
        let error = load(model).expect(expected).report();
        assert!(error.contains(expected), "{error}");
    }
}

#[test]
fn what_is_just_beside_is_not() {
    if common::engine().is_none() {
        return;
    }
    let kernel = || ints("kernel_shape", &[2, 2]);
    let same = || string("auto_pad", "SAME_LOWER");
    let beside = [
        one("AveragePool", &["x"], &["y"], &[kernel(), same()]),
        one(
            "MaxPool",
            &["x"],
            &["y"],
            &[kernel(), ints("dilations", &[2, 2])],
        ),
        one(
            "Attention",
            &["q", "k", "v"],
            &["y"],
            &[int("is_causal", 1)],
        ),
        one("Resize", &["x", "", "scales"], &["y"], &[]),
        one("MaxUnpool", &["x", "i"], &["y"], &[]),
    ];
    for model in beside {
        let error = load(model).map_or_else(String::new, |error| error.report());
        assert!(!error.contains("wrongly"), "{error}");
    }
}
