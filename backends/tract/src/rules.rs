//! What tract 0.23.9 is known to answer wrongly, as tables: operators, what about them, and a test.
//!
//! Found by running the ONNX backend test data and a sweep of operators, dtypes, attributes and opsets
//! against ONNX Runtime. A rule is as narrow as what is known allows; `tests` has a model
//! for each. Before a new version of tract, try every rule anew.

use std::sync::Arc;

use tract_onnx::model::ParseResult;
use tract_onnx::pb::tensor_proto::DataType;
use tract_onnx::pb::{AttributeProto, NodeProto};
use tract_onnx::prelude::{DatumType, OutletId, Tensor};
use tract_onnx::tract_hir::infer::{Factoid, InferenceFact};
use tract_onnx::tract_hir::internal::DimLike;

/// Something that tract gets wrong.
pub(crate) struct Rule {
    /// The operators that it is about.
    pub(crate) operators: &'static [&'static str],
    /// What about them, as it continues a message.
    pub(crate) what: &'static str,
    /// Whether a node is such a case.
    pub(crate) applies: fn(&Facts<'_>) -> bool,
}

const RECURRENT: &[&str] = &["LSTM", "GRU", "RNN"];

const SIZED: &[&str] = &[
    "ConstantOfShape",
    "Expand",
    "OneHot",
    "Range",
    "Reshape",
    "Resize",
    "Split",
    "Tile",
    "TopK",
];

const BESIDE_DIMENSIONS: &[&str] = &[
    "Add",
    "Sub",
    "Mul",
    "Div",
    "Mod",
    "Pow",
    "Max",
    "Min",
    "Sum",
    "Mean",
    "Equal",
    "Greater",
    "GreaterOrEqual",
    "Less",
    "LessOrEqual",
    "Where",
    "Concat",
];

/// Rules that need the node alone.
pub(crate) const FROM_FILE: &[Rule] = &[
    Rule {
        operators: &["BatchNormalization", "Dropout"],
        what: "it ignores `is_test`, without which a model of an opset before 7 is in training",
        applies: |f| f.opset < 7 && f.int("is_test", 0) == 0,
    },
    Rule {
        operators: &["AveragePool"],
        what: "it counts padding as since opset 7",
        applies: |f| f.opset < 7 && f.ints("pads").iter().any(|&pad| pad != 0),
    },
    Rule {
        operators: &["BatchNormalization"],
        what: "it ignores `training_mode`",
        applies: |f| f.int("training_mode", 0) != 0,
    },
    Rule {
        operators: &["Swish"],
        what: "it ignores `alpha`",
        applies: |f| f.float("alpha", 1.0) != 1.0,
    },
    Rule {
        operators: &["Cast"],
        what: "it writes numbers as text in another form",
        applies: |f| f.int("to", 0) == i64::from(DataType::String as i32),
    },
    Rule {
        operators: &["ConvTranspose"],
        what: "`auto_pad` together with `output_padding`",
        applies: |f| {
            f.text("auto_pad").starts_with("SAME")
                && f.ints("output_padding").iter().any(|&p| p != 0)
        },
    },
    Rule {
        operators: &["Einsum"],
        what: "a sum over every axis, with nothing after the arrow",
        applies: |f| {
            let inputs = f.text("equation").trim_end().strip_suffix("->");
            inputs.is_some_and(|inputs| !inputs.trim().is_empty())
        },
    },
    Rule {
        operators: &["Einsum"],
        what: "an index twice in one term beside other inputs",
        applies: |f| has_diagonal(f.text("equation")),
    },
    Rule {
        operators: &["GlobalLpPool"],
        what: "it divides by the number of elements",
        applies: |_| true,
    },
    Rule {
        operators: &["GridSample"],
        what: "cubic interpolation with padding mode `border`",
        applies: |f| f.text("mode").contains("cubic") && f.text("padding_mode") == "border",
    },
    Rule {
        operators: &["LRN"],
        what: "an even `size`",
        applies: |f| f.int("size", 1) % 2 == 0,
    },
    Rule {
        operators: &["Normalizer"],
        what: "it divides by the largest absolute number, not by the largest number",
        applies: |f| matches!(f.text("norm"), "" | "MAX"),
    },
    Rule {
        operators: &["SkipSimplifiedLayerNormalization"],
        what: "it ignores `bias`",
        applies: |f| f.has_input(3),
    },
    Rule {
        operators: &["NonMaxSuppression"],
        what: "without `max_output_boxes_per_class` it selects boxes, not none",
        applies: |f| !f.has_input(2),
    },
    Rule {
        operators: &["Pad"],
        what: "with a constant value it ignores the mode",
        applies: |f| !matches!(f.text("mode"), "" | "constant") && f.has_input(2),
    },
    Rule {
        operators: &["ParametricSoftplus"],
        what: "the exponentials of large numbers overflow",
        applies: |_| true,
    },
    Rule {
        operators: &["QuantizeLinear"],
        what: "it ignores `output_dtype`",
        applies: |f| !f.has_input(2) && !matches!(f.int("output_dtype", 0), 0 | 2),
    },
    Rule {
        operators: RECURRENT,
        what: "it ignores `direction` `reverse`",
        applies: |f| f.text("direction") == "reverse",
    },
    Rule {
        operators: RECURRENT,
        what: "it ignores `activations`",
        applies: other_activations,
    },
    Rule {
        operators: RECURRENT,
        what: "it ignores `clip`",
        applies: |f| f.has("clip"),
    },
    Rule {
        operators: RECURRENT,
        what: "it ignores `input_forget`",
        applies: |f| f.int("input_forget", 0) != 0,
    },
    Rule {
        operators: &["RandomNormal", "RandomNormalLike"],
        what: "numbers of dtype f16 are distributed uniformly",
        applies: |f| !matches!(f.int("dtype", 1), 1 | 11),
    },
    Rule {
        operators: &["Transpose"],
        what: "a `perm` that is no permutation",
        applies: |f| !permutes(f.ints("perm")),
    },
];

/// Rules that need what tract has found out. Within the graphs of `If` and `Scan` nothing is known.
pub(crate) const FROM_TYPES: &[Rule] = &[
    Rule {
        operators: &[
            "Add", "Sub", "Mul", "Div", "Pow", "And", "Or", "Xor", "Equal", "Greater", "Less",
        ],
        what: "it ignores the attribute `axis`, which aligned the inputs before opset 7",
        applies: |f| f.opset < 7 && f.has("axis") && !aligned_at_the_end(f).unwrap_or(false),
    },
    Rule {
        operators: &["CastLike"],
        what: "it writes numbers as text in another form",
        applies: |f| f.dtype(1) == Some(DatumType::String),
    },
    Rule {
        operators: &["ConvTranspose"],
        what: "`output_shape`, where the padding is an odd number of elements",
        applies: |f| f.has("output_shape") && !even_padding(f).unwrap_or(false),
    },
    Rule {
        operators: &["DFT"],
        what: "an inverse transform of one side of another length than the input's",
        applies: |f| {
            f.int("inverse", 0) != 0
                && f.int("onesided", 0) != 0
                && !one_side_fits(f).unwrap_or(false)
        },
    },
    Rule {
        operators: &["Dropout"],
        what: "its mask before opset 12",
        applies: |f| f.opset < 12 && f.uses_output(1),
    },
    Rule {
        operators: &["LSTM"],
        what: "`Y_c` beside another output, from two states that begin alike, with which no run ends well",
        applies: joins_states,
    },
    Rule {
        operators: &["Pow"],
        what: "an input without elements",
        applies: |f| f.is_empty(0) || f.is_empty(1),
    },
    Rule {
        operators: &["Equal", "Pad", "ReduceMax", "ReduceMin"],
        what: "bools, which it takes for numbers",
        applies: |f| f.dtype(0) == Some(DatumType::Bool),
    },
    Rule {
        operators: &["Pad", "Tile"],
        what: "strings, which it takes for numbers",
        applies: |f| f.dtype(0) == Some(DatumType::String),
    },
    Rule {
        operators: &["ReduceL2"],
        what: "the squares of f16 and of integers overflow",
        applies: |f| !matches!(f.dtype(0), None | Some(DatumType::F32 | DatumType::F64)),
    },
    Rule {
        operators: &["ReduceSumSquare"],
        what: "the squares of integers overflow",
        applies: |f| f.dtype(0).is_some_and(|dtype| !dtype.is_float()),
    },
    Rule {
        operators: &["ReduceSum", "ReduceMean", "ReduceL1"],
        what: "the sums of integers of 8 and 16 bits, which overflow",
        applies: |f| {
            matches!(
                f.dtype(0),
                Some(DatumType::I8 | DatumType::U8 | DatumType::I16 | DatumType::U16)
            )
        },
    },
    Rule {
        operators: &["ReduceLogSum", "ReduceLogSumExp"],
        what: "integers",
        applies: |f| f.dtype(0).is_some_and(|dtype| !dtype.is_float()),
    },
    Rule {
        operators: &["ReduceMax", "ReduceMin"],
        what: "an input without elements",
        applies: |f| f.is_empty(0) && f.constant(0).is_none(),
    },
    Rule {
        operators: &["Resize"],
        what: "the nearest pixel by `align_corners` and scales is off by one where it falls on a whole number",
        applies: |f| {
            f.text("coordinate_transformation_mode") == "align_corners"
                && matches!(f.text("mode"), "" | "nearest")
                && matches!(f.text("nearest_mode"), "floor" | "ceil")
                && !f.has_input(3)
        },
    },
    Rule {
        operators: &["Slice"],
        what: "it ignores `steps` where `starts` or `ends` are computed",
        applies: |f| {
            let steps = if f.has_input(4) {
                f.integers(4)
            } else {
                Some(Vec::new())
            };
            let ones = steps.is_some_and(|steps| steps.iter().all(|&step| step == 1));
            !ones && (f.constant(1).is_none() || f.constant(2).is_none())
        },
    },
    Rule {
        operators: &["Slice"],
        what: "it cuts `starts` off at 32 bits",
        applies: |f| {
            let backwards = f
                .integers(4)
                .is_some_and(|steps| steps.iter().all(|&step| step < 0));
            let usual =
                |start: &i64| i32::try_from(*start).is_ok() || (backwards && *start == i64::MAX);
            f.integers(1)
                .is_some_and(|starts| !starts.iter().all(usual))
        },
    },
    Rule {
        operators: SIZED,
        what: "it cuts sizes off at 32 bits",
        applies: |f| {
            let large = |index| {
                f.integers(index)
                    .is_some_and(|all| all.iter().any(|&n| i32::try_from(n).is_err()))
            };
            // The first is data, but for what has nothing else.
            let first = usize::from(!matches!(
                f.node.op_type.as_str(),
                "ConstantOfShape" | "Range"
            ));
            (first..f.node.input.len()).any(large)
        },
    },
    Rule {
        operators: BESIDE_DIMENSIONS,
        what: "beside a dimension it cuts numbers off at 32 bits",
        applies: |f| {
            let inputs = || 0..f.node.input.len();
            let large = |index| {
                f.integers(index)
                    .is_some_and(|all| all.iter().any(|&n| i32::try_from(n).is_err()))
            };
            inputs().any(|index| f.dtype(index) == Some(DatumType::TDim)) && inputs().any(large)
        },
    },
    Rule {
        operators: &["ArrayFeatureExtractor"],
        what: "indices of another rank than 1",
        applies: |f| f.rank(1) != Some(1),
    },
    Rule {
        operators: &["MatMulNBits", "GatherBlockQuantized"],
        what: "it rounds scales to f16, whose range some of these leave",
        applies: |f| {
            let scales = f.floats(2);
            let fits = |scale: f32| scale == 0.0 || (6.2e-5..=65504.0).contains(&scale.abs());
            !scales.is_some_and(|scales| scales.into_iter().all(fits))
        },
    },
    Rule {
        operators: &["Squeeze"],
        what: "without axes it keeps a dynamic dimension that turns out to be 1",
        applies: |f| !f.has("axes") && !f.has_input(1) && f.shape(0).is_none(),
    },
    Rule {
        operators: &["TopK"],
        what: "more elements than there are",
        applies: |f| takes_too_many(f).unwrap_or(false),
    },
];

/// The domains that tract's operators are from, and which are in each.
pub(crate) fn domain_has(domain: &str, operator: &str) -> bool {
    const MICROSOFT: &[&str] = &[
        "BiasGelu",
        "FastGelu",
        "GatherBlockQuantized",
        "Gelu",
        "MatMulNBits",
        "QuickGelu",
        "SkipLayerNormalization",
        "SkipSimplifiedLayerNormalization",
    ];
    const LEARNING: &[&str] = &[
        "ArrayFeatureExtractor",
        "CategoryMapper",
        "LinearClassifier",
        "LinearRegressor",
        "Normalizer",
    ];
    // tract writes at the class indices of the file, unchecked, and takes `BRANCH_GTE` for another mode.
    if operator == "TreeEnsembleClassifier" {
        return false;
    }
    match domain {
        "" | "ai.onnx" => !LEARNING.contains(&operator),
        "com.microsoft" => MICROSOFT.contains(&operator),
        "ai.onnx.ml" => LEARNING.contains(&operator),
        _ => false,
    }
}

fn other_activations(f: &Facts<'_>) -> bool {
    let usual: &[&str] = match f.node.op_type.as_str() {
        "LSTM" => &["sigmoid", "tanh", "tanh"],
        "GRU" => &["sigmoid", "tanh"],
        _ => &["tanh"],
    };
    let given = f.texts("activations");
    let expected = usual.iter().cycle();
    given
        .iter()
        .zip(expected)
        .any(|(given, expected)| !given.eq_ignore_ascii_case(expected.as_bytes()))
}

/// Whether an index comes twice in a term of several.
fn has_diagonal(equation: &str) -> bool {
    let inputs = equation.split("->").next().unwrap_or("");
    let twice = |term: &str| {
        let mut indices = term.char_indices();
        indices.any(|(at, index)| index.is_alphabetic() && term[..at].contains(index))
    };
    inputs.contains(',') && inputs.split(',').any(twice)
}

/// Whether every axis is there once, as where nothing is said.
fn permutes(axes: &[i64]) -> bool {
    let mut sorted = axes.to_vec();
    sorted.sort_unstable();
    sorted.into_iter().eq(0..axes.len() as i64)
}

/// Whether tract takes both states of several steps for one, which it then cannot split into rows.
fn joins_states(f: &Facts<'_>) -> bool {
    let (several, one_way) = (
        f.uses_output(2) && (f.uses_output(0) || f.uses_output(1)),
        f.text("direction") != "bidirectional" && f.int("layout", 0) == 0,
    );
    let alike = match (f.has_input(5), f.has_input(6)) {
        (false, false) => true,
        (true, true) => f.constant(5).is_some_and(|h| f.constant(6) == Some(h)),
        _ => false,
    };
    let is_one = |axis| f.dimension(0, axis) == Some(1);
    // Of graphs inside of nodes too little is known.
    f.parsed.is_some() && several && one_way && alike && !is_one(0) && !is_one(1)
}

/// Whether `k` is more than the axis has; `None` where that is not known.
fn takes_too_many(f: &Facts<'_>) -> Option<bool> {
    let (axis, rank) = (f.int("axis", -1), f.rank(0)?);
    let axis = usize::try_from(if axis < 0 { axis + rank } else { axis }).ok()?;
    let k = match f.has_input(1) {
        true => *f.integers(1)?.first()?,
        false => f.int("k", 0),
    };
    Some(usize::try_from(k).ok()? > f.dimension(0, axis)?)
}

/// Whether `axis` says what numpy's broadcasting does anyway; `None` where that is not known.
fn aligned_at_the_end(f: &Facts<'_>) -> Option<bool> {
    let (left, right) = (f.rank(0)?, f.rank(1)?);
    let axis = f.int("axis", 0);
    let axis = if axis < 0 { axis + left } else { axis };
    Some(axis + right == left || f.shape(1)?.iter().all(|&size| size == 1))
}

/// Whether the input holds just the side that belongs to the output's length.
fn one_side_fits(f: &Facts<'_>) -> Option<bool> {
    if !f.has_input(1) {
        return Some(true);
    }
    let input = f.shape(0)?;
    let axis = match (f.opset < 20, f.has_input(2)) {
        (true, _) => f.int("axis", 1),
        (false, true) => *f.integers(2)?.first()?,
        (false, false) => -2,
    };
    let axis = usize::try_from(if axis < 0 {
        axis + input.len() as i64
    } else {
        axis
    })
    .ok()?;
    Some(*f.integers(1)?.first()? / 2 + 1 == *input.get(axis)? as i64)
}

/// Whether the padding that `output_shape` leaves splits evenly; `None` where that is not known.
fn even_padding(f: &Facts<'_>) -> Option<bool> {
    let (input, kernel) = (f.shape(0)?, f.shape(1)?);
    let at =
        |name: &str, axis: usize, default: i64| f.ints(name).get(axis).copied().unwrap_or(default);
    let output = f.ints("output_shape");
    let spatial = output.len().checked_sub(input.len().checked_sub(2)?)?;
    for (axis, &size) in output.iter().skip(spatial).enumerate() {
        let (length, kernel) = (*input.get(axis + 2)? as i64, *kernel.get(axis + 2)? as i64);
        let reach = (kernel - 1) * at("dilations", axis, 1) + 1;
        let padding =
            at("strides", axis, 1) * (length - 1) + at("output_padding", axis, 0) + reach - size;
        if padding > 0 && padding % 2 != 0 {
            return Some(false);
        }
    }
    Some(true)
}

/// A node, and what is known around it.
pub(crate) struct Facts<'a> {
    pub(crate) node: &'a NodeProto,
    opset: i64,
    parsed: Option<&'a ParseResult>,
}

impl<'a> Facts<'a> {
    pub(crate) fn new(
        node: &'a NodeProto,
        opset: i64,
        parsed: Option<&'a ParseResult>,
    ) -> Facts<'a> {
        Facts {
            node,
            opset,
            parsed,
        }
    }

    fn attribute(&self, name: &str) -> Option<&'a AttributeProto> {
        self.node
            .attribute
            .iter()
            .find(|attribute| attribute.name == name)
    }

    fn has(&self, name: &str) -> bool {
        self.attribute(name).is_some()
    }

    fn int(&self, name: &str, default: i64) -> i64 {
        self.attribute(name)
            .map_or(default, |attribute| attribute.i)
    }

    fn float(&self, name: &str, default: f32) -> f32 {
        self.attribute(name)
            .map_or(default, |attribute| attribute.f)
    }

    fn ints(&self, name: &str) -> &'a [i64] {
        self.attribute(name)
            .map_or(&[], |attribute| &attribute.ints)
    }

    /// Empty where it is missing.
    fn text(&self, name: &str) -> &'a str {
        self.attribute(name)
            .and_then(|attribute| std::str::from_utf8(&attribute.s).ok())
            .unwrap_or("")
    }

    fn texts(&self, name: &str) -> &'a [Vec<u8>] {
        self.attribute(name)
            .map_or(&[], |attribute| &attribute.strings)
    }

    fn has_input(&self, index: usize) -> bool {
        self.node
            .input
            .get(index)
            .is_some_and(|name| !name.is_empty())
    }

    fn fact(&self, name: &str) -> Option<&'a InferenceFact> {
        let parsed = self.parsed?;
        let outlet: &OutletId = parsed.outlets_by_name.get(name)?;
        parsed.model.outlet_fact(*outlet).ok()
    }

    fn input(&self, index: usize) -> Option<&'a InferenceFact> {
        self.fact(self.node.input.get(index)?)
    }

    /// Whether the model may use an output. What is not known is taken for used.
    fn uses_output(&self, index: usize) -> bool {
        let Some(name) = self.node.output.get(index).filter(|name| !name.is_empty()) else {
            return false;
        };
        let Some(parsed) = self.parsed else {
            return true;
        };
        let (model, outlet) = (&parsed.model, parsed.outlets_by_name.get(name));
        outlet.is_none_or(|outlet| {
            model.outputs.contains(outlet) || !model.outlet_successors(*outlet).is_empty()
        })
    }

    fn dtype(&self, index: usize) -> Option<DatumType> {
        self.input(index)?.datum_type.concretize()
    }

    fn rank(&self, index: usize) -> Option<i64> {
        self.input(index)?.shape.rank().concretize()
    }

    fn shape(&self, index: usize) -> Option<Vec<usize>> {
        self.input(index)?
            .shape
            .concretize()?
            .iter()
            .map(|dimension| dimension.to_usize().ok())
            .collect()
    }

    fn dimension(&self, index: usize, axis: usize) -> Option<usize> {
        let dimension = self.input(index)?.shape.dims().nth(axis)?;
        dimension.concretize()?.to_usize().ok()
    }

    /// Whether it is known to have no elements.
    fn is_empty(&self, index: usize) -> bool {
        let dimensions = self.input(index).and_then(|fact| fact.shape.concretize());
        dimensions.is_some_and(|dimensions| {
            dimensions
                .iter()
                .any(|dimension| dimension.to_usize().ok() == Some(0))
        })
    }

    fn constant(&self, index: usize) -> Option<Arc<Tensor>> {
        self.input(index)?.value.concretize()
    }

    fn integers(&self, index: usize) -> Option<Vec<i64>> {
        let tensor = self.constant(index)?;
        let integers = tensor.cast_to::<i64>().ok()?;
        Some(
            integers
                .try_as_plain_ram()
                .ok()?
                .as_slice::<i64>()
                .ok()?
                .to_vec(),
        )
    }

    fn floats(&self, index: usize) -> Option<Vec<f32>> {
        let tensor = self.constant(index)?;
        let floats = tensor.cast_to::<f32>().ok()?;
        Some(
            floats
                .try_as_plain_ram()
                .ok()?
                .as_slice::<f32>()
                .ok()?
                .to_vec(),
        )
    }
}
