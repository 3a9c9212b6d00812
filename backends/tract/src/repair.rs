//! Operators that tract's ONNX reader would wire wrongly, wired rightly from tract's own parts.
//!
//! `Cast` to int64: tract goes through 32 bits, so that larger numbers are cut off. `LogSoftmax`: tract
//! takes the logarithm of the softmax, which is minus infinity as soon as the softmax rounds to 0.
//! `Mod`: tract takes it for commutative and swaps its inputs to broadcast the second. `Scan`, `LSTM`,
//! `GRU` and `RNN`: tract hands their state on to the next run, as a stream would; ONNX starts afresh.

use std::sync::OnceLock;

use tract_onnx::Onnx;
use tract_onnx::model::ParsingContext;
use tract_onnx::pb::NodeProto;
use tract_onnx::prelude::*;
use tract_onnx::tract_core::ops::binary::{BinMiniOp, TypedBinOp};
use tract_onnx::tract_core::ops::cast::cast;
use tract_onnx::tract_core::ops::gru_seq::GruSeq;
use tract_onnx::tract_core::ops::logic::IfThenElse;
use tract_onnx::tract_core::ops::math::Rem;
use tract_onnx::tract_core::ops::nn::{Softmax, SoftmaxKind};
use tract_onnx::tract_core::ops::scan::Scan;
use tract_onnx::tract_hir::internal::*;

type Built = TractResult<(Box<dyn InferenceOp>, Vec<String>)>;

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
    for node in &mut model.nodes {
        if let Some(scan) = node.op_as_mut::<Scan>() {
            scan.reset_every_turn = true;
            put_right(&mut scan.body);
        } else if let Some(gru) = node.op_as_mut::<GruSeq>() {
            gru.reset_every_turn = true;
        } else if let Some(branches) = node.op_as_mut::<IfThenElse>() {
            put_right(&mut branches.then_body);
            put_right(&mut branches.else_body);
        } else if let Some(binary) = node.op_as_mut::<TypedBinOp>()
            && binary.0.is::<Rem>()
        {
            binary.0 = Box::new(Remainder);
        }
    }
}

/// tract's `Rem`, but not commutative.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Remainder;

impl BinMiniOp for Remainder {
    fn name(&self) -> &'static str {
        "Remainder"
    }

    fn operating_datum_type(&self, a: DatumType, b: DatumType) -> TractResult<DatumType> {
        Rem.operating_datum_type(a, b)
    }

    fn result_datum_type(&self, a: DatumType, b: DatumType) -> TractResult<DatumType> {
        Rem.result_datum_type(a, b)
    }

    fn eval_in_a(&self, a: &mut Tensor, b: &Tensor) -> TractResult<()> {
        Rem.eval_in_a(a, b)
    }

    fn eval_out_of_place(&self, c: &mut Tensor, a: &Tensor, b: &Tensor) -> TractResult<()> {
        Rem.eval_out_of_place(c, a, b)
    }

    fn eval(&self, a: TValue, b: TValue, c_dt: DatumType) -> TractResult<Tensor> {
        Rem.eval(a, b, c_dt)
    }

    fn is_commutative(&self) -> bool {
        false
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

/// `Cast` to int64, which leaves the symbolic numbers alone that tract has for dimensions.
#[derive(Clone, Debug)]
struct CastToInt64;

impl Expansion for CastToInt64 {
    fn name(&self) -> StaticName {
        "CastToInt64".into()
    }

    fn rules<'r, 'p: 'r, 's: 'r>(
        &'s self,
        s: &mut Solver<'r>,
        inputs: &'p [TensorProxy],
        outputs: &'p [TensorProxy],
    ) -> InferenceResult {
        check_input_arity(inputs, 1)?;
        check_output_arity(outputs, 1)?;
        s.equals(&outputs[0].shape, &inputs[0].shape)?;
        s.given(&inputs[0].datum_type, move |s, from| {
            s.equals(&outputs[0].datum_type, target(from))
        })
    }

    fn wire(
        &self,
        prefix: &str,
        model: &mut TypedModel,
        inputs: &[OutletId],
    ) -> TractResult<TVec<OutletId>> {
        let from = model.outlet_fact(inputs[0])?.datum_type;
        model.wire_node(prefix, cast(target(from)), inputs)
    }
}

fn target(from: DatumType) -> DatumType {
    if from == DatumType::TDim {
        DatumType::TDim
    } else {
        DatumType::I64
    }
}

fn build_log_softmax(context: &ParsingContext, node: &NodeProto) -> Built {
    let axis = node.get_attr_opt("axis")?;
    // Until opset 13 it works on the input as a matrix, whose second dimension begins at the axis.
    let to_the_end = context.onnx_operator_set_version < 13;
    let axis = axis.unwrap_or(if to_the_end { 1 } else { -1 });
    Ok((expand(LogSoftmax { axis, to_the_end }), vec![]))
}

#[derive(Clone, Debug)]
struct LogSoftmax {
    axis: i64,
    to_the_end: bool,
}

impl Expansion for LogSoftmax {
    fn name(&self) -> StaticName {
        "LogSoftmax".into()
    }

    fn rules<'r, 'p: 'r, 's: 'r>(
        &'s self,
        s: &mut Solver<'r>,
        inputs: &'p [TensorProxy],
        outputs: &'p [TensorProxy],
    ) -> InferenceResult {
        check_input_arity(inputs, 1)?;
        check_output_arity(outputs, 1)?;
        s.equals(&outputs[0].datum_type, &inputs[0].datum_type)?;
        s.equals(&outputs[0].shape, &inputs[0].shape)
    }

    fn wire(
        &self,
        prefix: &str,
        model: &mut TypedModel,
        inputs: &[OutletId],
    ) -> TractResult<TVec<OutletId>> {
        let rank = model.outlet_fact(inputs[0])?.rank();
        let first = if self.axis < 0 {
            self.axis + rank as i64
        } else {
            self.axis
        };
        let first = usize::try_from(first)
            .ok()
            .filter(|&axis| axis < rank.max(1));
        let first =
            first.with_context(|| format!("axis {} of a tensor of rank {rank}", self.axis))?;
        let last = if self.to_the_end {
            rank
        } else {
            rank.min(first + 1)
        };
        let softmax = Softmax {
            axes: (first..last).collect(),
            quant_output_dt: None,
            kind: SoftmaxKind::LogSoftmax,
        };
        model.wire_node(prefix, softmax, inputs)
    }
}
