//! Cases of finding and loading models.

use crate::case::{Case, Expected, Failure, Outcome, expect, f32s, fetch, input};
use crate::onnx;
use infer_guest::abi::{Encoding, Graph, Target};
use infer_guest::{DType, Error};
use std::io::Read;

/// The cases of this module. Those that load expect `security` on a host that does not let guests load.
pub(crate) const CASES: &[Case] = &[
    Case::new(
        "unknown-model",
        Expected::Err,
        "opens NAME=no-such-model",
        |arguments| {
            found(Graph::by_name(
                arguments.first().map_or("no-such-model", String::as_str),
            ))
        },
    ),
    Case::new(
        "empty-name",
        Expected::Err,
        "opens a model by no name",
        |_| found(Graph::by_name("")),
    ),
    Case::new(
        "long-name",
        Expected::Err,
        "opens a model by a name of a million bytes",
        |_| found(Graph::by_name(&"x".repeat(1_000_000))),
    ),
    Case::new(
        "info",
        Expected::Ok,
        "prints the JSON of NAME=identity-f32",
        |arguments| info(arguments.first().map_or("identity-f32", String::as_str)),
    ),
    Case::new(
        "info-unknown",
        Expected::Err,
        "asks for the JSON of a model that is not there",
        |_| info("no-such-model"),
    ),
    Case::new(
        "info-of-info",
        Expected::Err,
        "asks for the JSON of `identity-f32#info`",
        |_| info("identity-f32#info"),
    ),
    Case::new(
        "load-not-allowed",
        Expected::Either,
        "loads a right ONNX model and runs it",
        |_| load_and_run(&onnx::identity()),
    ),
    Case::new(
        "guest-load",
        Expected::Either,
        "loads the ONNX model that standard input holds and runs it",
        |_| {
            let mut model = Vec::new();
            std::io::stdin()
                .read_to_end(&mut model)
                .map_err(|error| Failure::Wrong(error.to_string()))?;
            load_and_run(&model)
        },
    ),
    Case::new(
        "load-autodetect",
        Expected::Either,
        "loads a right model without saying its encoding",
        |_| load(&[&onnx::identity()], Encoding::Autodetect, Target::Cpu),
    ),
    Case::new(
        "load-corrupt",
        Expected::Err,
        "loads 1,000 bytes that are no model",
        |_| {
            let noise: Vec<u8> = (0..1000u32)
                .map(|place| (place.wrapping_mul(2_654_435_761) >> 24) as u8)
                .collect();
            load(&[&noise], Encoding::Onnx, Target::Cpu)
        },
    ),
    Case::new(
        "load-truncated",
        Expected::Err,
        "loads the first half of a model",
        |_| {
            let model = onnx::identity();
            load(&[&model[..model.len() / 2]], Encoding::Onnx, Target::Cpu)
        },
    ),
    Case::new(
        "load-empty",
        Expected::Err,
        "loads a part of no bytes",
        |_| load(&[&[]], Encoding::Onnx, Target::Cpu),
    ),
    Case::new(
        "load-no-parts",
        Expected::Err,
        "loads no part at all",
        |_| load(&[], Encoding::Onnx, Target::Cpu),
    ),
    Case::new(
        "load-two-parts",
        Expected::Err,
        "loads ONNX in two parts",
        |_| load(&[&onnx::identity(), &[0; 8]], Encoding::Onnx, Target::Cpu),
    ),
    Case::new(
        "load-wrong-encoding",
        Expected::Err,
        "loads OpenVINO's XML as ONNX",
        |_| {
            load(
                &[b"<?xml version=\"1.0\"?><net name=\"m\" version=\"11\"/>"],
                Encoding::Onnx,
                Target::Cpu,
            )
        },
    ),
    Case::new(
        "load-unsupported-encoding",
        Expected::Err,
        "loads bytes as a PyTorch model",
        |_| load(&[&onnx::identity()], Encoding::PyTorch, Target::Cpu),
    ),
    Case::new(
        "load-gpu",
        Expected::Either,
        "loads a right model for a GPU",
        |_| load(&[&onnx::identity()], Encoding::Onnx, Target::Gpu),
    ),
    Case::new(
        "load-tpu",
        Expected::Either,
        "loads a right model for a TPU",
        |_| load(&[&onnx::identity()], Encoding::Onnx, Target::Tpu),
    ),
    Case::new(
        "load-too-large",
        Expected::Err,
        "loads BYTES=268435456 zeros as ONNX",
        |arguments| {
            let length = crate::case::number(arguments, 0, 256 << 20)?;
            load(&[&vec![0; length as usize]], Encoding::Onnx, Target::Cpu)
        },
    ),
];

fn load(parts: &[&[u8]], encoding: Encoding, target: Target) -> Outcome {
    found(Graph::load(parts, encoding, target))
}

fn found(graph: Result<Graph, Error>) -> Outcome {
    graph?.close()?;
    Ok("loaded".into())
}

fn load_and_run(model: &[u8]) -> Outcome {
    let graph = Graph::load(&[model], Encoding::Onnx, Target::Cpu)?;
    let mut context = graph.context()?;
    let values = f32s(&[1.0, 2.0]);
    let outputs = fetch(&mut context, &[input("x", 0, DType::F32, &[2], &values)], 1)?;
    context.close()?;
    graph.close()?;
    expect(&outputs[0], DType::F32, &[2], &values)?;
    Ok("loaded and run".into())
}

fn info(name: &str) -> Outcome {
    let graph = Graph::by_name(&format!("{name}#info"))?;
    let mut context = graph.context()?;
    let json = fetch(&mut context, &[], 1)?.remove(0);
    context.close()?;
    graph.close()?;
    if json.dtype.is_some_and(|dtype| dtype != DType::U8)
        || json.dimensions.is_some_and(|sizes| sizes.len() != 1)
    {
        return Err(Failure::Wrong(format!(
            "expected U8 of rank 1, got {:?}",
            json.dtype
        )));
    }
    String::from_utf8(json.data).map_err(|_| Failure::Wrong("the JSON is no UTF-8".into()))
}
