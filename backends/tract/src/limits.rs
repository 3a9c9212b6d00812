//! How large one tensor may get, checked before it is allocated: memory that the system refuses would
//! end the whole process. And how low the rank of some inputs may be.
//!
//! While a model is loaded, [`Measured`] looks at every operator's outputs before tract computes
//! constants, and [`check`] at the finished model. What depends on dynamic dimensions, which callers
//! choose, is measured before each node of a run by [`Sizes`].

use std::sync::OnceLock;

use infer_core::{Error, ErrorKind, Result, clip};
use tract_onnx::Onnx;
use tract_onnx::model::ParsingContext;
use tract_onnx::pb::NodeProto;
use tract_onnx::prelude::*;
use tract_onnx::tract_hir::internal::*;

use crate::refuse::unsupported;
use crate::repair::Built;

/// The most bytes that one tensor may have inside a model.
pub(crate) const LARGEST: usize = 4 << 30;

/// The highest rank of a tensor.
const HIGHEST_RANK: usize = 32;

/// The most parts, and the most levels of them, of an expression that stands for a dimension.
const MOST_PARTS: usize = 64;
const DEEPEST_PART: usize = 16;

/// An input of an operator that tract cannot take of a lower rank: it would read past the end, or never end.
#[derive(Clone, Copy, Debug)]
struct Lowest {
    operator: &'static str,
    place: usize,
    rank: i64,
}

impl Lowest {
    fn of(node: &NodeProto) -> TractResult<Option<Lowest>> {
        let (operator, place, rank) = match node.op_type.as_str() {
            "BatchNormalization" => ("BatchNormalization", 0, 2),
            "DFT" => ("DFT", 0, 1),
            "GatherND" => ("GatherND", 1, 1),
            "LayerNormalization" => {
                let axis = node.get_attr_opt("axis")?.unwrap_or(-1i64);
                let rank = axis.saturating_neg().max(axis.saturating_add(1));
                ("LayerNormalization", 0, rank)
            }
            _ => return Ok(None),
        };
        Ok(Some(Lowest {
            operator,
            place,
            rank,
        }))
    }

    /// Checks what is known before tract works out more. What the first input is, the first output is too.
    fn check(self, inputs: &[&InferenceFact], outputs: &[&InferenceFact]) -> Result<()> {
        let alike = outputs.first().filter(|_| self.place == 0);
        let known = inputs.get(self.place).into_iter().chain(alike);
        let mut ranks = known.filter_map(|fact| fact.shape.rank().concretize());
        match ranks.find(|rank| *rank < self.rank) {
            None => Ok(()),
            Some(rank) => Err(unsupported(format!(
                "tract cannot run `{}` of a tensor of rank {rank}, below {}",
                self.operator, self.rank
            ))),
        }
    }
}

/// The operators as they were before they were measured.
static OPERATORS: OnceLock<Onnx> = OnceLock::new();

/// The same reader, whose operators are measured before they are evaluated.
pub(crate) fn measured(mut onnx: Onnx) -> Onnx {
    let plain = OPERATORS.get_or_init(|| onnx.clone());
    for (name, builder) in &mut onnx.op_register.0 {
        // tract looks for constants by their type, and has their elements already.
        if name != "Constant" && plain.op_register.0.contains_key(name) {
            *builder = build_measured;
        }
    }
    onnx
}

fn build_measured(context: &ParsingContext, node: &NodeProto) -> Built {
    let builder = OPERATORS
        .get()
        .and_then(|onnx| onnx.op_register.0.get(&node.op_type));
    let (operator, closures) =
        builder.context("the reader was not made by `measured`")?(context, node)?;
    let lowest = Lowest::of(node)?;
    Ok((Box::new(Measured(operator, lowest)), closures))
}

/// An operator that refuses to have outputs that are too large.
#[derive(Clone, Debug)]
struct Measured(Box<dyn InferenceOp>, Option<Lowest>);

impl PartialEq for Measured {
    fn eq(&self, _: &Self) -> bool {
        false
    }
}

impl Eq for Measured {}

impl Op for Measured {
    fn name(&self) -> StaticName {
        self.0.name()
    }

    fn validation(&self) -> Validation {
        self.0.validation()
    }

    not_a_typed_op!();
}

impl EvalOp for Measured {
    fn eval_out_of_plan(&self, inputs: TVec<TValue>) -> TractResult<Option<TVec<TValue>>> {
        self.0.eval_out_of_plan(inputs)
    }

    fn eval(&self, context: &EvalContext, inputs: TVec<TValue>) -> TractResult<TVec<TValue>> {
        self.0.eval(context, inputs)
    }

    fn state(&self, context: &EvalContext) -> TractResult<Option<Box<dyn OpState>>> {
        self.0.state(context)
    }
}

impl InferenceOp for Measured {
    fn infer(
        &mut self,
        inputs: TVec<&InferenceFact>,
        outputs: TVec<&InferenceFact>,
        observed: TVec<&InferenceFact>,
    ) -> TractResult<(
        TVec<InferenceFact>,
        TVec<InferenceFact>,
        TVec<InferenceFact>,
    )> {
        if let Some(lowest) = self.1 {
            lowest.check(&inputs, &outputs)?;
        }
        // An error here is found again, and reported, by the call below.
        if let Ok((_, found, _)) =
            self.0
                .infer_facts(inputs.clone(), outputs.clone(), observed.clone())
        {
            found.iter().try_for_each(measure)?;
        }
        let inferred = self.0.infer(inputs, outputs, observed)?;
        inferred.1.iter().try_for_each(measure)?;
        Ok(inferred)
    }

    fn observe_outlets(
        &self,
        model: &InferenceModel,
        node: &InferenceNode,
    ) -> TractResult<Vec<OutletId>> {
        self.0.observe_outlets(model, node)
    }

    fn infer_facts(
        &mut self,
        inputs: TVec<&InferenceFact>,
        outputs: TVec<&InferenceFact>,
        observed: TVec<&InferenceFact>,
    ) -> TractResult<(
        TVec<InferenceFact>,
        TVec<InferenceFact>,
        TVec<InferenceFact>,
    )> {
        self.0.infer_facts(inputs, outputs, observed)
    }

    fn incorporate(
        &self,
        model: &InferenceModel,
        node: &InferenceNode,
    ) -> TractResult<Option<InferenceModelPatch>> {
        self.0.incorporate(model, node)
    }

    fn nboutputs(&self) -> TractResult<usize> {
        self.0.nboutputs()
    }

    fn to_typed(
        &self,
        source: &InferenceModel,
        node: &InferenceNode,
        target: &mut TypedModel,
        mapping: &HashMap<OutletId, OutletId>,
    ) -> TractResult<TVec<OutletId>> {
        self.0.to_typed(source, node, target, mapping)
    }

    as_op!();
}

fn measure(fact: &InferenceFact) -> TractResult<()> {
    let Some(shape) = fact.shape.concretize() else {
        return Ok(());
    };
    ensure!(
        shape.len() <= HIGHEST_RANK,
        "a tensor of rank {}, more than {HIGHEST_RANK}",
        shape.len()
    );
    shape.iter().try_for_each(check_expression)?;
    let dimensions = |value: &Arc<Tensor>| value.datum_type() == DatumType::TDim;
    if let Some(value) = fact.value.concretize().filter(dimensions) {
        let value = value.try_as_plain_ram()?;
        value
            .as_slice::<TDim>()?
            .iter()
            .try_for_each(check_expression)?;
    }
    let dtype = fact.datum_type.concretize();
    let size = dtype.map_or(1, |dtype| dtype.size_of());
    let known: Option<TVec<usize>> = shape
        .iter()
        .map(|dimension| dimension.to_usize().ok())
        .collect();
    let Some(known) = known.filter(|known| !fits(size, known)) else {
        return Ok(());
    };
    let negative = |dimension: &TDim| dimension.to_i64().is_ok_and(|dimension| dimension < 0);
    ensure!(!shape.iter().any(negative), "a tensor of {shape:?}");
    let message = format!(
        "the model would compute a tensor of {known:?}, which has more than {LARGEST} bytes"
    );
    Err(Error::new(ErrorKind::TooLarge, message).into())
}

/// tract works on expressions by recursion, which does not end when a factor overflows, and multiplies
/// products out.
fn check_expression(dimension: &TDim) -> TractResult<()> {
    let mut parts = 0;
    let fits = count(dimension, 0, &mut parts);
    if fits {
        return Ok(());
    }
    let message = format!(
        "tract cannot run the model: a dimension is an expression of more than {MOST_PARTS} parts or {DEEPEST_PART} levels"
    );
    Err(Error::new(ErrorKind::UnsupportedOperation, message).into())
}

/// Whether an expression is small enough; stops as soon as it is not.
fn count(dimension: &TDim, depth: usize, parts: &mut usize) -> bool {
    *parts += 1;
    if depth > DEEPEST_PART || *parts > MOST_PARTS {
        return false;
    }
    match dimension {
        TDim::Sym(_) | TDim::Val(_) => true,
        TDim::Add(terms)
        | TDim::Mul(terms)
        | TDim::Broadcast(terms)
        | TDim::Min(terms)
        | TDim::Max(terms) => terms.iter().all(|term| count(term, depth + 1, parts)),
        TDim::MulInt(factor, term) => {
            i32::try_from(*factor).is_ok() && count(term, depth + 1, parts)
        }
        TDim::Div(term, divisor) => {
            i32::try_from(*divisor).is_ok() && count(term, depth + 1, parts)
        }
        TDim::Ge(left, right) | TDim::Eq(left, right) => {
            count(left, depth + 1, parts) && count(right, depth + 1, parts)
        }
    }
}

fn fits(size: usize, shape: &[usize]) -> bool {
    let bytes = shape
        .iter()
        .try_fold(size, |bytes, &dimension| bytes.checked_mul(dimension));
    shape.contains(&0) || bytes.is_some_and(|bytes| bytes <= LARGEST)
}

/// Checks what is static in a finished model.
///
/// # Errors
/// `TooLarge`, with the node.
pub(crate) fn check(model: &TypedModel) -> Result<()> {
    for node in &model.nodes {
        for output in &node.outputs {
            if let Some(shape) = output.fact.shape.as_concrete() {
                check_output(node, &output.fact, shape)?;
            }
        }
    }
    Ok(())
}

/// Which nodes of a model have outputs whose size depends on the call.
pub(crate) struct Sizes(Vec<bool>);

impl Sizes {
    pub(crate) fn of(model: &TypedModel) -> Sizes {
        let dynamic = |node: &TypedNode| {
            node.outputs
                .iter()
                .any(|output| output.fact.shape.as_concrete().is_none())
        };
        Sizes(model.nodes.iter().map(dynamic).collect())
    }

    /// Measures a node before it is computed.
    ///
    /// # Errors
    /// `TooLarge`, with the node.
    pub(crate) fn check(&self, node: &TypedNode, symbols: &SymbolValues) -> Result<()> {
        if !self.0.get(node.id).copied().unwrap_or(true) {
            return Ok(());
        }
        for output in &node.outputs {
            // What is still unknown depends on the elements, and is no more than they are.
            if let Ok(shape) = output.fact.shape.eval_to_usize(symbols) {
                check_output(node, &output.fact, &shape)?;
            }
        }
        Ok(())
    }
}

fn check_output(node: &TypedNode, output: &TypedFact, shape: &[usize]) -> Result<()> {
    if fits(output.datum_type.size_of(), shape) {
        return Ok(());
    }
    let node = clip(&node.name);
    let message = format!(
        "node `{node}` would compute a tensor of {shape:?}, which has more than {LARGEST} bytes"
    );
    Err(Error::new(ErrorKind::TooLarge, message))
}
