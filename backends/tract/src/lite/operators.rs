//! The operators of TensorFlow Lite of which tract's reader has been tried, and what each of them may look like.

use std::collections::HashSet;
use std::ops::RangeInclusive;

use infer_core::Result;
use tract_tflite::tflite::{BuiltinOperator, Model, Operator, Padding, Pool2DOptions};

use super::{Graph, indexes, invalid, unsupported};

/// The most of a stride, a dilation or a side of a window, which tract counts through.
const LONGEST: i32 = 1 << 10;

/// The most inputs of a `CONCATENATION`.
const MOST_INPUTS: usize = 1 << 16;

/// Checks every operator of the graph.
pub(super) fn check(file: &Model<'_>, graph: &Graph<'_>) -> Result<()> {
    let mut known: HashSet<usize> = graph.inputs.iter().copied().collect();
    for flat in graph.flat.operators().into_iter().flatten() {
        let node = Node::of(file, graph, flat)?;
        node.check_count()?;
        let computed = |input: &&usize| graph.constants[**input].is_none();
        if let Some(&input) = node
            .inputs
            .iter()
            .filter(computed)
            .find(|&input| !known.contains(input))
        {
            let name = graph.name(input);
            return Err(invalid(&format!(
                "nothing computes `{name}` before its use"
            )));
        }
        node.check(graph)?;
        if graph.constants[node.output].is_some() || !known.insert(node.output) {
            let name = graph.name(node.output);
            return Err(invalid(&format!("`{name}` is computed twice")));
        }
    }
    match graph.outputs.iter().find(|&output| !known.contains(output)) {
        Some(&output) => Err(invalid(&format!(
            "nothing computes its output `{}`",
            graph.name(output)
        ))),
        None => Ok(()),
    }
}

struct Node<'a> {
    operator: BuiltinOperator,
    flat: Operator<'a>,
    inputs: Vec<usize>,
    output: usize,
}

impl<'a> Node<'a> {
    fn of(file: &Model<'a>, graph: &Graph<'a>, flat: Operator<'a>) -> Result<Node<'a>> {
        let numbers =
            |list: Option<Vec<i32>>| indexes(&list.unwrap_or_default(), graph.tensors.len());
        let outputs = numbers(flat.outputs().map(|all| all.iter().collect()))?;
        let &[output] = outputs.as_slice() else {
            return Err(unsupported(format!(
                "operators of {} outputs",
                outputs.len()
            )));
        };
        Ok(Node {
            operator: operator_of(file, &flat)?,
            inputs: numbers(flat.inputs().map(|all| all.iter().collect()))?,
            output,
            flat,
        })
    }

    fn check_count(&self) -> Result<()> {
        use BuiltinOperator as B;
        let expected: RangeInclusive<usize> = match self.operator {
            B::RELU | B::RELU6 | B::LOGISTIC | B::TANH | B::SOFTMAX => 1..=1,
            B::AVERAGE_POOL_2D | B::MAX_POOL_2D => 1..=1,
            B::ADD | B::SUB | B::MUL | B::MEAN => 2..=2,
            B::RESHAPE => 1..=2,
            B::CONV_2D | B::DEPTHWISE_CONV_2D | B::FULLY_CONNECTED => 3..=3,
            B::CONCATENATION => 1..=MOST_INPUTS,
            other => {
                let name = other.variant_name().unwrap_or("unknown");
                return Err(unsupported(format!("the operator `{name}`")));
            }
        };
        match expected.contains(&self.inputs.len()) {
            true => Ok(()),
            false => Err(self.refuse(&format!("with {} inputs", self.inputs.len()))),
        }
    }

    fn check(&self, graph: &Graph<'_>) -> Result<()> {
        use BuiltinOperator as B;
        match self.operator {
            B::CONV_2D => self.check_convolution(graph),
            B::DEPTHWISE_CONV_2D => self.check_depthwise(graph),
            B::AVERAGE_POOL_2D | B::MAX_POOL_2D => {
                match self.flat.builtin_options_as_pool_2_doptions() {
                    Some(options) => self.check_pool(&options),
                    None => Err(self.refuse("without its options")),
                }
            }
            B::FULLY_CONNECTED => self.check_weights(graph),
            B::MEAN => self.check_axes(graph),
            _ => Ok(()),
        }
    }

    fn check_convolution(&self, graph: &Graph<'_>) -> Result<()> {
        let Some(options) = self.flat.builtin_options_as_conv_2_doptions() else {
            return Err(self.refuse("without its options"));
        };
        self.check_window(
            options.padding(),
            &[
                options.stride_h(),
                options.stride_w(),
                options.dilation_h_factor(),
                options.dilation_w_factor(),
            ],
        )?;
        self.check_weights(graph)?;
        self.check_channels(graph)
    }

    fn check_depthwise(&self, graph: &Graph<'_>) -> Result<()> {
        let Some(options) = self.flat.builtin_options_as_depthwise_conv_2_doptions() else {
            return Err(self.refuse("without its options"));
        };
        self.check_window(
            options.padding(),
            &[
                options.stride_h(),
                options.stride_w(),
                options.dilation_h_factor(),
                options.dilation_w_factor(),
            ],
        )?;
        self.check_weights(graph)?;
        // tract takes the number of outputs for that of inputs.
        self.check_channels(graph)
    }

    fn check_pool(&self, options: &Pool2DOptions<'_>) -> Result<()> {
        let sizes = [
            options.stride_h(),
            options.stride_w(),
            options.filter_height(),
            options.filter_width(),
        ];
        self.check_window(options.padding(), &sizes)
    }

    fn check_window(&self, padding: Padding, sizes: &[i32]) -> Result<()> {
        match matches!(padding, Padding::SAME | Padding::VALID) {
            true if sizes.iter().all(|size| (1..=LONGEST).contains(size)) => Ok(()),
            _ => Err(self.refuse("with this padding or these sizes")),
        }
    }

    /// Weights and offsets have to be constants.
    fn check_weights(&self, graph: &Graph<'_>) -> Result<()> {
        let constant = |&input: &usize| graph.constants[input].is_some();
        match self.inputs[1..].iter().all(constant) {
            true => Ok(()),
            false => Err(self.refuse("with weights that are computed")),
        }
    }

    /// The last dimension of input and weights has to be the same: no groups, and no multiplier.
    fn check_channels(&self, graph: &Graph<'_>) -> Result<()> {
        let (input, weights) = (graph.shape(self.inputs[0]), graph.shape(self.inputs[1]));
        match input.len() == 4 && weights.len() == 4 && input[3] == weights[3] {
            true => Ok(()),
            false => Err(self.refuse("with groups of channels")),
        }
    }

    /// tract takes axes as they come: none may be counted from the end, or come twice.
    fn check_axes(&self, graph: &Graph<'_>) -> Result<()> {
        let rank = graph.shape(self.inputs[0]).len();
        let axes = graph.integers(self.inputs[1]).unwrap_or_default();
        let distinct: HashSet<usize> = axes
            .iter()
            .filter_map(|&axis| usize::try_from(axis).ok().filter(|&axis| axis < rank))
            .collect();
        match !axes.is_empty() && distinct.len() == axes.len() {
            true => Ok(()),
            false => Err(self.refuse("with these axes")),
        }
    }

    fn refuse(&self, why: &str) -> infer_core::Error {
        let name = self.operator.variant_name().unwrap_or("unknown");
        unsupported(format!("a `{name}` {why}"))
    }
}

/// Old files have the code in one field, new ones in another, most in both.
fn operator_of(file: &Model<'_>, flat: &Operator<'_>) -> Result<BuiltinOperator> {
    let index = flat.opcode_index() as usize;
    let code = file
        .operator_codes()
        .filter(|codes| index < codes.len())
        .map(|codes| codes.get(index))
        .ok_or_else(|| invalid("an operator without a code"))?;
    let old = BuiltinOperator(i32::from(code.deprecated_builtin_code()));
    let new = code.builtin_code();
    let usual = old == BuiltinOperator::PLACEHOLDER_FOR_GREATER_OP_CODES;
    match usual || new == old || new.0 == 0 {
        true if usual => Ok(new),
        true => Ok(old),
        false => Err(invalid("an operator of two codes")),
    }
}
