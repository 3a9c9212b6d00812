//! Operators of our own, made of tract's, for what tract's own ones get wrong: `repair` puts them in.

use tract_onnx::prelude::*;
use tract_onnx::tract_core::ops::binary::BinMiniOp;
use tract_onnx::tract_core::ops::cast::cast;
use tract_onnx::tract_core::ops::nn::{Softmax, SoftmaxKind};
use tract_onnx::tract_hir::internal::*;

/// `Cast` to int64, which leaves the symbolic numbers alone that tract has for dimensions.
#[derive(Clone, Debug)]
pub(crate) struct CastToInt64;

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

/// `LogSoftmax` without the detour over the softmax itself.
#[derive(Clone, Debug)]
pub(crate) struct LogSoftmax {
    pub(crate) axis: i64,
    /// Whether it works on all axes from this one on.
    pub(crate) to_the_end: bool,
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

/// One of tract's binary operators that the optimiser neither commutes nor puts into a product of matrices.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Ordered(pub(crate) Box<dyn BinMiniOp>);

impl BinMiniOp for Ordered {
    fn name(&self) -> &'static str {
        self.0.name()
    }

    fn validation(&self) -> Validation {
        self.0.validation()
    }

    fn operating_datum_type(&self, a: DatumType, b: DatumType) -> TractResult<DatumType> {
        self.0.operating_datum_type(a, b)
    }

    fn result_datum_type(&self, a: DatumType, b: DatumType) -> TractResult<DatumType> {
        self.0.result_datum_type(a, b)
    }

    fn eval_in_a(&self, a: &mut Tensor, b: &Tensor) -> TractResult<()> {
        self.0.eval_in_a(a, b)
    }

    fn eval_out_of_place(&self, c: &mut Tensor, a: &Tensor, b: &Tensor) -> TractResult<()> {
        self.0.eval_out_of_place(c, a, b)
    }

    fn eval(&self, a: TValue, b: TValue, c_dt: DatumType) -> TractResult<Tensor> {
        self.0.eval(a, b, c_dt)
    }

    fn is_commutative(&self) -> bool {
        false
    }

    fn maybe_eval_qbinary_as_float_op(
        &self,
        a: &TValue,
        b: &TValue,
        c_dt: &DatumType,
    ) -> TractResult<Option<Tensor>> {
        self.0.maybe_eval_qbinary_as_float_op(a, b, c_dt)
    }
}

/// `Pow` of integers by integers: past the end of the dtype it begins again; negative powers are cut off to whole
/// numbers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct WholePower;

impl BinMiniOp for WholePower {
    fn name(&self) -> &'static str {
        "WholePower"
    }

    fn result_datum_type(&self, a: DatumType, b: DatumType) -> TractResult<DatumType> {
        ensure!(a == b, "expected powers of dtype {a:?}, got {b:?}");
        Ok(a)
    }

    fn eval_in_a(&self, a: &mut Tensor, b: &Tensor) -> TractResult<()> {
        let bases = a.clone();
        self.eval_out_of_place(a, &bases, b)
    }

    fn eval_out_of_place(&self, c: &mut Tensor, a: &Tensor, b: &Tensor) -> TractResult<()> {
        match c.datum_type() {
            DatumType::I32 => raise::<i32>(c, [a, b], |base, power| {
                // The low half of a product depends on the low halves alone.
                whole_power(base.into(), power.into()) as i32
            }),
            DatumType::I64 => raise::<i64>(c, [a, b], whole_power),
            dtype => bail!("no powers of dtype {dtype:?}"),
        }
    }

    fn is_commutative(&self) -> bool {
        false
    }
}

fn raise<T: Datum + Copy>(
    target: &mut Tensor,
    [bases, powers]: [&Tensor; 2],
    power: fn(T, T) -> T,
) -> TractResult<()> {
    let (bases, powers) = (
        bases.to_plain_array_view::<T>()?,
        powers.to_plain_array_view::<T>()?,
    );
    let mut plain = target.try_as_plain_ram_mut()?;
    tract_ndarray::Zip::from(&mut plain.to_array_view_mut::<T>()?)
        .and_broadcast(bases)
        .and_broadcast(powers)
        .for_each(|target, &base, &exponent| *target = power(base, exponent));
    Ok(())
}

fn whole_power(base: i64, power: i64) -> i64 {
    if power < 0 && base.unsigned_abs() != 1 {
        return 0;
    }
    let (mut rest, mut square, mut product) = (power.unsigned_abs(), base, 1i64);
    while rest > 0 {
        if rest % 2 == 1 {
            product = product.wrapping_mul(square);
        }
        square = square.wrapping_mul(square);
        rest /= 2;
    }
    product
}

/// Numbers as the symbolic ones that tract has for dimensions, all 64 bits of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ToDimension;

impl Op for ToDimension {
    fn name(&self) -> StaticName {
        "ToDimension".into()
    }

    op_as_typed_op!();
}

impl EvalOp for ToDimension {
    op_out_of_plan!();

    fn eval(&self, _context: &EvalContext, inputs: TVec<TValue>) -> TractResult<TVec<TValue>> {
        let input = args_1!(inputs);
        let numbers = input.cast_to::<i64>()?;
        let plain = numbers.try_as_plain_ram()?;
        let dimensions: Vec<TDim> = plain
            .as_slice::<i64>()?
            .iter()
            .map(|&number| number.into())
            .collect();
        Ok(tvec!(
            tensor1(&dimensions)
                .into_shape(input.shape())?
                .into_tvalue()
        ))
    }
}

impl TypedOp for ToDimension {
    fn output_facts(&self, inputs: &[&TypedFact]) -> TractResult<TVec<TypedFact>> {
        Ok(tvec!(TDim::fact(inputs[0].shape.clone())))
    }

    as_op!();
}

/// One of tract's operators, hidden from the optimiser.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Hidden(pub(crate) Box<dyn TypedOp>);

impl Op for Hidden {
    fn name(&self) -> StaticName {
        self.0.name()
    }

    op_as_typed_op!();
}

impl EvalOp for Hidden {
    fn eval_out_of_plan(&self, inputs: TVec<TValue>) -> TractResult<Option<TVec<TValue>>> {
        self.0.eval_out_of_plan(inputs)
    }

    fn eval(&self, context: &EvalContext, inputs: TVec<TValue>) -> TractResult<TVec<TValue>> {
        self.0.eval(context, inputs)
    }
}

impl TypedOp for Hidden {
    fn output_facts(&self, inputs: &[&TypedFact]) -> TractResult<TVec<TypedFact>> {
        self.0.output_facts(inputs)
    }

    as_op!();
}
