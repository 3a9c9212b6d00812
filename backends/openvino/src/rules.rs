//! What OpenVINO 2026.4.1 is known to answer wrongly, as a table: operators, what about them, and a test.
//!
//! Found by running the ONNX backend test data. A rule is as narrow as what is known allows; the test
//! `rules` has a model for each. Before a new version of OpenVINO, try every rule anew.

use infer_onnx::{Facts, Rule, Tensor};

/// The rules.
pub(crate) const RULES: &[Rule] = &[
    Rule {
        operators: &["Attention"],
        what: "`is_causal` together with a past",
        applies: |f| f.int("is_causal", 0) != 0 && f.has_input(4),
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
        operators: &["GRU", "LSTM", "RNN"],
        what: "`layout` 1",
        applies: |f| f.int("layout", 0) != 0,
    },
    Rule {
        operators: &["LSTM"],
        what: "it ignores peepholes",
        applies: |f| f.has_input(7),
    },
    Rule {
        operators: &["MaxPool"],
        what: "`ceil_mode` where a window may start in the padding at the end",
        applies: |f| window_past_the_end(f),
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
