//! The operators that reduce axes, and `Softplus`, for what tract's own ones get wrong: `repair` puts them in.
//!
//! tract adds up integers in 32 bits, and takes the largest number of f32 for the largest there is, so
//! that the maximum of nothing but minus infinity is not minus infinity. Exponentials of numbers that
//! are no exponents yet overflow; less their maximum they do not.

use tract_onnx::prelude::*;
use tract_onnx::tract_core::ops::cast::cast;
use tract_onnx::tract_core::ops::math::{abs, add, exp, ln, max, min, neg, sub};
use tract_onnx::tract_core::ops::nn::{Reduce, Reducer};
use tract_onnx::tract_hir::internal::*;

use crate::repair::put_right_from;

/// One of tract's operators of the file, whose parts are put right as soon as it is taken apart. Constants are
/// evaluated by that, too.
#[derive(Clone, Debug)]
pub(crate) struct PutRight(pub(crate) Box<dyn Expansion>);

impl Expansion for PutRight {
    fn name(&self) -> StaticName {
        self.0.name()
    }

    fn rules<'r, 'p: 'r, 's: 'r>(
        &'s self,
        s: &mut Solver<'r>,
        inputs: &'p [TensorProxy],
        outputs: &'p [TensorProxy],
    ) -> InferenceResult {
        self.0.rules(s, inputs, outputs)
    }

    fn wire(
        &self,
        prefix: &str,
        model: &mut TypedModel,
        inputs: &[OutletId],
    ) -> TractResult<TVec<OutletId>> {
        let first = model.nodes.len();
        let mut inputs: TVec<OutletId> = inputs.into();
        // What depends on constants alone would be evaluated on the way, while it is wrong.
        if model.outlet_fact(inputs[0])?.konst.is_some() {
            inputs[0] = model.wire_node(format!("{prefix}.later"), Later, &inputs[..1])?[0];
        }
        let outputs = self.0.wire(prefix, model, &inputs)?;
        put_right_from(model, first);
        Ok(outputs)
    }
}

/// Hands on what it gets, when the model runs and not before.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Later;

impl Op for Later {
    fn name(&self) -> StaticName {
        "Later".into()
    }

    op_as_typed_op!();
}

impl EvalOp for Later {
    not_out_of_plan!();

    fn eval(&self, _context: &EvalContext, inputs: TVec<TValue>) -> TractResult<TVec<TValue>> {
        Ok(inputs)
    }
}

impl TypedOp for Later {
    fn output_facts(&self, inputs: &[&TypedFact]) -> TractResult<TVec<TypedFact>> {
        Ok(tvec!(inputs[0].datum_type.fact(inputs[0].shape.clone())))
    }

    as_op!();
}

/// The mean, for which integers are added up in 64 bits.
#[derive(Clone, Debug)]
pub(crate) struct Mean(pub(crate) Box<dyn Expansion>);

impl Expansion for Mean {
    fn name(&self) -> StaticName {
        self.0.name()
    }

    fn rules<'r, 'p: 'r, 's: 'r>(
        &'s self,
        s: &mut Solver<'r>,
        inputs: &'p [TensorProxy],
        outputs: &'p [TensorProxy],
    ) -> InferenceResult {
        self.0.rules(s, inputs, outputs)
    }

    fn wire(
        &self,
        prefix: &str,
        model: &mut TypedModel,
        inputs: &[OutletId],
    ) -> TractResult<TVec<OutletId>> {
        let mean = PutRight(self.0.clone());
        let dtype = model.outlet_fact(inputs[0])?.datum_type;
        if !matches!(dtype, DatumType::I32 | DatumType::U32) {
            return mean.wire(prefix, model, inputs);
        }
        let wide = cast(DatumType::I64);
        let mut inputs: TVec<OutletId> = inputs.into();
        inputs[0] = model.wire_node(format!("{prefix}.wide"), wide, &inputs[..1])?[0];
        let outputs = mean.wire(&format!("{prefix}.mean"), model, &inputs)?;
        model.wire_node(prefix, cast(dtype), &outputs)
    }
}

/// `ReduceLogSumExp`, of numbers less their maximum, which is added again.
#[derive(Clone, Debug)]
pub(crate) struct LogSumExp {
    /// tract's `ReduceLogSumExp`.
    pub(crate) tracts: Box<dyn Expansion>,
    /// `ReduceMax` of the same axes, which are kept and not kept as in `tracts`.
    pub(crate) max: Box<dyn Expansion>,
    /// `ReduceMax` of the same axes, which are kept.
    pub(crate) max_kept: Box<dyn Expansion>,
}

impl Expansion for LogSumExp {
    fn name(&self) -> StaticName {
        "LogSumExp".into()
    }

    fn rules<'r, 'p: 'r, 's: 'r>(
        &'s self,
        s: &mut Solver<'r>,
        inputs: &'p [TensorProxy],
        outputs: &'p [TensorProxy],
    ) -> InferenceResult {
        self.tracts.rules(s, inputs, outputs)
    }

    fn wire(
        &self,
        prefix: &str,
        model: &mut TypedModel,
        inputs: &[OutletId],
    ) -> TractResult<TVec<OutletId>> {
        let largest = self
            .max_kept
            .wire(&format!("{prefix}.largest"), model, inputs)?;
        let largest = finite(&format!("{prefix}.largest"), model, largest[0])?;
        let mut shifted: TVec<OutletId> = inputs.into();
        shifted[0] = model.wire_node(format!("{prefix}.shift"), sub(), &[inputs[0], largest])?[0];
        let sum = self
            .tracts
            .wire(&format!("{prefix}.shifted"), model, &shifted)?;
        let largest = self.max.wire(&format!("{prefix}.back"), model, inputs)?;
        let largest = finite(&format!("{prefix}.back"), model, largest[0])?;
        model.wire_node(prefix, add(), &[sum[0], largest])
    }
}

/// The finite number that is nearest: infinity less infinity would be no number.
fn finite(prefix: &str, model: &mut TypedModel, wire: OutletId) -> TractResult<OutletId> {
    let fact = model.outlet_fact(wire)?;
    let (dtype, rank) = (fact.datum_type, fact.rank());
    let bound = |tensor: Tensor| tensor.broadcast_into_rank(rank);
    let lowest = model.add_const(format!("{prefix}.lowest"), bound(dtype.min_value())?)?;
    let highest = model.add_const(format!("{prefix}.highest"), bound(dtype.max_value())?)?;
    let wire = model.wire_node(format!("{prefix}.low"), max(), &[wire, lowest])?[0];
    Ok(model.wire_node(format!("{prefix}.high"), min(), &[wire, highest])?[0])
}

/// `Softplus`, as `max(x, 0) + log(1 + exp(-|x|))`.
#[derive(Clone, Debug)]
pub(crate) struct Softplus;

impl Expansion for Softplus {
    fn name(&self) -> StaticName {
        "Softplus".into()
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
        let fact = model.outlet_fact(inputs[0])?;
        let (dtype, rank) = (fact.datum_type, fact.rank());
        let number = |number: f32| {
            tensor0(number)
                .cast_to_dt(dtype)?
                .into_owned()
                .broadcast_into_rank(rank)
        };
        let zero = model.add_const(format!("{prefix}.zero"), number(0.0)?)?;
        let one = model.add_const(format!("{prefix}.one"), number(1.0)?)?;
        let size = model.wire_node(format!("{prefix}.size"), abs(), &inputs[..1])?;
        let below = model.wire_node(format!("{prefix}.below"), neg(), &size)?;
        let small = model.wire_node(format!("{prefix}.exp"), exp(), &below)?;
        let sum = model.wire_node(format!("{prefix}.sum"), add(), &[small[0], one])?;
        let log = model.wire_node(format!("{prefix}.log"), ln(), &sum)?;
        let large = model.wire_node(format!("{prefix}.large"), max(), &[inputs[0], zero])?;
        model.wire_node(prefix, add(), &[large[0], log[0]])
    }
}

/// A reduction that tract gets wrong, put right.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Reduction(Reduce);

impl Reduction {
    /// In the place of tract's, where that is wrong for this dtype.
    pub(crate) fn instead_of(reduce: &Reduce, dtype: DatumType) -> Option<Reduction> {
        let wrong = match reduce.reducer {
            Reducer::Sum => matches!(dtype, DatumType::I64 | DatumType::U32 | DatumType::U64),
            Reducer::Max | Reducer::Min => dtype.is_float(),
            _ => false,
        };
        wrong.then(|| Reduction(reduce.clone()))
    }

    /// Adds up, past the end of the dtype from its beginning again.
    fn sum<T>(&self, input: &Tensor, wrapping: fn(T, T) -> T) -> TractResult<Tensor>
    where
        T: Datum + Copy + tract_num_traits::Zero,
    {
        let mut sums = input.to_plain_array_view::<T>()?.to_owned();
        for &axis in &self.0.axes {
            let axis = tract_ndarray::Axis(axis);
            sums = sums
                .fold_axis(axis, T::zero(), |&sum, &next| wrapping(sum, next))
                .insert_axis(axis);
        }
        Ok(sums.into_tensor())
    }

    /// The largest or smallest number, which is infinite only where all are.
    fn extreme(&self, input: &Tensor) -> TractResult<Tensor> {
        let largest = self.0.reducer == Reducer::Max;
        let quick = self.0.reducer.reduce(&self.0.axes, input)?;
        let dtype = quick.datum_type();
        let end = if largest {
            dtype.min_value()
        } else {
            dtype.max_value()
        };
        let end = end.cast_to_scalar::<f64>()?;
        let doubtful = quick.cast_to::<f64>()?;
        if !doubtful
            .try_as_plain_ram()?
            .as_slice::<f64>()?
            .contains(&end)
        {
            return Ok(quick);
        }
        let (start, pick): (f64, fn(f64, f64) -> f64) = if largest {
            (f64::NEG_INFINITY, f64::max)
        } else {
            (f64::INFINITY, f64::min)
        };
        let wide = input.cast_to::<f64>()?;
        let mut found = wide.to_plain_array_view::<f64>()?.to_owned();
        for &axis in &self.0.axes {
            let axis = tract_ndarray::Axis(axis);
            found = found
                .fold_axis(axis, start, |&best, &next| pick(best, next))
                .insert_axis(axis);
        }
        Ok(found.into_tensor().cast_to_dt(dtype)?.into_owned())
    }
}

impl Op for Reduction {
    fn name(&self) -> StaticName {
        self.0.name()
    }

    op_as_typed_op!();
}

impl EvalOp for Reduction {
    op_out_of_plan!();

    fn eval(&self, _context: &EvalContext, inputs: TVec<TValue>) -> TractResult<TVec<TValue>> {
        let input = args_1!(inputs);
        let reduced = match (self.0.reducer, input.datum_type()) {
            (Reducer::Sum, DatumType::I64) => self.sum(&input, i64::wrapping_add)?,
            (Reducer::Sum, DatumType::U32) => self.sum(&input, u32::wrapping_add)?,
            (Reducer::Sum, DatumType::U64) => self.sum(&input, u64::wrapping_add)?,
            _ => self.extreme(&input)?,
        };
        Ok(tvec!(reduced.into_tvalue()))
    }
}

impl TypedOp for Reduction {
    fn output_facts(&self, inputs: &[&TypedFact]) -> TractResult<TVec<TypedFact>> {
        self.0.output_facts(inputs)
    }

    as_op!();
}
