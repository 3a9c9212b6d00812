//! The tiny models of `models/testdata/answers.json` on every engine that reads them: what each answers is compared
//! with numbers that no engine computed, and what an engine refuses stands here by name.

use std::path::{Path, PathBuf};

use infer::{Backends, EngineLibraries, Selection};
use infer_core::testing::engine_is_there;
use infer_core::{Call, Cancel, Dtype, Result, Source, Tensor, run_engine};
use infer_models::{ModelRef, ModelStore};
use serde::Deserialize;

#[derive(Deserialize)]
struct Answer {
    model: String,
    inputs: Vec<Values>,
    outputs: Vec<Values>,
    tolerance: f64,
}

#[derive(Deserialize)]
struct Values {
    name: String,
    dtype: String,
    dimensions: Vec<usize>,
    values: Vec<f64>,
}

/// What an engine does not run, and why.
const REFUSED: [(&str, &str, &str); 1] = [("tract", "gemm-f16.onnx", "tract")];

#[test]
fn every_engine_answers_right_or_refuses_by_name() {
    let folder = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../models/testdata"));
    let text = std::fs::read_to_string(folder.join("answers.json")).expect("the answers");
    let answers: Vec<Answer> = serde_json::from_str(&text).expect("answers in JSON");
    let backends = Backends::of_machine(&EngineLibraries::default()).expect("the engines");
    let mut answered = 0;
    for backend in backends.all() {
        let name = backend.name();
        if !engine_is_there(backend.as_ref()) {
            continue;
        }
        for answer in &answers {
            let refused = REFUSED
                .iter()
                .find(|row| (row.0, row.1) == (name, &answer.model));
            match (run(&backends, name, &folder, answer), refused) {
                (Ok(Some(outputs)), None) => {
                    compare(name, answer, &outputs);
                    answered += 1;
                }
                // The engine does not read this encoding.
                (Ok(None), None) => {}
                (Err(error), Some((_, _, why))) => {
                    let report = error.report();
                    assert!(report.contains(why), "{name}, {}: {report}", answer.model);
                }
                (Err(error), None) => panic!("{name}, {}: {}", answer.model, error.report()),
                (Ok(_), Some(_)) => panic!("{name} runs {}, which it should refuse", answer.model),
            }
        }
    }
    assert!(answered >= 7, "only {answered} answers");
}

fn run(
    backends: &Backends,
    name: &str,
    folder: &Path,
    answer: &Answer,
) -> Result<Option<Vec<Tensor>>> {
    let reference: ModelRef = folder.join(&answer.model).display().to_string().parse()?;
    let model = reference.open(&ModelStore::at("nowhere"))?;
    let backend = backends.all().iter().find(|backend| backend.name() == name);
    if !backend.is_some_and(|backend| backend.encodings().contains(&model.encoding)) {
        return Ok(None);
    }
    let selection = Selection {
        backend: Some(name.to_owned()),
        ..Selection::default()
    };
    let source = Source::Files(model.files.clone());
    let loaded = backends.load(&selection, (&source, model.encoding), &Cancel::default())?;
    let named = answer
        .inputs
        .iter()
        .map(|input| (input.name.clone(), tensor(input)));
    let inputs = loaded.graph.signature().arrange(named.collect())?;
    let mut call = [Call::new(inputs, Cancel::default())];
    run_engine(name, || {
        loaded.graph.session()?.run(&mut call);
        Ok(())
    })?;
    let [call] = call;
    let outputs = call.result.expect("a result")?;
    let order = &loaded.graph.signature().outputs;
    Ok(Some(
        answer
            .outputs
            .iter()
            .map(|expected| {
                let index = order.iter().position(|info| info.name == expected.name);
                let index = index.unwrap_or_else(|| panic!("no output `{}`", expected.name));
                outputs[index].clone()
            })
            .collect(),
    ))
}

fn compare(name: &str, answer: &Answer, outputs: &[Tensor]) {
    for (expected, got) in answer.outputs.iter().zip(outputs) {
        let what = format!("{name}, {}, `{}`", answer.model, expected.name);
        assert_eq!(got.dtype().to_string(), expected.dtype, "{what}");
        assert_eq!(got.shape(), expected.dimensions, "{what}");
        let values = numbers(got).expect("numbers");
        let close = |(a, b): (&f64, &f64)| (a - b).abs() <= answer.tolerance * b.abs().max(1.0);
        assert!(
            values.len() == expected.values.len() && values.iter().zip(&expected.values).all(close),
            "{what}: expected {:?}, got {values:?}",
            expected.values
        );
    }
}

/// The dtypes that the answers have.
const DTYPES: [Dtype; 5] = [Dtype::F16, Dtype::F32, Dtype::I64, Dtype::I32, Dtype::U8];

fn tensor(values: &Values) -> Tensor {
    let dtype = DTYPES
        .into_iter()
        .find(|dtype| dtype.to_string() == values.dtype);
    let dtype = dtype.unwrap_or_else(|| panic!("dtype {}", values.dtype));
    let bytes = values.values.iter().flat_map(|&value| match dtype {
        Dtype::F16 => half::f16::from_f64(value).to_le_bytes().to_vec(),
        Dtype::F32 => (value as f32).to_le_bytes().to_vec(),
        Dtype::I64 => (value as i64).to_le_bytes().to_vec(),
        Dtype::I32 => (value as i32).to_le_bytes().to_vec(),
        _ => vec![value as u8],
    });
    let bytes: Vec<u8> = bytes.collect();
    Tensor::copied_from(dtype, values.dimensions.clone(), &bytes).expect("a valid tensor")
}

fn numbers(tensor: &Tensor) -> Result<Vec<f64>> {
    let bytes = tensor.host()?;
    let size = tensor.dtype().size().expect("a fixed size");
    Ok(bytes
        .chunks_exact(size)
        .map(|chunk| match tensor.dtype() {
            Dtype::F16 => half::f16::from_le_bytes(chunk.try_into().expect("2 bytes")).to_f64(),
            Dtype::F32 => f32::from_le_bytes(chunk.try_into().expect("4 bytes")).into(),
            Dtype::I64 => i64::from_le_bytes(chunk.try_into().expect("8 bytes")) as f64,
            Dtype::I32 => i32::from_le_bytes(chunk.try_into().expect("4 bytes")).into(),
            _ => chunk[0].into(),
        })
        .collect())
}
