//! The cases of the conformance suite, in the order of [`CASES`].

use std::path::PathBuf;

use bytes::Bytes;

use super::conformance::{Folder, Suite, TestModel, floats, integers, read_floats};
use crate::{
    Call, Cancel, Device, Dtype, Encoding, ErrorKind, LoadOptions, LoadRequest, Source, Tensor,
    run_engine,
};

/// A case and its name.
type Case = (&'static str, fn(&Suite<'_>));

/// Every case.
pub(super) const CASES: [Case; 18] = [
    ("tensors of a wrong byte length", tensor_lengths),
    ("unknown, duplicate and missing inputs", input_names),
    ("every dtype in and out", dtypes),
    ("rank 0", rank_0),
    ("empty tensors", empty_tensors),
    ("dynamic dimensions", dynamic_dimensions),
    ("a dimension that two inputs share", shared_dimension),
    ("several inputs and outputs", several_tensors),
    ("the layout of elements", layout),
    ("a numeric reference", numeric_reference),
    ("concurrent sessions", concurrent_sessions),
    ("a batch of calls", batch),
    ("a session after a cancelled call", after_a_cancel),
    ("a session after an error", after_an_error),
    ("a panic of the engine", engine_panic),
    ("bytes that are no model", broken_bytes),
    ("what is not there", not_there),
    ("what a model may not reach or use", refused_models),
];

fn tensor_lengths(suite: &Suite<'_>) {
    let cases: [(Dtype, &[usize], usize); 4] = [
        (Dtype::F32, &[2, 3], 23),
        (Dtype::BF16, &[], 0),
        (Dtype::I64, &[usize::MAX, usize::MAX], 8),
        (Dtype::U8, &[1 << 63], 0),
    ];
    for (dtype, shape, length) in cases {
        let made = Tensor::new(dtype, shape.to_vec(), Bytes::from(vec![0; length]));
        suite.failed(
            &format!("{dtype} {shape:?} of {length} bytes"),
            made,
            &[ErrorKind::InvalidArgument],
        );
    }
}

fn input_names(suite: &Suite<'_>) {
    let Some(add) = suite.load(TestModel::Add) else {
        return;
    };
    let one = || floats(&[2, 3], &[1.0; 6]);
    let cases = [
        ("unknown", vec![("a", one()), ("b", one()), ("c", one())]),
        (
            "given twice",
            vec![("a", one()), ("b", one()), ("a", one())],
        ),
        ("missing", vec![("a", one())]),
        (
            "expected f32 [2, 3], got f32 [3, 2]",
            vec![("a", one()), ("b", floats(&[3, 2], &[1.0; 6]))],
        ),
        (
            "expected f32 [2, 3], got f32 [6]",
            vec![("a", one()), ("b", floats(&[6], &[1.0; 6]))],
        ),
        (
            "expected f32 [2, 3], got i64 [2, 3]",
            vec![("a", one()), ("b", integers(&[2, 3], &[1; 6]))],
        ),
    ];
    let mut session = add.session();
    for (text, inputs) in cases {
        let error = suite.failed(
            text,
            add.run(session.as_mut(), inputs),
            &[ErrorKind::InvalidArgument],
        );
        suite.check(error.to_string().contains(text), || {
            format!("expected `{text}` in the message, got: {error}")
        });
    }
    // Given in another order than the model's.
    let inputs = vec![("b", floats(&[2, 3], &[0.5; 6])), ("a", one())];
    let outputs = suite.done("a valid call", add.run(session.as_mut(), inputs));
    suite.equal("the sum", read_floats(&outputs[0]), vec![1.5; 6]);
}

fn dtypes(suite: &Suite<'_>) {
    for dtype in Dtype::WASI_NN.into_iter().chain([Dtype::Bool]) {
        let model = TestModel::Identity(dtype);
        match run_identity(suite, model, dtype) {
            Ok(()) => {}
            Err(error) => suite.refuse(model, &error, &dtype.to_string()),
        }
    }
}

fn run_identity(suite: &Suite<'_>, model: TestModel, dtype: Dtype) -> crate::Result<()> {
    const ELEMENTS: usize = 100;
    let identity = suite.try_load(&suite.request(model))?;
    let signature = identity.graph.signature();
    suite.equal("the input's dtype", signature.inputs[0].dtype, dtype);
    suite.equal("the output's dtype", signature.outputs[0].dtype, dtype);

    let size = dtype.size().expect("a numeric dtype");
    let bytes: Vec<u8> = match dtype {
        Dtype::Bool => (0..ELEMENTS).map(|i| u8::from(i % 3 == 0)).collect(),
        _ => (0..ELEMENTS * size).map(|i| (i * 37 % 251) as u8).collect(),
    };
    let input = Tensor::copied_from(dtype, vec![ELEMENTS], &bytes)?;
    let outputs = identity.run(identity.session().as_mut(), vec![("x", input)])?;
    suite.equal("the dtype that came", outputs[0].dtype(), dtype);
    suite.equal("the shape", outputs[0].shape().to_vec(), vec![ELEMENTS]);
    suite.equal("the elements", outputs[0].host()?, Bytes::from(bytes));
    Ok(())
}

fn rank_0(suite: &Suite<'_>) {
    let Some(scalar) = suite.load(TestModel::Scalar) else {
        return;
    };
    suite.equal(
        "the declared rank",
        scalar.graph.signature().inputs[0].dimensions.len(),
        0,
    );
    let mut session = scalar.session();
    let outputs = suite.done(
        "a scalar",
        scalar.run(session.as_mut(), vec![("x", floats(&[], &[21.0]))]),
    );
    suite.equal("the shape", outputs[0].shape().len(), 0);
    suite.equal("twice 21", read_floats(&outputs[0]), vec![42.0]);
    let of_rank_1 = scalar.run(session.as_mut(), vec![("x", floats(&[1], &[21.0]))]);
    suite.failed(
        "rank 1 for rank 0",
        of_rank_1,
        &[ErrorKind::InvalidArgument],
    );
}

fn empty_tensors(suite: &Suite<'_>) {
    let Some(relu) = suite.load(TestModel::Relu) else {
        return;
    };
    let outputs = suite.done(
        "no rows",
        relu.run(relu.session().as_mut(), vec![("x", floats(&[0, 3], &[]))]),
    );
    suite.equal("the shape", outputs[0].shape().to_vec(), vec![0, 3]);
    suite.equal("the bytes", outputs[0].byte_length(), 0);
}

fn dynamic_dimensions(suite: &Suite<'_>) {
    let Some(relu) = suite.load(TestModel::Relu) else {
        return;
    };
    suite.equal(
        "the declaration",
        relu.graph.signature().inputs[0].dimensions.clone(),
        vec![None, Some(3)],
    );
    let mut session = relu.session();
    for rows in [1, 5, 2, 0, 64] {
        let values: Vec<f32> = (0..rows * 3).map(|i| i as f32 - 4.0).collect();
        let expected: Vec<f32> = values.iter().map(|value| value.max(0.0)).collect();
        let outputs = relu.run(session.as_mut(), vec![("x", floats(&[rows, 3], &values))]);
        let outputs = suite.done(&format!("{rows} rows"), outputs);
        suite.equal("the shape", outputs[0].shape().to_vec(), vec![rows, 3]);
        suite.equal("the elements", read_floats(&outputs[0]), expected);
    }
    let wide = relu.run(session.as_mut(), vec![("x", floats(&[1, 4], &[1.0; 4]))]);
    suite.failed("4 columns", wide, &[ErrorKind::InvalidArgument]);
}

fn shared_dimension(suite: &Suite<'_>) {
    let Some(shared) = suite.load(TestModel::Shared) else {
        return;
    };
    let mut session = shared.session();
    let mut run = |a: &[f32], b: &[f32]| {
        shared.run(
            session.as_mut(),
            vec![("a", floats(&[a.len()], a)), ("b", floats(&[b.len()], b))],
        )
    };
    suite.failed(
        "2 and 3",
        run(&[1.0, 2.0], &[1.0, 2.0, 3.0]),
        &[ErrorKind::InvalidArgument],
    );
    suite.failed(
        "1 and 3",
        run(&[1.0], &[1.0, 2.0, 3.0]),
        &[ErrorKind::InvalidArgument],
    );
    let outputs = suite.done("2 and 2", run(&[1.0, 2.0], &[10.0, 20.0]));
    suite.equal("the sum", read_floats(&outputs[0]), vec![11.0, 22.0]);
}

fn several_tensors(suite: &Suite<'_>) {
    let Some(several) = suite.load(TestModel::Several) else {
        return;
    };
    let names: Vec<&str> = several
        .graph
        .signature()
        .outputs
        .iter()
        .map(|output| output.name.as_str())
        .collect();
    suite.equal("the outputs' names", names, vec!["double", "half", "count"]);
    let input = vec![("x", floats(&[4], &[1.0, 2.0, 3.0, 4.0]))];
    let outputs = suite.done("a call", several.run(several.session().as_mut(), input));
    suite.equal("double", read_floats(&outputs[0]), vec![2.0, 4.0, 6.0, 8.0]);
    suite.equal("half", read_floats(&outputs[1]), vec![0.5, 1.0, 1.5, 2.0]);
    suite.equal("count's dtype", outputs[2].dtype(), Dtype::I64);
    suite.equal("count's rank", outputs[2].shape().len(), 0);
    let count = suite.done("count", outputs[2].host());
    suite.equal("count", count.to_vec(), 4i64.to_le_bytes().to_vec());
    for (info, output) in several.graph.signature().outputs.iter().zip(&outputs) {
        let fits = info.accepts(output.dtype(), output.shape());
        suite.check(fits, || {
            format!("output `{}`: declared {info}, got {output:?}", info.name)
        });
    }
}

fn layout(suite: &Suite<'_>) {
    let Some(transpose) = suite.load(TestModel::Transpose) else {
        return;
    };
    let input = vec![("x", floats(&[2, 2], &[1.0, 2.0, 3.0, 4.0]))];
    let outputs = suite.done("a call", transpose.run(transpose.session().as_mut(), input));
    suite.equal(
        "rows for columns",
        read_floats(&outputs[0]),
        vec![1.0, 3.0, 2.0, 4.0],
    );
}

/// The input of the small network, and what it gives according to a computation in f64.
const NETWORK_INPUT: [f32; 16] = [
    0.0, 0.5, 1.0, -1.0, 0.25, -0.5, 2.0, 1.5, -2.0, 0.75, 1.0, 0.5, 0.0, -0.25, 1.25, -0.75,
];
const NETWORK_OUTPUT: [f32; 3] = [0.326_495_84, 0.419_228_95, 0.254_275_2];
const TOLERANCE: f32 = 1e-5;

fn numeric_reference(suite: &Suite<'_>) {
    let Some(network) = suite.load(TestModel::Network) else {
        return;
    };
    let input = vec![("x", floats(&[1, 1, 4, 4], &NETWORK_INPUT))];
    let outputs = suite.done("a call", network.run(network.session().as_mut(), input));
    suite.equal("the shape", outputs[0].shape().to_vec(), vec![1, 3]);
    let got = read_floats(&outputs[0]);
    let close = got
        .iter()
        .zip(NETWORK_OUTPUT)
        .all(|(got, expected)| (got - expected).abs() <= TOLERANCE);
    suite.check(close, || {
        format!("expected {NETWORK_OUTPUT:?} to within {TOLERANCE}, got {got:?}")
    });
}

fn concurrent_sessions(suite: &Suite<'_>) {
    let Some(matmul) = suite.load(TestModel::MatMul) else {
        return;
    };
    suite.check(matmul.graph.concurrency() >= 1, || {
        "expected a concurrency of 1 at least, got 0".to_owned()
    });
    let input = |seed: usize| {
        let values: Vec<f32> = (0..4 * 50)
            .map(|i| ((i * 31 + seed * 7) % 101) as f32 / 17.0)
            .collect();
        vec![("x", floats(&[50, 4], &values))]
    };
    let alone: Vec<Bytes> = (0..4)
        .map(|seed| {
            let outputs = suite.done(
                "a call alone",
                matmul.run(matmul.session().as_mut(), input(seed)),
            );
            suite.done("its elements", outputs[0].host())
        })
        .collect();
    let together: Vec<bool> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..4)
            .map(|seed| {
                let (matmul, alone) = (&matmul, &alone);
                scope.spawn(move || {
                    let mut session = matmul.session();
                    (0..50).all(|_| {
                        let outputs = matmul.run(session.as_mut(), input(seed));
                        outputs
                            .and_then(|outputs| outputs[0].host())
                            .is_ok_and(|bytes| bytes == alone[seed])
                    })
                })
            })
            .collect();
        threads
            .into_iter()
            .map(|thread| thread.join().expect("no panic of the test"))
            .collect()
    });
    suite.equal("equal bits from each thread", together, vec![true; 4]);
}

fn batch(suite: &Suite<'_>) {
    let Some(matmul) = suite.load(TestModel::MatMul) else {
        return;
    };
    let cancelled = Cancel::default();
    cancelled.cancel();
    let mut calls: Vec<Call> = [1, 3, 2, 0, 1]
        .iter()
        .enumerate()
        .map(|(call, &rows)| {
            let cancel = if call == 2 {
                cancelled.clone()
            } else {
                Cancel::default()
            };
            Call::new(
                vec![floats(&[rows, 4], &vec![call as f32; rows * 4])],
                cancel,
            )
        })
        .collect();
    suite.done(
        "the batch",
        matmul.run_calls(matmul.session().as_mut(), &mut calls),
    );
    for (index, call) in calls.into_iter().enumerate() {
        let result = call
            .result
            .unwrap_or_else(|| panic!("call {index} of the batch has no result"));
        if index == 2 {
            suite.failed("the cancelled call", result, &[ErrorKind::Timeout]);
            continue;
        }
        let outputs = suite.done(&format!("call {index}"), result);
        let expected = [16.0, 20.0].map(|value| value * index as f32);
        suite.equal("its rows", outputs[0].shape()[0], [1, 3, 2, 0, 1][index]);
        suite.equal(
            "its elements",
            read_floats(&outputs[0]),
            expected.repeat(outputs[0].shape()[0]),
        );
    }
}

fn after_a_cancel(suite: &Suite<'_>) {
    let Some(relu) = suite.load(TestModel::Relu) else {
        return;
    };
    let mut session = relu.session();
    let cancel = Cancel::default();
    cancel.cancel();
    let mut calls = [Call::new(vec![floats(&[1, 3], &[1.0, -1.0, 2.0])], cancel)];
    suite.done(
        "the cancelled run",
        relu.run_calls(session.as_mut(), &mut calls),
    );
    let [call] = calls;
    suite.failed(
        "the cancelled call",
        call.result.expect("a result"),
        &[ErrorKind::Timeout],
    );
    let next = relu.run(
        session.as_mut(),
        vec![("x", floats(&[1, 3], &[3.0, -1.0, 2.0]))],
    );
    suite.equal(
        "the next call",
        read_floats(&suite.done("the next call", next)[0]),
        vec![3.0, 0.0, 2.0],
    );
    suite.done("a reset", session.reset());
    let next = relu.run(
        session.as_mut(),
        vec![("x", floats(&[1, 3], &[4.0, -1.0, 2.0]))],
    );
    suite.equal(
        "after a reset",
        read_floats(&suite.done("after a reset", next)[0]),
        vec![4.0, 0.0, 2.0],
    );

    let cancel = Cancel::default();
    cancel.cancel();
    let request = suite.request(TestModel::Relu);
    let loaded = run_engine(suite.backend.name(), || {
        suite.backend.load(&request, &cancel).map(|_| ())
    });
    // A load that is done before it looks has no reason to fail.
    if let Err(error) = loaded {
        suite.equal(
            "the kind of a cancelled load",
            error.kind(),
            ErrorKind::Timeout,
        );
    }
}

fn after_an_error(suite: &Suite<'_>) {
    let Some(pick) = suite.load(TestModel::Pick) else {
        return;
    };
    let mut session = pick.session();
    for wrong in [4, -5, i64::MAX, i64::MIN] {
        let failed = pick.run(
            session.as_mut(),
            vec![("index", integers(&[2], &[0, wrong]))],
        );
        let kinds = [ErrorKind::RuntimeError, ErrorKind::InvalidArgument];
        let error = suite.failed(&format!("index {wrong} of 4"), failed, &kinds);
        if error.to_string().contains("panicked") {
            session = pick.session();
        }
        let outputs = pick.run(
            session.as_mut(),
            vec![("index", integers(&[3], &[3, 0, 1]))],
        );
        let outputs = suite.done("the next call", outputs);
        suite.equal(
            "the next call",
            read_floats(&outputs[0]),
            vec![40.0, 10.0, 20.0],
        );
    }
}

fn engine_panic(suite: &Suite<'_>) {
    let result: crate::Result<()> = run_engine(suite.backend.name(), || {
        panic!("a panic of the suite's own")
    });
    let error = suite.failed("a panic", result, &[ErrorKind::RuntimeError]);
    let expected = format!(
        "{} panicked: a panic of the suite's own",
        suite.backend.name()
    );
    suite.equal("the message", error.to_string(), expected);
}

fn broken_bytes(suite: &Suite<'_>) {
    let (valid, request) = suite.bytes(TestModel::Several);
    let of = |bytes: Vec<u8>| {
        let mut parts = match &request.source {
            Source::Memory(parts) => parts.clone(),
            Source::Files(_) => vec![Bytes::new()],
        };
        parts[0] = bytes.into();
        LoadRequest {
            source: Source::Memory(parts),
            ..request.clone()
        }
    };
    let kinds = [ErrorKind::InvalidEncoding, ErrorKind::UnsupportedOperation];
    for (what, bytes) in [
        ("nothing", vec![]),
        ("text", b"<html>not found</html>".to_vec()),
        ("zeros", vec![0; 4096]),
    ] {
        suite.failed(what, suite.try_load(&of(bytes)), &kinds);
    }
    let mut random = Random(1);
    for round in 0..64 {
        let bytes = (0..random.below(2000))
            .map(|_| random.below(256) as u8)
            .collect();
        suite.failed(
            &format!("random bytes, round {round}"),
            suite.try_load(&of(bytes)),
            &kinds,
        );
    }
    // What is cut or changed may by chance still be a model; it must not bring anything down.
    for length in 0..valid.len() {
        let loaded = suite.try_load(&of(valid[..length].to_vec()));
        loaded.map_or_else(
            |error| drop(suite.failed::<()>(&format!("cut to {length} bytes"), Err(error), &kinds)),
            drop,
        );
    }
    for at in 0..valid.len() {
        for flip in [0x01, 0x10, 0x80, 0xff] {
            let mut bytes = valid.to_vec();
            bytes[at] ^= flip;
            let loaded = suite.try_load(&of(bytes));
            let what = format!("byte {at} flipped by {flip:#x}");
            loaded.map_or_else(
                |error| drop(suite.failed::<()>(&what, Err(error), &kinds)),
                drop,
            );
        }
    }
}

fn not_there(suite: &Suite<'_>) {
    let request = suite.request(TestModel::Relu);
    let folder = Folder::new("not-there");
    let missing = LoadRequest {
        source: Source::Files(vec![folder.0.join("missing.model")]),
        ..request.clone()
    };
    let error = suite.failed(
        "a missing file",
        suite.try_load(&missing),
        &[ErrorKind::NotFound],
    );
    suite.check(error.to_string().contains("missing.model"), || {
        format!("expected the file's name, got: {error}")
    });

    let probe = suite.done("the probe", suite.backend.probe());
    let has = |device: Device| probe.devices.iter().any(|info| info.device == device);
    let kinds = [ErrorKind::UnsupportedOperation, ErrorKind::NotFound];
    for device in [Device::Gpu(0), Device::Gpu(99), Device::Npu]
        .into_iter()
        .filter(|device| !has(*device))
    {
        let error = suite.failed(
            "a device",
            suite.try_load(&LoadRequest {
                device,
                options: LoadOptions::default(),
                ..request.clone()
            }),
            &kinds,
        );
        let named = error.report().contains(&device.to_string());
        suite.check(named, || {
            format!(
                "expected `{device}` in the message, got: {}",
                error.report()
            )
        });
    }

    let encodings = suite.backend.encodings();
    for encoding in [Encoding::Ggml, Encoding::OpenVino]
        .into_iter()
        .filter(|e| !encodings.contains(e))
    {
        let error = suite.failed(
            "an encoding",
            suite.try_load(&LoadRequest {
                encoding,
                ..request.clone()
            }),
            &[ErrorKind::InvalidEncoding],
        );
        let named = error.report().contains(encoding.name());
        suite.check(named, || {
            format!(
                "expected `{encoding}` in the message, got: {}",
                error.report()
            )
        });
    }
    let no_parts = LoadRequest {
        source: Source::Memory(vec![]),
        ..request
    };
    suite.failed(
        "a model of no parts",
        suite.try_load(&no_parts),
        &[ErrorKind::InvalidArgument],
    );
}

fn refused_models(suite: &Suite<'_>) {
    let error = suite.failed(
        "an unknown operator",
        suite.try_load(&suite.request(TestModel::UnknownOperator)),
        &[ErrorKind::UnsupportedOperation],
    );
    let named = error.report().contains("Frobnicate");
    suite.check(named, || {
        format!(
            "expected `Frobnicate` in the message, got: {}",
            error.report()
        )
    });

    let (bytes, request) = suite.bytes(TestModel::OutsideFile);
    let folder = Folder::new("outside");
    let path: PathBuf = folder.0.join("model");
    std::fs::write(&path, &bytes).expect("a temporary file can be written");
    for source in [Source::Memory(vec![bytes]), Source::Files(vec![path])] {
        let loaded = suite.try_load(&LoadRequest {
            source,
            ..request.clone()
        });
        suite.failed(
            "a file outside the model's folder",
            loaded,
            &[ErrorKind::Security],
        );
    }
}

/// Numbers that look random and are the same each time (Knuth's MMIX generator).
struct Random(u64);

impl Random {
    fn below(&mut self, end: u64) -> u64 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % end
    }
}
