//! What OpenVINO 2026.4.1 is known to answer wrongly, as a table: operators, what about them, and a test.
//!
//! Found by running the ONNX backend test data and a sweep of operators, attributes and opsets against
//! ONNX Runtime. A rule is as narrow as what is known allows; the test `rules` has a model for each. Before
//! a new version of OpenVINO, try every rule anew.

use infer_onnx::{Facts, Node, Rule, Tensor};

/// How deep graphs may lie inside of nodes; each level takes the engine twice as long to read.
const DEEPEST: usize = 8;

/// The rules.
pub(crate) const RULES: &[Rule] = &[
    Rule {
        operators: &["Attention"],
        what: "`is_causal` together with a past",
        applies: |f| f.int("is_causal", 0) != 0 && f.has_input(4),
    },
    Rule {
        operators: &["AveragePool"],
        what: "beside padding `count_include_pad` counts what `ceil_mode` adds at the end",
        applies: |f| {
            let counts = f.int("ceil_mode", 0) != 0 && f.int("count_include_pad", 0) != 0;
            let skips = f.ints("strides").iter().any(|stride| *stride > 1);
            counts && skips && f.ints("pads").iter().any(|pad| *pad != 0)
        },
    },
    Rule {
        operators: &["ConvTranspose"],
        what: "it ignores `auto_pad` where a dimension is dynamic",
        applies: |f| f.text("auto_pad").starts_with(b"SAME") && !f.has_known_shape(0),
    },
    Rule {
        operators: &["DFT"],
        what: "`onesided` gives another shape, an axis may be ignored, and sums are inexact",
        applies: |_| true,
    },
    Rule {
        operators: &["Div"],
        what: "a constant divisor of 0 gives no infinity",
        applies: |f| f.constant(1).is_some_and(has_zero),
    },
    Rule {
        operators: &["DynamicQuantizeLinear"],
        what: "it rounds to another side where a quotient is close to a half",
        applies: |_| true,
    },
    Rule {
        operators: &["Expand"],
        what: "a size of 0 leaves the dimension as it was",
        applies: |f| f.integers(1).is_some_and(|sizes| sizes.contains(&0)),
    },
    Rule {
        operators: &["GRU", "LSTM", "RNN"],
        what: "`layout` 1",
        applies: |f| f.int("layout", 0) != 0,
    },
    Rule {
        operators: &["If"],
        what: "graphs that nest deeper than 8 levels take it too long to read",
        applies: |f| levels(f.node) > DEEPEST,
    },
    Rule {
        operators: &["LSTM"],
        what: "it ignores peepholes",
        applies: |f| f.has_input(7),
    },
    Rule {
        operators: &["LSTM"],
        what: "it ignores `input_forget`",
        applies: |f| f.int("input_forget", 0) != 0,
    },
    Rule {
        operators: &["MaxPool"],
        what: "`ceil_mode` where a window may start in the padding at the end",
        applies: |f| window_past_the_end(f),
    },
    Rule {
        operators: &["MaxPool"],
        what: "it ignores `storage_order`",
        applies: |f| f.has_output(1) && f.int("storage_order", 0) != 0,
    },
    Rule {
        operators: &["NonMaxSuppression"],
        what: "it suppresses a box whose overlap is exactly the threshold",
        applies: |_| true,
    },
    Rule {
        operators: &["QuantizeLinear"],
        what: "numbers of 16 bits, which it rounds after the zero point was added",
        applies: |f| {
            let sixteen_bits = |dtype| matches!(dtype, 4 | 5);
            f.element_type(2)
                .is_some_and(|dtype| sixteen_bits(i64::from(dtype)))
                || sixteen_bits(f.int("output_dtype", 0))
        },
    },
    Rule {
        operators: &["ReduceL1", "ReduceL2", "ReduceLogSum"],
        what: "`noop_with_empty_axes` leaves the input as it was",
        applies: |f| {
            let axes = f.integers(1);
            let none = !f.has_input(1) || axes.is_some_and(|axes| axes.is_empty());
            f.int("noop_with_empty_axes", 0) != 0 && none
        },
    },
    Rule {
        operators: &["ReduceL1", "ReduceLogSum", "ReduceLogSumExp"],
        what: "it ignores the attribute `axes` of opset 13 to 17",
        applies: |f| (13..18).contains(&f.scope.opset) && !f.ints("axes").is_empty(),
    },
    Rule {
        operators: &["Resize"],
        what: "`exclude_outside`",
        applies: |f| f.int("exclude_outside", 0) != 0,
    },
    Rule {
        operators: &["Resize"],
        what: "`antialias`",
        applies: |f| f.int("antialias", 0) != 0,
    },
    Rule {
        operators: &["Resize"],
        what: "`keep_aspect_ratio_policy` other than `stretch`",
        applies: |f| !matches!(f.text("keep_aspect_ratio_policy"), b"" | b"stretch"),
    },
    Rule {
        operators: &["Resize"],
        what: "`align_corners` with scales that are not known to be whole numbers",
        applies: |f| {
            let aligned = f.text("coordinate_transformation_mode") == b"align_corners";
            aligned && f.has_input(2) && !f.whole_scales(2)
        },
    },
    Rule {
        operators: &["RoiAlign"],
        what: "mode `max`",
        applies: |f| f.text("mode") == b"max",
    },
    Rule {
        operators: &["Softmax"],
        what: "of opset 11 and 12, of `axis` alone and not of all axes from there on",
        applies: |f| matches!(f.scope.opset, 11 | 12) && is_last(f) == Some(false),
    },
    Rule {
        operators: &["Tile"],
        what: "repeats that are not constant, of 4 axes and more, leave the output as it was",
        applies: |f| f.constant(1).is_none() && f.length(1).is_none_or(|length| length > 3),
    },
    Rule {
        operators: &["TopK"],
        what: "the indices of equal values are in any order",
        applies: |f| f.has_output(1),
    },
];

/// Whether an element of f32 is 0, of either sign.
fn has_zero(tensor: &Tensor) -> bool {
    const FLOAT: i32 = 1;
    let (raw, _) = tensor.raw.as_chunks();
    let raw = raw.iter().map(|number| f32::from_le_bytes(*number));
    tensor.dtype == FLOAT
        && tensor
            .floats
            .iter()
            .copied()
            .chain(raw)
            .any(|number| number == 0.0)
}

/// How deep graphs lie inside of a node.
fn levels(node: &Node) -> usize {
    let inner = node.attributes.iter();
    let inner = inner.flat_map(|attribute| attribute.graph.iter().chain(&attribute.graphs));
    let deepest = inner.map(|graph| 1 + graph.nodes.iter().map(levels).max().unwrap_or(0));
    deepest.max().unwrap_or(0)
}

/// Whether nothing but dimensions of 1 comes after `axis`; `None` where that is not known.
fn is_last(facts: &Facts<'_>) -> Option<bool> {
    let axis = facts.int("axis", 1);
    if axis == -1 {
        return Some(true);
    }
    let mut values = facts.node.inputs.iter().chain(&facts.node.outputs);
    let dimensions = values.find_map(|name| facts.dimensions(name))?;
    let rank = i64::try_from(dimensions.len()).ok()?;
    let axis = usize::try_from(if axis < 0 { axis + rank } else { axis }).ok()?;
    let after = dimensions.get(axis + 1..)?;
    Some(after.iter().all(|size| *size == Some(1)))
}

/// Whether the stride and the padding at the end reach beyond the window on some axis.
fn window_past_the_end(facts: &Facts<'_>) -> bool {
    if facts.int("ceil_mode", 0) == 0 {
        return false;
    }
    let kernel = facts.ints("kernel_shape");
    let (strides, pads) = (facts.ints("strides"), facts.ints("pads"));
    let dilations = facts.ints("dilations");
    (0..kernel.len()).any(|axis| {
        let at = |list: &[i64], axis: usize, default| list.get(axis).copied().unwrap_or(default);
        let window = kernel[axis]
            .saturating_sub(1)
            .saturating_mul(at(dilations, axis, 1))
            .saturating_add(1);
        let pad = at(pads, axis + kernel.len(), 0);
        at(strides, axis, 1).saturating_add(pad) > window
    })
}
