//! What ONNX Runtime 1.32 is known to answer wrongly, as a table: operators, what about them, and a test.
//!
//! Found by running the ONNX backend test data and a sweep of operators, attributes and opsets on the other engines. A
//! rule is as narrow as what is known allows; `tests/rules.rs` has a model for each. Before a new version of ONNX
//! Runtime, try every rule anew.

use infer_onnx::Rule;

/// Every rule.
pub(crate) const RULES: &[Rule] = &[
    Rule {
        operators: &["Attention"],
        what: "the scores that it gives out have the lowest number where `is_causal` leaves an element out, not -inf",
        applies: |f| f.int("is_causal", 0) != 0 && f.has_output(3),
    },
    Rule {
        operators: &["AveragePool", "LpPool", "MaxPool"],
        what: "`auto_pad` together with `dilations` gives another size",
        applies: |f| {
            let dilated = f.ints("dilations").iter().any(|dilation| *dilation > 1);
            f.text("auto_pad").starts_with(b"SAME") && dilated
        },
    },
    Rule {
        operators: &["MaxUnpool"],
        what: "it takes indices for those of an output without `output_shape`",
        applies: |f| f.has_input(2),
    },
    Rule {
        operators: &["Resize"],
        what: "`align_corners` with scales that are not known to be whole numbers",
        applies: |f| {
            let aligned = f.text("coordinate_transformation_mode") == b"align_corners";
            aligned && f.has_input(2) && !f.whole_scales(2)
        },
    },
];
