//! Cases of inputs and outputs: what fits a model and what does not.
//!
//! Models: `identity-*` (`x` [?] -> `y`), `add` (`a`, `b` f32 [2, 3] -> `sum`), `several` (`x` f32 [4] ->
//! `double`, `half`, `count`), `scalar` (f32 [] -> f32 [], twice as much).

use crate::case::{Case, Expected, Failure, Outcome, expect, f32s, input, run_once};
use infer_guest::{DType, Model, Tensor};

/// The cases of this module.
pub(crate) const CASES: &[Case] = &[
    Case::new("right", Expected::Ok, "a right inference", |_| right()),
    Case::new(
        "duplicate-input",
        DUPLICATE,
        "gives one input twice (preview1: the second counts)",
        |_| {
            let (one, two) = (f32s(&[1.0]), f32s(&[2.0]));
            let twice = [
                input("x", 0, DType::F32, &[1], &one),
                input("x", 0, DType::F32, &[1], &two),
            ];
            expect(
                &run_once("identity-f32", &twice, 1)?[0],
                DType::F32,
                &[1],
                &two,
            )?;
            Ok("the second counts".into())
        },
    ),
    Case::new(
        "unknown-input",
        Expected::Err,
        "gives an input that the model does not have",
        |_| {
            let one = f32s(&[1.0]);
            let both = [
                input("x", 0, DType::F32, &[1], &one),
                input("nope", 7, DType::F32, &[1], &one),
            ];
            wrongly_done(run_once("identity-f32", &both, 1))
        },
    ),
    Case::new(
        "missing-input",
        Expected::Err,
        "gives one input of two",
        |_| {
            wrongly_done(run_once(
                "add",
                &[input("a", 0, DType::F32, &[2, 3], &f32s(&[0.0; 6]))],
                1,
            ))
        },
    ),
    Case::new(
        "compute-without-inputs",
        Expected::Err,
        "gives no input",
        |_| wrongly_done(run_once("identity-f32", &[], 1)),
    ),
    Case::new("wrong-dtype", Expected::Err, "gives i32 for f32", |_| {
        bad(DType::I32, &[1], &[0; 4])
    }),
    Case::new("wrong-rank", Expected::Err, "gives [1, 4] for [?]", |_| {
        bad(DType::F32, &[1, 4], &[0; 16])
    }),
    Case::new(
        "wrong-dimension",
        Expected::Err,
        "gives [3, 2] for [2, 3]",
        |_| {
            let zeros = f32s(&[0.0; 6]);
            let both = [
                input("a", 0, DType::F32, &[3, 2], &zeros),
                input("b", 1, DType::F32, &[2, 3], &zeros),
            ];
            wrongly_done(run_once("add", &both, 1))
        },
    ),
    Case::new(
        "wrong-byte-length",
        Expected::Err,
        "gives 12 bytes for f32 [4]",
        |_| bad(DType::F32, &[4], &[0; 12]),
    ),
    Case::new(
        "overflow-dimensions",
        Expected::Err,
        "gives dimensions whose product no 64 bits hold",
        |_| bad(DType::F32, &[u32::MAX, u32::MAX, u32::MAX], &[0; 4]),
    ),
    Case::new(
        "overflow-dimensions-zero",
        Expected::Err,
        "gives such dimensions times 0, and no bytes",
        |_| bad(DType::F32, &[u32::MAX, u32::MAX, u32::MAX, 0], &[]),
    ),
    Case::new(
        "huge-rank",
        Expected::Err,
        "gives a million dimensions of 1",
        |_| bad(DType::F32, &vec![1; 1_000_000], &[0; 4]),
    ),
    Case::new(
        "rank-0",
        Expected::Ok,
        "runs `scalar` on [], one element",
        |_| {
            let value = f32s(&[2.5]);
            let outputs = run_once("scalar", &[input("x", 0, DType::F32, &[], &value)], 1)?;
            expect(&outputs[0], DType::F32, &[], &f32s(&[5.0]))?;
            Ok("[] [5.0]".into())
        },
    ),
    Case::new(
        "empty-tensor",
        Expected::Ok,
        "runs on [0], no elements",
        |_| {
            let outputs = run_once("identity-f32", &[input("x", 0, DType::F32, &[0], &[])], 1)?;
            expect(&outputs[0], DType::F32, &[0], &[])?;
            Ok("[0] []".into())
        },
    ),
    Case::new(
        "dynamic-dimension",
        Expected::Ok,
        "runs one model on [1], [5] and [1000]",
        |_| {
            for length in [1u32, 5, 1000] {
                let values: Vec<f32> = (0..length).map(|value| value as f32).collect();
                identity("identity-f32", DType::F32, length, &f32s(&values))?;
            }
            Ok("[1] [5] [1000]".into())
        },
    ),
    Case::new(
        "two-inputs-any-order",
        Expected::Ok,
        "gives `add` its inputs in both orders",
        |_| {
            let (a, b) = (
                f32s(&[1.0, 2.0, 3.0, 4.0, 5.0, 6.0]),
                f32s(&[10.0, 20.0, 30.0, 40.0, 50.0, 60.0]),
            );
            let sum = f32s(&[11.0, 22.0, 33.0, 44.0, 55.0, 66.0]);
            let a = input("a", 0, DType::F32, &[2, 3], &a);
            let b = input("b", 1, DType::F32, &[2, 3], &b);
            for order in [[a, b], [b, a]] {
                expect(&run_once("add", &order, 1)?[0], DType::F32, &[2, 3], &sum)?;
            }
            Ok("[2, 3] [11.0, 22.0, 33.0, 44.0, 55.0, 66.0]".into())
        },
    ),
    Case::new(
        "several-outputs",
        Expected::Ok,
        "reads `double`, `half` and `count` by name, last first",
        |_| {
            let mut model = Model::open("several")?;
            let x = Tensor::new(&[4], vec![1.0f32, 2.0, 3.0, 4.0])?;
            let outputs = model.run(&[("x", &x)])?;
            let count = outputs.get("count")?.values::<i64>()?.into_owned();
            let half = outputs.get("half")?.values::<f32>()?.into_owned();
            let double = outputs.get("double")?.values::<f32>()?.into_owned();
            model.close()?;
            let found = format!("double {double:?} half {half:?} count {count:?}");
            let right = "double [2.0, 4.0, 6.0, 8.0] half [0.5, 1.0, 1.5, 2.0] count [4]";
            if found == right {
                Ok(found)
            } else {
                Err(Failure::Wrong(found))
            }
        },
    ),
    Case::new(
        "dtype-fp16",
        Expected::Ok,
        "sends FP16 through `identity-f16`",
        |_| {
            identity(
                "identity-f16",
                DType::F16,
                3,
                &[0x00, 0x3c, 0x00, 0xc0, 0xff, 0x7b],
            )
        },
    ),
    Case::new(
        "dtype-fp32",
        Expected::Ok,
        "sends FP32 through `identity-f32`",
        |_| {
            identity(
                "identity-f32",
                DType::F32,
                3,
                &f32s(&[1.0, f32::MIN_POSITIVE, f32::MAX]),
            )
        },
    ),
    Case::new(
        "dtype-fp64",
        Expected::Ok,
        "sends FP64 through `identity-f64`",
        |_| {
            let values = [1.0f64, f64::MIN_POSITIVE, f64::MAX];
            identity(
                "identity-f64",
                DType::F64,
                3,
                &values.map(f64::to_le_bytes).concat(),
            )
        },
    ),
    Case::new(
        "dtype-bf16",
        Expected::Either,
        "sends BF16 through `identity-bf16` (an engine may lack it)",
        |_| {
            identity(
                "identity-bf16",
                DType::Bf16,
                3,
                &[0x80, 0x3f, 0x00, 0xc0, 0x7f, 0x7f],
            )
        },
    ),
    Case::new(
        "dtype-u8",
        Expected::Ok,
        "sends U8 through `identity-u8`",
        |_| identity("identity-u8", DType::U8, 3, &[0, 127, 255]),
    ),
    Case::new(
        "dtype-i32",
        Expected::Ok,
        "sends I32 through `identity-i32`",
        |_| {
            identity(
                "identity-i32",
                DType::I32,
                3,
                &[0, i32::MIN, i32::MAX].map(i32::to_le_bytes).concat(),
            )
        },
    ),
    Case::new(
        "dtype-i64",
        Expected::Ok,
        "sends I64 through `identity-i64`",
        |_| {
            identity(
                "identity-i64",
                DType::I64,
                3,
                &[0, i64::MIN, i64::MAX].map(i64::to_le_bytes).concat(),
            )
        },
    ),
    Case::new(
        "dtype-bool-refused",
        Expected::Err,
        "sends bytes to `identity-bool`, whose type wasi-nn lacks",
        |_| {
            wrongly_done(run_once(
                "identity-bool",
                &[input("x", 0, DType::U8, &[2], &[0, 1])],
                1,
            ))
        },
    ),
];

/// The component ABI refuses an input that is given twice; in preview1 setting it again replaces it.
const DUPLICATE: Expected = if infer_guest::abi::BY_POSITION {
    Expected::Ok
} else {
    Expected::Err
};

/// A right inference, through the library as a guest uses it.
pub(crate) fn right() -> Outcome {
    let mut model = Model::open("identity-f32")?;
    let x = Tensor::new(&[3], vec![1.0f32, -2.0, 3.5])?;
    let y = model
        .run(&[("x", &x)])?
        .get(0)?
        .values::<f32>()?
        .into_owned();
    model.close()?;
    if y == [1.0, -2.0, 3.5] {
        Ok(format!("{y:?}"))
    } else {
        Err(Failure::Wrong(format!("{y:?}")))
    }
}

/// Sends one wrong tensor to `identity-f32`.
fn bad(dtype: DType, dimensions: &[u32], data: &[u8]) -> Outcome {
    wrongly_done(run_once(
        "identity-f32",
        &[input("x", 0, dtype, dimensions, data)],
        1,
    ))
}

/// What should have been refused: the refusal passes on, an answer is wrong.
fn wrongly_done<T: std::fmt::Debug>(result: infer_guest::Result<T>) -> Outcome {
    Err(Failure::Wrong(format!("{:?}", result?)))
}

/// Sends values of one dimension through a model that gives them back.
fn identity(model: &str, dtype: DType, length: u32, data: &[u8]) -> Outcome {
    expect(
        &run_once(model, &[input("x", 0, dtype, &[length], data)], 1)?[0],
        dtype,
        &[length],
        data,
    )?;
    Ok(format!("{dtype} [{length}] came back as it went"))
}
