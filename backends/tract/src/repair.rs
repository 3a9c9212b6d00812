//! What tract's reader and optimiser get wrong, put right before they can.
//!
//! `Cast` to int64: tract goes through 32 bits, so that larger numbers are cut off; so does the cast of
//! int64 beside dimensions. `LogSoftmax`: tract takes the logarithm of the softmax, which is minus
//! infinity as soon as the softmax rounds to 0. `Mod`: tract takes it for commutative and swaps its
//! inputs to broadcast the second. `Sub` and `Div` of something by a convolution: tract computes them
//! inside of the convolution, and the other way round. `Scan`, `LSTM`, `GRU` and `RNN`: tract hands their state on to the
//! next run, as a stream would; ONNX starts afresh. `Slice` with steps, and a `Conv` that skips: the
//! optimiser moves the skipping to before a `Softmax`, which must see all, or into another `Conv`, where
//! it forgets the first position.

use std::sync::OnceLock;

use tract_onnx::Onnx;
use tract_onnx::model::ParsingContext;
use tract_onnx::pb::NodeProto;
use tract_onnx::prelude::*;
use tract_onnx::tract_core::ops::binary::TypedBinOp;
use tract_onnx::tract_core::ops::cast::Cast;
use tract_onnx::tract_core::ops::gru_seq::GruSeq;
use tract_onnx::tract_core::ops::identity::Identity;
use tract_onnx::tract_core::ops::logic::IfThenElse;
use tract_onnx::tract_core::ops::math::{Div, Rem, Sub};
use tract_onnx::tract_core::ops::scan::Scan;
use tract_onnx::tract_hir::internal::*;

use crate::operators::{CastToInt64, Hidden, LogSoftmax, Ordered, ToDimension};
use crate::rewrite::BARRIER;

/// What makes an operator of a node.
pub(crate) type Built = TractResult<(Box<dyn InferenceOp>, Vec<String>)>;

static TRACTS_CAST: OnceLock<fn(&ParsingContext, &NodeProto) -> Built> = OnceLock::new();

/// tract's reader with these operators put right.
pub(crate) fn reader() -> Onnx {
    let mut onnx = tract_onnx::onnx().with_ignore_value_info(true);
    if let Some(builder) = onnx.op_register.0.get("Cast") {
        TRACTS_CAST.get_or_init(|| *builder);
    }
    onnx.op_register.insert("Cast", build_cast);
    onnx.op_register.insert("LogSoftmax", build_log_softmax);
    onnx
}

/// Puts right what has been read and typed, before tract optimises it.
pub(crate) fn put_right(model: &mut TypedModel) {
    for id in 0..model.nodes.len() {
        let inputs = Inputs::of(model, id);
        put_node_right(&mut model.nodes[id], inputs);
    }
}

struct Inputs {
    first_is_dimension: bool,
    last_is_constant: bool,
}

impl Inputs {
    fn of(model: &TypedModel, id: usize) -> Inputs {
        let facts = model.node_input_facts(id).unwrap_or_default();
        Inputs {
            first_is_dimension: facts
                .first()
                .is_some_and(|fact| fact.datum_type == DatumType::TDim),
            last_is_constant: facts.last().is_some_and(|fact| fact.konst.is_some()),
        }
    }
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
        let by_something =
            (binary.0.is::<Sub>() || binary.0.is::<Div>()) && !inputs.last_is_constant;
        if binary.0.is::<Rem>() || (by_something && !inputs.first_is_dimension) {
            binary.0 = Box::new(Ordered(binary.0.clone()));
        }
    } else if node
        .op_as::<Cast>()
        .is_some_and(|cast| cast.to == DatumType::TDim)
        && !inputs.first_is_dimension
    {
        node.op = Box::new(ToDimension);
    } else if node.op_is::<Identity>() && node.name.ends_with(BARRIER) {
        node.op = Box::new(Hidden(node.op.clone()));
    }
}

fn build_cast(context: &ParsingContext, node: &NodeProto) -> Built {
    match node.get_attr::<DatumType>("to")? {
        DatumType::I64 => Ok((expand(CastToInt64), vec![])),
        _ => TRACTS_CAST
            .get()
            .context("the reader was not made by `reader`")?(context, node),
    }
}

fn build_log_softmax(context: &ParsingContext, node: &NodeProto) -> Built {
    let axis = node.get_attr_opt("axis")?;
    // Until opset 13 it works on the input as a matrix, whose second dimension begins at the axis.
    let to_the_end = context.onnx_operator_set_version < 13;
    let axis = axis.unwrap_or(if to_the_end { 1 } else { -1 });
    Ok((expand(LogSoftmax { axis, to_the_end }), vec![]))
}
