//! What OpenVINO 2026.4.1 is known to answer wrongly, as a table: operators, what about them, and a test.
//!
//! Found by running the ONNX backend test data. A rule is as narrow as what is known allows; the test
//! `rules` has a model for each. Before a new version of OpenVINO, try every rule anew.

use crate::onnx::{Attribute, Node, Scope, Tensor};

/// Something that the engine gets wrong.
pub(crate) struct Rule {
    /// The operators that it is about.
    pub(crate) operators: &'static [&'static str],
    /// What about them, as it continues a message.
    pub(crate) what: &'static str,
    /// Whether a node is such a case.
    pub(crate) applies: fn(&Facts<'_>) -> bool,
}

/// A node, and what is known of it from the file.
#[derive(Clone, Copy)]
pub(crate) struct Facts<'a> {
    pub(crate) node: &'a Node,
    pub(crate) scope: Scope<'a>,
}

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
        applies: |f| f.window_past_the_end(),
    },
    Rule {
        operators: &["NonMaxSuppression"],
        what: "it suppresses a box whose overlap is exactly the threshold",
        applies: |_| true,
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

impl<'a> Facts<'a> {
    fn attribute(&self, name: &str) -> Option<&'a Attribute> {
        self.node.attributes.iter().find(|a| a.name == name)
    }

    fn int(&self, name: &str, default: i64) -> i64 {
        self.attribute(name).map_or(default, |a| a.int)
    }

    fn ints(&self, name: &str) -> &'a [i64] {
        self.attribute(name).map_or(&[], |a| &a.ints)
    }

    fn text(&self, name: &str) -> &'a [u8] {
        self.attribute(name).map_or(&[], |a| &a.text)
    }

    fn has_input(&self, place: usize) -> bool {
        self.node.inputs.get(place).is_some_and(|n| !n.is_empty())
    }

    fn has_output(&self, place: usize) -> bool {
        self.node.outputs.get(place).is_some_and(|n| !n.is_empty())
    }

    /// An input that is a constant of the same graph.
    fn constant(&self, place: usize) -> Option<&'a Tensor> {
        let name = self.node.inputs.get(place)?;
        let graph = self.scope.graph;
        // A caller may give another value for an initialiser that is an input too.
        let given = graph.is_some_and(|graph| graph.inputs.iter().any(|i| i.name == *name));
        let initialisers = graph.map_or(&[][..], |graph| &graph.initializers);
        let initialiser = initialisers.iter().find(|t| t.name == *name && !given);
        initialiser.or_else(|| {
            let makes = |node: &&Node| node.operator == "Constant" && node.outputs.contains(name);
            let node = self.scope.nodes.iter().find(makes)?;
            node.attributes.iter().find_map(|a| a.tensor.as_ref())
        })
    }

    /// The declared number of elements of an input of one axis.
    fn length(&self, place: usize) -> Option<usize> {
        let (graph, name) = (self.scope.graph?, self.node.inputs.get(place)?);
        let mut declared = graph.inputs.iter().chain(&graph.values);
        let dimensions = declared.find(|value| value.name == *name)?.dimensions()?;
        match dimensions.as_slice() {
            [length] => *length,
            _ => None,
        }
    }

    fn whole_scales(&self, place: usize) -> bool {
        let Some(tensor) = self.constant(place) else {
            return false;
        };
        let (raw, _) = tensor.raw.as_chunks();
        let raw = raw.iter().map(|number| f32::from_le_bytes(*number));
        let scales: Vec<f32> = tensor.floats.iter().copied().chain(raw).collect();
        !scales.is_empty() && scales.iter().all(|s| *s >= 1.0 && s.fract() == 0.0)
    }

    /// Whether the stride and the padding at the end reach beyond the window on some axis.
    fn window_past_the_end(&self) -> bool {
        if self.int("ceil_mode", 0) == 0 {
            return false;
        }
        let kernel = self.ints("kernel_shape");
        let (strides, pads) = (self.ints("strides"), self.ints("pads"));
        let dilations = self.ints("dilations");
        (0..kernel.len()).any(|axis| {
            let at =
                |list: &[i64], axis: usize, default| list.get(axis).copied().unwrap_or(default);
            let window = kernel[axis]
                .saturating_sub(1)
                .saturating_mul(at(dilations, axis, 1))
                .saturating_add(1);
            let pad = at(pads, axis + kernel.len(), 0);
            at(strides, axis, 1).saturating_add(pad) > window
        })
    }
}
