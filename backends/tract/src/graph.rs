//! A loaded model and its sessions.

use std::collections::BTreeMap;
use std::sync::Arc;

use infer_core::{
    Arithmetic, Call, Cancel, Device, Error, ErrorKind, Graph, Placement, Result, Session,
    SharedDimension, Signature, Tensor, run_batch, run_each,
};
use tract_onnx::pb::ValueInfoProto;
use tract_onnx::prelude::*;
use tract_onnx::tract_core::plan::{SimpleState, eval};
use tract_onnx::tract_hir::internal::{IntoTValue, SymbolValues, TDim, format_err};

use crate::convert::{from_tract, to_tract};
use crate::load::{flat, symbols};
use crate::plans::{Plan, Plans};

type State = SimpleState<TypedFact, Box<dyn TypedOp>>;

/// A model, optimised and planned.
pub(crate) struct TractGraph {
    plans: Arc<Plans>,
    signature: Signature,
}

impl TractGraph {
    pub(crate) fn new(plans: Plans, signature: Signature) -> TractGraph {
        TractGraph {
            plans: Arc::new(plans),
            signature,
        }
    }
}

impl Graph for TractGraph {
    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn placement(&self) -> Placement {
        Placement {
            device: Device::Cpu,
            precision: Arithmetic::F32,
            nodes: None,
            elsewhere: Vec::new(),
        }
    }

    fn concurrency(&self) -> usize {
        // Sessions share nothing that changes; more of them than processors only cost memory.
        std::thread::available_parallelism().map_or(1, usize::from)
    }

    fn session(&self) -> Result<Box<dyn Session>> {
        Ok(Box::new(TractSession {
            plans: self.plans.clone(),
            planned: None,
        }))
    }
}

struct TractSession {
    plans: Arc<Plans>,
    planned: Option<Planned>,
}

/// The plan of the last run, and the state that its runs are made in.
struct Planned {
    plan: Arc<Plan>,
    state: State,
}

impl Session for TractSession {
    fn run(&mut self, calls: &mut [Call]) {
        match &*self.plans {
            Plans::Any(_) => run_batch(calls, |inputs, cancel| self.run_one(inputs, cancel)),
            // Together they would need a plan for each size of a batch.
            Plans::ByShapes(_) => run_each(calls, |inputs, cancel| self.run_one(inputs, cancel)),
        }
    }

    fn reset(&mut self) -> Result<()> {
        self.planned.as_mut().map_or(Ok(()), Planned::reset)
    }
}

impl TractSession {
    fn run_one(&mut self, inputs: &[Tensor], cancel: &Cancel) -> Result<Vec<Tensor>> {
        cancel.check()?;
        let planned = self.planned(inputs, cancel)?;
        let inputs = inputs
            .iter()
            .map(|tensor| to_tract(tensor).map(Into::into))
            .collect::<Result<_>>()?;
        let outputs = planned.run(inputs, cancel);
        // The values of this run must not reach the next one.
        planned.reset()?;
        match outputs {
            Ok(outputs) => outputs.into_iter().map(from_tract).collect(),
            Err(error) => {
                cancel.check()?;
                Err(ours(error).unwrap_or_else(|e| failed("tract could not run the model", e)))
            }
        }
    }

    fn planned(&mut self, inputs: &[Tensor], cancel: &Cancel) -> Result<&mut Planned> {
        let plan = self.plans.plan(inputs, cancel)?;
        let planned = match self.planned.take() {
            Some(planned) if Arc::ptr_eq(&planned.plan, &plan) => planned,
            _ => Planned::new(plan)?,
        };
        Ok(self.planned.insert(planned))
    }
}

impl Planned {
    fn new(plan: Arc<Plan>) -> Result<Planned> {
        let state = plan.runnable.spawn();
        let state = state.map_err(|e| failed("tract could not make a session", e))?;
        Ok(Planned { plan, state })
    }

    fn run(&mut self, inputs: TVec<TValue>, cancel: &Cancel) -> TractResult<TVec<TValue>> {
        let sizes = &self.plan.sizes;
        self.state.set_inputs(inputs)?;
        self.state
            .exec_plan_with_eval(|context, state, node, inputs| {
                // Between nodes is the only place where tract can be stopped.
                if cancel.is_cancelled() {
                    return Err(format_err!("cancelled"));
                }
                sizes.check(node, context.symbols)?;
                eval(context, state, node, inputs)
            })?;
        let outputs = self.state.outputs()?;
        let symbols = &self.state.turn_state.resolved_symbols;
        outputs
            .into_iter()
            .map(|value| with_numbers(value, symbols))
            .collect()
    }

    fn reset(&mut self) -> Result<()> {
        if self.state.turn_state.values.is_empty() {
            // No run has got as far as its first value; tract's own reset takes that for impossible.
            self.state.turn_state.resolved_symbols = SymbolValues::default();
            return Ok(());
        }
        self.state
            .reset_turn()
            .map_err(|e| failed("tract could not reset a session", e))
    }
}

/// Dimensions that are still symbols, as the numbers that they were in this run.
fn with_numbers(value: TValue, symbols: &SymbolValues) -> TractResult<TValue> {
    if value.datum_type() != DatumType::TDim {
        return Ok(value);
    }
    let plain = value.try_as_plain_ram()?;
    let dimensions = plain.as_slice::<TDim>()?;
    let numbers: Vec<i64> = dimensions
        .iter()
        .map(|dimension| dimension.eval(symbols).to_i64())
        .collect::<std::result::Result<_, _>>()?;
    Ok(tensor1(&numbers).into_shape(value.shape())?.into_tvalue())
}

/// Dimensions that several inputs share by name (`batch`, say) and that must agree in a call.
///
/// tract would find a disagreement too, but only in the middle of a run and in words of its own.
pub(crate) fn shared_dimensions(inputs: &[&ValueInfoProto]) -> Vec<SharedDimension> {
    let mut found: BTreeMap<String, Vec<(usize, usize)>> = BTreeMap::new();
    for (input, declaration) in inputs.iter().enumerate() {
        for (axis, symbol) in symbols(declaration).into_iter().enumerate() {
            if let Some(symbol) = symbol {
                let places = found.entry(symbol.to_owned()).or_default();
                places.push((input, axis));
            }
        }
    }
    found.retain(|_, places| places.len() > 1);
    found
        .into_iter()
        .map(|(name, places)| SharedDimension { name, places })
        .collect()
}

/// An error that we raised inside of tract, as it was.
fn ours(error: TractError) -> std::result::Result<Error, TractError> {
    error.downcast()
}

fn failed(message: &str, error: TractError) -> Error {
    Error::new(ErrorKind::RuntimeError, message).with_source(flat(error))
}
