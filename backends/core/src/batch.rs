//! Several calls as one run: their inputs one below the other, and the outputs cut apart again.
//!
//! A backend runs a batch by [`run_batch`], which joins, runs once and splits. The joined input is one copy into
//! memory that the engine borrows; the outputs are slices of the engine's own buffer.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::tensor::Builder;
use crate::{Call, Cancel, Dtype, Error, ErrorKind, Hook, Result, Signature, Tensor};

impl Signature {
    /// Whether the dimensions let several calls be one: the first of every input and output is dynamic, and the
    /// inputs share it. Whether the model then keeps the rows apart only a run can tell.
    pub fn can_batch(&self) -> bool {
        let mut all = self.inputs.iter().chain(&self.outputs);
        let dynamic = all.all(|info| {
            info.dtype != Dtype::String && info.dimensions.first().is_some_and(Option::is_none)
        });
        let shared = |dimension: &crate::SharedDimension| {
            (0..self.inputs.len()).all(|input| dimension.places.contains(&(input, 0)))
        };
        !self.stateful
            && !self.inputs.is_empty()
            && dynamic
            && (self.inputs.len() == 1 || self.shared.iter().any(shared))
    }
}

/// The number of rows of checked inputs of a signature that can be batched.
pub fn rows(inputs: &[Tensor]) -> usize {
    let first = inputs.first().and_then(|input| input.shape().first());
    first.copied().unwrap_or(0)
}

/// Whether two calls' inputs differ in their number of rows at most.
pub fn fit_together(some: &[Tensor], others: &[Tensor]) -> bool {
    let fits = |(some, other): (&Tensor, &Tensor)| {
        some.dtype() == other.dtype() && some.shape().get(1..) == other.shape().get(1..)
    };
    some.len() == others.len() && some.iter().zip(others).all(fits)
}

/// Runs calls, several as one, and fills in their results. `run` runs one set of inputs on the engine.
///
/// A batch stops when all of its calls shall stop. Where a batch fails, each call is run by itself, so that one
/// caller's values cost nobody else an answer.
pub fn run_batch(
    calls: &mut [Call],
    mut run: impl FnMut(&[Tensor], &Cancel) -> Result<Vec<Tensor>>,
) {
    if calls.len() > 1 && run_joined(calls, &mut run).is_ok() {
        return;
    }
    run_each(calls, run);
}

/// Runs calls one after the other, for engines that have nothing from running them together.
pub fn run_each(
    calls: &mut [Call],
    mut run: impl FnMut(&[Tensor], &Cancel) -> Result<Vec<Tensor>>,
) {
    for call in calls {
        let ran = call.cancel.check();
        call.result = Some(ran.and_then(|()| run(&call.inputs, &call.cancel)));
    }
}

fn run_joined(
    calls: &mut [Call],
    run: &mut impl FnMut(&[Tensor], &Cancel) -> Result<Vec<Tensor>>,
) -> Result<()> {
    let joined = join(calls)?;
    let (cancel, _hooks) = when_all(calls);
    let outputs = run(&joined, &cancel)?;
    let mut start = 0;
    let ends: Vec<(usize, usize)> = calls
        .iter()
        .map(|call| {
            let rows = rows(&call.inputs);
            start += rows;
            (start - rows, start)
        })
        .collect();
    let parts: Vec<Vec<Tensor>> = ends
        .into_iter()
        .map(|(from, to)| outputs.iter().map(|o| o.rows(from, to, start)).collect())
        .collect::<Result<_>>()?;
    for (call, part) in calls.iter_mut().zip(parts) {
        call.result = Some(call.cancel.check().map(|()| part));
    }
    Ok(())
}

/// Every input of all calls, one call's rows below another's.
fn join(calls: &[Call]) -> Result<Vec<Tensor>> {
    let Some((first, others)) = calls.split_first() else {
        return Ok(Vec::new());
    };
    if let Some(other) = others
        .iter()
        .find(|other| !fit_together(&first.inputs, &other.inputs))
    {
        let message = format!(
            "the inputs {:?} and {:?} do not fit into one batch",
            first.inputs, other.inputs
        );
        return Err(Error::new(ErrorKind::InvalidArgument, message));
    }
    (0..first.inputs.len())
        .map(|index| {
            let input = &first.inputs[index];
            let rows = calls.iter().map(|call| rows(&call.inputs)).sum();
            let mut shape = input.shape().to_vec();
            shape[0] = rows;
            let mut joined = Builder::new(input.dtype(), shape)?;
            for call in calls {
                joined.append(&call.inputs[index].host()?);
            }
            joined.finish()
        })
        .collect()
}

/// A flag that is set once all calls' are, and the hooks that set it.
fn when_all(calls: &[Call]) -> (Cancel, Vec<Hook>) {
    let all = Cancel::default();
    let left = Arc::new(AtomicUsize::new(calls.len()));
    let hook = |call: &Call| {
        let (all, left) = (all.clone(), left.clone());
        call.cancel.on_cancel(move || {
            if left.fetch_sub(1, Ordering::AcqRel) == 1 {
                all.cancel();
            }
        })
    };
    let hooks = calls.iter().map(hook).collect();
    (all, hooks)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{SharedDimension, TensorInfo};

    fn tensor(rows: usize, first: u8) -> Tensor {
        let bytes: Vec<u8> = (0..rows as u8 * 2).map(|place| first + place).collect();
        Tensor::copied_from(Dtype::U8, vec![rows, 2], &bytes).expect("valid")
    }

    fn calls() -> Vec<Call> {
        let call = |rows, first| Call::new(vec![tensor(rows, first)], Cancel::default());
        vec![call(1, 10), call(3, 20), call(2, 30)]
    }

    #[test]
    fn a_batch_is_one_run_and_each_call_gets_its_own_rows() {
        let (mut calls, mut runs) = (calls(), 0);
        run_batch(&mut calls, |inputs, _| {
            runs += 1;
            Ok(inputs.to_vec())
        });
        assert_eq!(runs, 1);
        for call in calls {
            let outputs = call.result.expect("ran").expect("works");
            assert_eq!(outputs[0].shape(), call.inputs[0].shape());
            assert_eq!(outputs[0].host().ok(), call.inputs[0].host().ok());
        }
    }

    #[test]
    fn a_failing_batch_costs_only_the_call_that_fails() {
        let mut calls = calls();
        run_batch(&mut calls, |inputs, _| {
            let bytes = inputs[0].host()?;
            match bytes.contains(&20) {
                true => Err(Error::new(ErrorKind::RuntimeError, "20 is no number")),
                false => Ok(inputs.to_vec()),
            }
        });
        let worked: Vec<bool> = calls
            .iter()
            .map(|call| call.result.as_ref().is_some_and(Result::is_ok))
            .collect();
        assert_eq!(worked, [true, false, true]);
    }

    #[test]
    fn an_output_of_other_rows_is_never_cut_apart() {
        let (mut calls, mut runs) = (calls(), Vec::new());
        run_batch(&mut calls, |inputs, _| {
            runs.push(rows(inputs));
            Ok(vec![tensor(1, 0)])
        });
        assert_eq!(runs, [6, 1, 3, 2], "the batch, then each by itself");
    }

    #[test]
    fn a_batch_stops_when_all_its_calls_shall_stop() {
        let mut calls = calls();
        let cancels: Vec<Cancel> = calls.iter().map(|call| call.cancel.clone()).collect();
        run_batch(&mut calls, |inputs, cancel| {
            cancels[0].cancel();
            cancels[1].cancel();
            assert!(!cancel.is_cancelled());
            cancels[2].cancel();
            assert!(cancel.is_cancelled());
            cancel.check().map(|()| inputs.to_vec())
        });
        for call in calls {
            let error = call.result.expect("ran").expect_err("cancelled");
            assert_eq!(error.kind(), ErrorKind::Timeout);
        }
    }

    #[test]
    fn only_dynamic_and_shared_first_dimensions_can_be_batched() {
        let info = |dimensions: &[Option<usize>]| TensorInfo {
            name: "x".to_owned(),
            dtype: Dtype::F32,
            dimensions: dimensions.to_vec(),
        };
        let (rows, fixed) = (info(&[None, Some(2)]), info(&[Some(1), None]));
        let shared = SharedDimension {
            name: "batch".to_owned(),
            places: vec![(0, 0), (1, 0)],
        };
        let signature = |inputs: &[&TensorInfo], outputs: &[&TensorInfo]| Signature {
            inputs: inputs.iter().map(|&info| info.clone()).collect(),
            outputs: outputs.iter().map(|&info| info.clone()).collect(),
            ..Signature::default()
        };
        assert!(signature(&[&rows], &[&rows]).can_batch());
        assert!(!signature(&[&rows], &[&rows, &fixed]).can_batch());
        assert!(!signature(&[&fixed], &[&rows]).can_batch());
        assert!(!signature(&[], &[&rows]).can_batch());
        assert!(!signature(&[&rows], &[&info(&[])]).can_batch());
        let mut two = signature(&[&rows, &rows], &[&rows]);
        assert!(!two.can_batch(), "nothing says that the rows are the same");
        two.shared.push(shared);
        assert!(two.can_batch());
        two.stateful = true;
        assert!(!two.can_batch());
    }
}
