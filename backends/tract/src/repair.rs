//! What tract's reader and optimiser get wrong, put right before they can.
//!
//! `Cast` to int64: tract goes through 32 bits, so that larger numbers are cut off; so does the cast of
//! int64 beside dimensions. `LogSoftmax`: tract takes the logarithm of the softmax, which is minus
//! infinity as soon as the softmax rounds to 0. `Mod`: tract takes it for commutative and swaps its
//! inputs to broadcast the second. `Sub` and `Div` of something by a convolution: tract computes them
//! inside of the convolution, and the other way round. `Scan`, `LSTM`, `GRU` and `RNN`: tract hands their state on to the
//! next run, as a stream would; ONNX starts afresh. `Slice` with steps, and a `Conv` that skips: the
//! optimiser moves the skipping to before a `Softmax`, which must see all, or into another `Conv`, where
//! it forgets the first position. `Mul` and `Pow` of integers: tract squares them in f32, and takes
//! negative powers for large ones. `Div` by a
//! constant: tract multiplies by its reciprocal, which is infinite for the smallest numbers. What
//! reduces axes, and `Softplus`: see `reductions`.

use std::sync::OnceLock;

use tract_onnx::Onnx;
use tract_onnx::model::ParsingContext;
use tract_onnx::pb::attribute_proto::AttributeType;
use tract_onnx::pb::{AttributeProto, NodeProto};
use tract_onnx::prelude::*;
use tract_onnx::tract_core::ops::binary::TypedBinOp;
use tract_onnx::tract_core::ops::cast::Cast;
use tract_onnx::tract_core::ops::gru_seq::GruSeq;
use tract_onnx::tract_core::ops::identity::Identity;
use tract_onnx::tract_core::ops::logic::IfThenElse;
use tract_onnx::tract_core::ops::math::{Div, Mul, Pow, Rem, Sub};
use tract_onnx::tract_core::ops::nn::Reduce;
use tract_onnx::tract_core::ops::scan::Scan;
use tract_onnx::tract_hir::internal::*;

use crate::operators::{CastToInt64, Hidden, LogSoftmax, Ordered, ToDimension, WholePower};
use crate::reductions::{Later, LogSumExp, Mean, PutRight, Reduction, Softplus};
use crate::rewrite::BARRIER;

/// What makes an operator of a node.
pub(crate) type Built = TractResult<(Box<dyn InferenceOp>, Vec<String>)>;

/// tract's reader as it is.
static TRACTS: OnceLock<Onnx> = OnceLock::new();

/// tract's reader with these operators put right.
pub(crate) fn reader() -> Onnx {
    let tracts = TRACTS.get_or_init(tract_onnx::onnx);
    let mut onnx = tracts.clone().with_ignore_value_info(true);
    onnx.op_register.insert("Cast", build_cast);
    onnx.op_register.insert("LogSoftmax", build_log_softmax);
    onnx.op_register.insert("Softplus", build_softplus);
    onnx.op_register.insert("ReduceMean", build_mean);
    onnx.op_register
        .insert("ReduceLogSumExp", build_log_sum_exp);
    for name in ["Pow", "ReduceSum", "ReduceL1", "ReduceMax", "ReduceMin"] {
        onnx.op_register.insert(name, build_put_right);
    }
    onnx
}

/// Puts right what has been read and typed, before tract optimises it.
pub(crate) fn put_right(model: &mut TypedModel) {
    put_right_from(model, 0);
}

/// Puts right what has been wired from this node on.
pub(crate) fn put_right_from(model: &mut TypedModel, first: usize) {
    for id in first..model.nodes.len() {
        let inputs = Inputs::of(model, id);
        put_node_right(&mut model.nodes[id], inputs);
    }
}

struct Inputs {
    first: Option<DatumType>,
    last_is_constant: bool,
    last_is_tiny: bool,
}

impl Inputs {
    fn of(model: &TypedModel, id: usize) -> Inputs {
        let facts = model.node_input_facts(id).unwrap_or_default();
        Inputs {
            first: facts.first().map(|fact| fact.datum_type),
            last_is_constant: facts.last().is_some_and(|fact| fact.konst.is_some()),
            last_is_tiny: facts
                .last()
                .and_then(|fact| fact.konst.as_ref())
                .is_some_and(|constant| is_tiny(constant)),
        }
    }

    fn are_dimensions(&self) -> bool {
        self.first == Some(DatumType::TDim)
    }

    fn are_integers(&self) -> bool {
        self.first
            .is_some_and(|dtype| dtype.is_integer() && !dtype.is_quantized())
    }
}

/// Whether there are numbers so small that one divided by them may not fit the dtype.
fn is_tiny(constant: &Tensor) -> bool {
    let smallest = match constant.datum_type() {
        DatumType::F16 => 1.0 / 16384.0,
        DatumType::F32 => f64::from(f32::MIN_POSITIVE),
        DatumType::F64 => f64::MIN_POSITIVE,
        _ => return false,
    };
    constant.cast_to::<f64>().is_ok_and(|wide| {
        let numbers = wide.to_plain_array_view::<f64>();
        numbers.is_ok_and(|numbers| numbers.iter().any(|n| *n != 0.0 && n.abs() < smallest))
    })
}

fn put_node_right(node: &mut TypedNode, inputs: Inputs) {
    if let Some(scan) = node.op_as_mut::<Scan>() {
        scan.reset_every_turn = true;
        put_right(&mut scan.body);
    } else if let Some(gru) = node.op_as_mut::<GruSeq>() {
        gru.reset_every_turn = true;
    } else if let Some(branches) = node.op_as_mut::<IfThenElse>() {
        put_right(&mut branches.then_body);
        put_right(&mut branches.else_body);
    } else if let Some(binary) = node.op_as_mut::<TypedBinOp>() {
        let whole = matches!(inputs.first, Some(DatumType::I32 | DatumType::I64));
        if binary.0.is::<Pow>() && whole {
            binary.0 = Box::new(WholePower);
        } else if is_to_stay(binary, &inputs) {
            binary.0 = Box::new(Ordered(binary.0.clone()));
        }
    } else if let Some(reduce) = node.op_as::<Reduce>() {
        let reduction = inputs
            .first
            .and_then(|dtype| Reduction::instead_of(reduce, dtype));
        if let Some(reduction) = reduction {
            node.op = Box::new(reduction);
        }
    } else if node
        .op_as::<Cast>()
        .is_some_and(|cast| cast.to == DatumType::TDim)
        && !inputs.are_dimensions()
    {
        node.op = Box::new(ToDimension);
    } else if node.op_is::<Later>() {
        node.op = Box::new(Identity);
    } else if node.op_is::<Identity>() && node.name.ends_with(BARRIER) {
        node.op = Box::new(Hidden(node.op.clone()));
    }
}

/// Whether the optimiser would make something wrong of it.
fn is_to_stay(binary: &TypedBinOp, inputs: &Inputs) -> bool {
    let operator = &binary.0;
    if operator.is::<Rem>() {
        return true;
    }
    if operator.is::<Mul>() || operator.is::<Pow>() {
        return inputs.are_integers();
    }
    let by_something = !inputs.last_is_constant || (operator.is::<Div>() && inputs.last_is_tiny);
    (operator.is::<Sub>() || operator.is::<Div>()) && by_something && !inputs.are_dimensions()
}

fn build_cast(context: &ParsingContext, node: &NodeProto) -> Built {
    match node.get_attr::<DatumType>("to")? {
        DatumType::I64 => Ok((expand(CastToInt64), vec![])),
        _ => build_tracts(context, node),
    }
}

fn build_tracts(context: &ParsingContext, node: &NodeProto) -> Built {
    let tracts = TRACTS
        .get()
        .and_then(|onnx| onnx.op_register.0.get(&node.op_type));
    tracts.context("the reader was not made by `reader`")?(context, node)
}

/// tract's operator, as what is taken apart when types are known.
fn tracts_expansion(context: &ParsingContext, node: &NodeProto) -> TractResult<Box<dyn Expansion>> {
    let (operator, _) = build_tracts(context, node)?;
    let expansion = operator.as_op().downcast_ref::<Box<dyn Expansion>>();
    expansion
        .cloned()
        .with_context(|| format!("`{}` is in one part", node.op_type))
}

fn build_put_right(context: &ParsingContext, node: &NodeProto) -> Built {
    let tracts = tracts_expansion(context, node)?;
    Ok((expand(PutRight(tracts)), vec![]))
}

fn build_mean(context: &ParsingContext, node: &NodeProto) -> Built {
    let tracts = tracts_expansion(context, node)?;
    Ok((expand(Mean(tracts)), vec![]))
}

fn build_softplus(_: &ParsingContext, _: &NodeProto) -> Built {
    Ok((expand(Softplus), vec![]))
}

fn build_log_sum_exp(context: &ParsingContext, node: &NodeProto) -> Built {
    let mut max = NodeProto {
        op_type: "ReduceMax".to_owned(),
        ..node.clone()
    };
    let tracts = tracts_expansion(context, node)?;
    let as_it_is = tracts_expansion(context, &max)?;
    max.attribute
        .retain(|attribute| attribute.name != "keepdims");
    max.attribute.push(AttributeProto {
        name: "keepdims".to_owned(),
        r#type: AttributeType::Int as i32,
        i: 1,
        ..Default::default()
    });
    let operator = LogSumExp {
        tracts,
        max: as_it_is,
        max_kept: tracts_expansion(context, &max)?,
    };
    Ok((expand(operator), vec![]))
}

fn build_log_softmax(context: &ParsingContext, node: &NodeProto) -> Built {
    let axis = node.get_attr_opt("axis")?;
    // Until opset 13 it works on the input as a matrix, whose second dimension begins at the axis.
    let to_the_end = context.onnx_operator_set_version < 13;
    let axis = axis.unwrap_or(if to_the_end { 1 } else { -1 });
    Ok((expand(LogSoftmax { axis, to_the_end }), vec![]))
}
