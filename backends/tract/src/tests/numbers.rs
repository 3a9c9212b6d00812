//! Sums, powers and exponentials that tract lets overflow, or computes in a narrower dtype: a model of each, and
//! what it has to give.

use tract_onnx::pb::tensor_proto::DataType;

use super::Repaired;
use super::model::{Model, int, ints, unary};
use super::values::{bytes, integers, narrow_integers, tensor};

pub(super) fn repaired() -> Vec<Repaired> {
    let large = (1i64 << 40) + 7;
    vec![
        (
            "a sum of int64",
            Model::new(13)
                .input("x", DataType::Int64, &[4])
                .node("ReduceSum", &["x"], &["y"], &[]),
            vec![integers(&[large, large, -1, 2])],
            vec![(2 * large + 1) as f64],
        ),
        (
            "a sum of constants of int64",
            Model::new(13)
                .input("x", DataType::Int64, &[1])
                .integers("large", &[large, large])
                .node("ReduceSum", &["large"], &["sum"], &[])
                .node("Add", &["x", "sum"], &["y"], &[]),
            vec![integers(&[1])],
            vec![(2 * large + 1) as f64],
        ),
        (
            "a mean of int64",
            Model::new(13).input("x", DataType::Int64, &[2]).node(
                "ReduceMean",
                &["x"],
                &["y"],
                &[],
            ),
            vec![integers(&[large, large + 2])],
            vec![(large + 1) as f64],
        ),
        (
            "a mean of int32, whose sum is too large for it",
            Model::new(13).input("x", DataType::Int32, &[2]).node(
                "ReduceMean",
                &["x"],
                &["y"],
                &[],
            ),
            vec![narrow_integers(&[i32::MAX, i32::MAX - 2])],
            vec![f64::from(i32::MAX - 1)],
        ),
        (
            "a sum of absolute numbers of int64",
            Model::new(13)
                .input("x", DataType::Int64, &[2])
                .node("ReduceL1", &["x"], &["y"], &[]),
            vec![integers(&[-large, large])],
            vec![(2 * large) as f64],
        ),
        (
            "squares of int64",
            Model::new(13)
                .input("x", DataType::Int64, &[1])
                .node("Mul", &["x", "x"], &["y"], &[]),
            vec![integers(&[3_000_000_001])],
            vec![9_000_000_006_000_000_001i64 as f64],
        ),
        (
            "squares of int32 that start afresh",
            Model::new(13)
                .input("x", DataType::Int32, &[1])
                .node("Mul", &["x", "x"], &["y"], &[]),
            vec![narrow_integers(&[100_000])],
            vec![1_410_065_408.0],
        ),
        (
            "squares of int8 that start afresh",
            Model::new(14)
                .input("x", DataType::Int8, &[2])
                .node("Identity", &["x"], &["same"], &[])
                .node("Mul", &["x", "same"], &["y"], &[]),
            vec![bytes(&[100, -3])],
            vec![16.0, 9.0],
        ),
        (
            "second powers of int64",
            Model::new(13)
                .input("x", DataType::Int64, &[1])
                .integers("two", &[2])
                .node("Pow", &["x", "two"], &["y"], &[]),
            vec![integers(&[-3_000_000_001])],
            vec![9_000_000_006_000_000_001i64 as f64],
        ),
        (
            "negative powers of int64",
            Model::new(13)
                .input("x", DataType::Int64, &[4])
                .input("power", DataType::Int64, &[4])
                .node("Pow", &["x", "power"], &["y"], &[]),
            vec![integers(&[3, 1, -1, -2]), integers(&[-1, -1, -3, 3])],
            vec![0.0, 1.0, -1.0, -8.0],
        ),
        (
            "negative powers of constants of int64",
            Model::new(13)
                .input("x", DataType::Int64, &[1])
                .integers("three", &[3])
                .integers("power", &[-2])
                .node("Pow", &["three", "power"], &["zero"], &[])
                .node("Add", &["x", "zero"], &["y"], &[]),
            vec![integers(&[5])],
            vec![5.0],
        ),
        (
            "a power of int32, of another shape",
            Model::new(13)
                .input("x", DataType::Int32, &[1])
                .input("power", DataType::Int32, &[3])
                .node("Pow", &["x", "power"], &["y"], &[]),
            vec![narrow_integers(&[-3]), narrow_integers(&[0, 3, -1])],
            vec![1.0, -27.0, 0.0],
        ),
        (
            "the softplus of large numbers",
            unary(13, "Softplus", &[]),
            vec![tensor(&[1, 1, 2, 2], &[100.0, -100.0, 0.0, 30.0])],
            vec![100.0, 0.0, 2f64.ln(), 30.0],
        ),
        (
            "the logarithm of exponentials of large numbers",
            Model::new(13).x(&[2, 3]).node(
                "ReduceLogSumExp",
                &["x"],
                &["y"],
                &[ints("axes", &[1]), int("keepdims", 0)],
            ),
            vec![tensor(
                &[2, 3],
                &[200.0, 200.0, -9.0, -3000.0, -3000.0, -4000.0],
            )],
            vec![200.0 + 2f64.ln(), -3000.0 + 2f64.ln()],
        ),
        (
            "the logarithm of exponentials of infinities",
            Model::new(18).x(&[2, 2]).integers("last", &[-1]).node(
                "ReduceLogSumExp",
                &["x", "last"],
                &["y"],
                &[],
            ),
            vec![tensor(
                &[2, 2],
                &[f32::INFINITY, 1.0, f32::NEG_INFINITY, f32::NEG_INFINITY],
            )],
            vec![f64::INFINITY, f64::NEG_INFINITY],
        ),
        (
            "the maximum of nothing",
            Model::new(13)
                .x(&[1, 2])
                .floats("none", &[0, 2], &[])
                .node("ReduceMax", &["none"], &["max"], &[ints("axes", &[0])])
                .node("Add", &["x", "max"], &["y"], &[]),
            vec![tensor(&[1, 2], &[0.0, 1.0])],
            vec![f64::NEG_INFINITY; 2],
        ),
        (
            "the maximum of nothing but minus infinity",
            Model::new(13)
                .x(&[2, 2])
                .node("ReduceMax", &["x"], &["y"], &[ints("axes", &[0])]),
            vec![tensor(
                &[2, 2],
                &[f32::NEG_INFINITY, 1.0, f32::NEG_INFINITY, f32::MIN],
            )],
            vec![f64::NEG_INFINITY, 1.0],
        ),
        (
            "the minimum of nothing but infinity",
            Model::new(13)
                .x(&[3])
                .node("ReduceMin", &["x"], &["y"], &[]),
            vec![tensor(&[3], &[f32::INFINITY; 3])],
            vec![f64::INFINITY],
        ),
        (
            "something divided by the smallest numbers",
            Model::new(13).x(&[2]).floats("by", &[], &[1e-39]).node(
                "Div",
                &["x", "by"],
                &["y"],
                &[],
            ),
            vec![tensor(&[2], &[1e-39, 0.0])],
            vec![1.0, 0.0],
        ),
    ]
}
