//! What ONNX Runtime gives when it is driven natively is what our backend gives, bit for bit: both are measured, so
//! both must do the same work.

use infer_benches::measure::{self, made_up};
use infer_benches::native::{Idle, NativeModel, NativeOptions};
use infer_core::{Backend, Call, Cancel, Device, LoadOptions, Tensor};
use infer_onnxruntime::OnnxRuntime;

/// The engine, or `None` where a person said to go on without.
fn engine() -> Option<OnnxRuntime> {
    let engine = measure::engine().expect("a place for engines");
    let Err(error) = engine.probe() else {
        return Some(engine);
    };
    assert!(
        std::env::var_os("INFER_SKIP_ENGINES").is_some(),
        "{}: run `infer engines install onnxruntime`",
        error.report()
    );
    let test = std::thread::current().name().unwrap_or("a test").to_owned();
    #[allow(clippy::print_stderr, reason = "a test that does nothing must say so")]
    {
        eprintln!("skipped without onnxruntime: {test}");
    }
    None
}

fn by_backend(engine: &OnnxRuntime, model: &str, batch: usize) -> (Vec<Tensor>, Vec<Tensor>) {
    let file = measure::model_file(model).expect("the model is there");
    let on = (Device::Cpu, LoadOptions::default());
    let graph = measure::load(engine, file, on).expect("loads");
    let named = made_up(graph.signature(), &[batch]).expect("inputs");
    let inputs = graph.signature().arrange(named).expect("fits");
    let mut session = graph.session().expect("a session");
    let mut calls = [Call::new(inputs.clone(), Cancel::default())];
    session.run(&mut calls);
    let [call] = calls;
    (inputs, call.result.expect("a result").expect("runs"))
}

fn by_native(engine: &OnnxRuntime, model: &str, (batch, idle): (usize, Idle)) -> Vec<Tensor> {
    let file = measure::model_file(model).expect("the model is there");
    let options = NativeOptions {
        idle,
        ..NativeOptions::on(Device::Cpu)
    };
    let on = (Device::Cpu, LoadOptions::default());
    let graph = measure::load(engine, file.clone(), on).expect("loads");
    let inputs = made_up(graph.signature(), &[batch]).expect("inputs");
    let mut model = NativeModel::open(engine, &file, &options).expect("loads");
    let mut bound = model.bind(&inputs).expect("binds");
    for _ in 0..3 {
        bound.run().expect("runs");
    }
    bound.outputs().expect("outputs")
}

#[test]
fn native_runs_give_the_bits_of_our_backend() {
    let Some(engine) = engine() else {
        return;
    };
    let test_model = |name| {
        format!(
            "{}/../models/testdata/{name}.onnx",
            env!("CARGO_MANIFEST_DIR")
        )
    };
    let cases = [
        ("efficientnet-lite0".to_owned(), 1),
        (test_model("batch"), 5),
        (test_model("several"), 1),
        (test_model("identity-f16"), 3),
        (test_model("identity-bool"), 3),
    ];
    for (model, batch) in cases {
        let (inputs, expected) = by_backend(&engine, &model, batch);
        assert!(!inputs.is_empty() && !expected.is_empty(), "{model}");
        for idle in [Idle::Sleep, Idle::Spin] {
            let got = by_native(&engine, &model, (batch, idle));
            assert_eq!(got.len(), expected.len(), "{model}");
            for (got, expected) in got.iter().zip(&expected) {
                assert_eq!(got.dtype(), expected.dtype(), "{model}");
                assert_eq!(got.shape(), expected.shape(), "{model}");
                assert_eq!(got.host().ok(), expected.host().ok(), "{model}");
            }
        }
    }
}

#[test]
fn inputs_that_do_not_fit_are_named() {
    let Some(engine) = engine() else {
        return;
    };
    let file = format!("{}/../models/testdata/add.onnx", env!("CARGO_MANIFEST_DIR"));
    let mut model = NativeModel::open(&engine, file.as_ref(), &NativeOptions::on(Device::Cpu))
        .expect("the model loads");
    let bytes: Vec<u8> = [1f32; 6].iter().flat_map(|one| one.to_le_bytes()).collect();
    let tensor = Tensor::copied_from(infer_core::Dtype::F32, vec![2, 3], &bytes).expect("valid");
    let named = |names: &[&str]| -> Vec<(String, Tensor)> {
        let names = names.iter();
        names
            .map(|name| ((*name).to_owned(), tensor.clone()))
            .collect()
    };
    let refused = |names: &[&str], model: &mut NativeModel| match model.bind(&named(names)) {
        Ok(_) => panic!("{names:?} must not fit"),
        Err(error) => error.to_string(),
    };
    let unknown = refused(&["a", "c"], &mut model);
    assert_eq!(unknown, "expected an input `b`");
    let missing = refused(&["a"], &mut model);
    assert_eq!(missing, "expected 2 inputs, got 1");
    let bound = model.bind(&named(&["b", "a"])).expect("fits");
    let sums = bound.outputs().expect("outputs");
    let expected: Vec<u8> = [2f32; 6].iter().flat_map(|two| two.to_le_bytes()).collect();
    assert_eq!(sums[0].host().expect("in host memory"), expected);
}
