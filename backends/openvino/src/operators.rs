//! What ONNX's operators do with whole numbers: of which element type their outputs are, which inputs are
//! only places or sizes, and which compute.

use infer_onnx::Node;

/// ONNX's numbers of element types.
pub(crate) const UNKNOWN: i32 = 0;
const FLOAT: i32 = 1;
const UINT8: i32 = 2;
const INT8: i32 = 3;
const UINT16: i32 = 4;
const INT16: i32 = 5;
pub(crate) const INT32: i32 = 6;
pub(crate) const INT64: i32 = 7;
pub(crate) const BOOL: i32 = 9;
pub(crate) const UINT32: i32 = 12;
pub(crate) const UINT64: i32 = 13;

/// Whether whole numbers are of 8 or 16 bits.
pub(crate) fn is_narrow(dtype: i32) -> bool {
    matches!(dtype, UINT8 | INT8 | UINT16 | INT16)
}

/// Whether whole numbers may need more than the 32 bits of an i32.
pub(crate) fn is_wide(dtype: i32) -> bool {
    matches!(dtype, INT64 | UINT32 | UINT64)
}

/// Whether these are whole numbers.
pub(crate) fn is_whole(dtype: i32) -> bool {
    is_narrow(dtype) || is_wide(dtype) || dtype == INT32
}

/// Whether a number below 0 becomes a large one by this cast.
pub(crate) fn loses_sign(from: i32, to: i32) -> bool {
    matches!(from, INT8 | INT16 | INT32 | INT64) && matches!(to, UINT32 | UINT64)
}

/// Whether an operator may make larger numbers than it is given.
pub(crate) fn grows(node: &Node) -> bool {
    const GROW: &[&str] = &[
        "Abs",
        "Add",
        "BitShift",
        "BitwiseNot",
        "CumProd",
        "CumSum",
        "Einsum",
        "Gemm",
        "MatMul",
        "Mean",
        "Mul",
        "Neg",
        "Pow",
        "ReduceL1",
        "ReduceL2",
        "ReduceLogSum",
        "ReduceLogSumExp",
        "ReduceMean",
        "ReduceProd",
        "ReduceSum",
        "ReduceSumSquare",
        "Sub",
        "Sum",
    ];
    let right = |a: &infer_onnx::Attribute| a.name == "direction" && a.text == "RIGHT";
    GROW.contains(&node.operator.as_str()) && !node.attributes.iter().any(right)
}

/// Whether an operator goes wrong where its result passes 8 or 16 bits, as it may with this element type.
pub(crate) fn wraps(node: &Node, dtype: i32) -> bool {
    let signed = matches!(dtype, INT8 | INT16);
    is_narrow(dtype)
        && match node.operator.as_str() {
            "Abs" | "Div" => signed,
            "BitwiseNot" => false,
            _ => grows(node),
        }
}

/// Whether an operator computes whole numbers in f32, which has 24 bits of them.
pub(crate) fn rounds(operator: &str) -> bool {
    matches!(
        operator,
        "Div" | "Einsum" | "Gemm" | "MatMul" | "Mod" | "Pow" | "Relu"
    ) || operator.starts_with("Reduce")
}

/// Whether an operator compares numbers, whole ones in f32: wrong where two of them are beyond its 24 bits, for one
/// that is not rounded is told from any other.
pub(crate) fn compares(operator: &str) -> bool {
    matches!(
        operator,
        "Equal" | "Greater" | "GreaterOrEqual" | "Less" | "LessOrEqual"
    )
}

/// Whether an operator of a constant is a constant with the same numbers.
pub(crate) fn moves(operator: &str) -> bool {
    matches!(
        operator,
        "Cast" | "Expand" | "Identity" | "Reshape" | "Squeeze" | "Unsqueeze"
    )
}

/// The operator that together with this one, each with a constant, is made a clip, which keeps its bounds in f32.
pub(crate) fn clips_with(operator: &str) -> Option<&'static str> {
    match operator {
        "Max" => Some("Min"),
        "Min" => Some("Max"),
        _ => None,
    }
}

/// Whether an input says only where, how many or of which type, so that a number beyond 32 bits means
/// nothing there.
pub(crate) fn is_index(operator: &str, place: usize) -> bool {
    match operator {
        "ConstantOfShape" | "EyeLike" | "If" | "Loop" | "Shape" | "Size" | "Where" => place == 0,
        "CastLike" | "Col2Im" | "Dropout" | "MaxUnpool" | "NonMaxSuppression" | "OneHot"
        | "Pad" | "Resize" | "Slice" => match operator {
            "OneHot" => place < 2,
            "Pad" => place == 1 || place == 3,
            _ => place > 0,
        },
        "AffineGrid"
        | "CenterCropPad"
        | "Compress"
        | "CumProd"
        | "CumSum"
        | "Expand"
        | "Gather"
        | "GatherBlockQuantized"
        | "GatherElements"
        | "GatherND"
        | "Range"
        | "Reshape"
        | "ReverseSequence"
        | "Scatter"
        | "ScatterElements"
        | "ScatterND"
        | "SequenceAt"
        | "SequenceErase"
        | "Split"
        | "SplitToSequence"
        | "Squeeze"
        | "Tile"
        | "TopK"
        | "Trilu"
        | "Unsqueeze"
        | "Upsample" => place == 1,
        "RoiAlign" | "SequenceInsert" => place == 2,
        "RotaryEmbedding" => place == 3,
        "GRU" | "LSTM" | "RNN" => place == 4,
        _ => operator.starts_with("Reduce") && place == 1,
    }
}

/// What an operator's output is made of, where it is neither numbers of its inputs nor computed from them:
/// bools, or places and counts, which fit.
pub(crate) fn is_own(operator: &str, output: usize) -> Option<i32> {
    match (operator, output) {
        (
            "ArgMax" | "ArgMin" | "NonMaxSuppression" | "NonZero" | "SequenceLength" | "Shape"
            | "Size",
            _,
        )
        | ("MaxPool" | "TopK", 1)
        | ("Unique", 1..) => Some(INT64),
        (
            "And" | "Equal" | "Greater" | "GreaterOrEqual" | "IsInf" | "IsNaN" | "Less"
            | "LessOrEqual" | "Not" | "OptionalHasElement" | "Or" | "SequenceEmpty" | "Xor",
            _,
        )
        | ("Dropout", 1) => Some(BOOL),
        _ => None,
    }
}

/// The element type of an output, from those of the inputs.
pub(crate) fn element_type(node: &Node, inputs: &[i32]) -> i32 {
    let at = |place: usize| inputs.get(place).copied().unwrap_or(UNKNOWN);
    let first = || {
        let operator = node.operator.as_str();
        let data = (0..inputs.len()).filter(|place| !is_index(operator, *place));
        data.map(at)
            .find(|dtype| *dtype != UNKNOWN)
            .unwrap_or(UNKNOWN)
    };
    match node.operator.as_str() {
        "BitCast" | "Cast" => set(node, "to").unwrap_or(UNKNOWN),
        "Constant" => constant_type(node),
        "ConstantOfShape" => match constant_type(node) {
            UNKNOWN => FLOAT,
            dtype => dtype,
        },
        "RandomNormal" | "RandomUniform" => set(node, "dtype").unwrap_or(FLOAT),
        "Multinomial" => set(node, "dtype").unwrap_or(INT32),
        "Bernoulli" | "EyeLike" | "RandomNormalLike" | "RandomUniformLike" => {
            set(node, "dtype").unwrap_or_else(|| at(0))
        }
        "ConvInteger" | "MatMulInteger" => INT32,
        "QuantizeLinear" => match (at(2), set(node, "output_dtype")) {
            (UNKNOWN, dtype) => dtype.unwrap_or(UINT8),
            (dtype, _) => dtype,
        },
        "CastLike" | "DequantizeLinear" | "Where" => at(1),
        "OneHot" => at(2),
        "QLinearConv" | "QLinearMatMul" => at(7),
        _ => first(),
    }
}

/// An attribute that names an element type; 0 says that it is left to the default.
fn set(node: &Node, name: &str) -> Option<i32> {
    let attribute = node.attributes.iter().find(|a| a.name == name)?;
    i32::try_from(attribute.int)
        .ok()
        .filter(|dtype| *dtype != UNKNOWN)
}

fn constant_type(node: &Node) -> i32 {
    let of = |attribute: &infer_onnx::Attribute| match attribute.name.as_str() {
        "value" => attribute.tensor.as_ref().map(|tensor| tensor.dtype),
        "value_int" | "value_ints" => Some(INT64),
        "value_float" | "value_floats" => Some(FLOAT),
        _ => None,
    };
    node.attributes.iter().find_map(of).unwrap_or(UNKNOWN)
}
