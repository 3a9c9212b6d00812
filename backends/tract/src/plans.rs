//! How a model is run: by one plan for calls of any shape, or by a plan for the shapes of each call.
//!
//! tract has its good convolutions (depthwise ones, and those that do not unfold the image) only where every shape
//! is known. A network of convolutions that leaves dimensions open therefore gets a plan for the shapes that come, and
//! so does a model of which tract cannot tell what it computes before it knows the shapes. The last plans are kept.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;

use infer_core::{Cancel, Error, ErrorKind, Result, Tensor, run_engine};
use tract_onnx::prelude::*;

use crate::limits::{self, Sizes};
use crate::load::rejected;
use crate::reading::Reading;

/// How many plans are kept of a model that the host has in a file; each has weights of its own, in the order in which
/// tract reads them.
pub(crate) const KEPT: usize = 4;

/// The stack that plans are made on, as loading has it.
const STACK: usize = 64 << 20;

/// The plans of a model.
pub(crate) enum Plans {
    Any(Arc<Plan>),
    ByShapes(Box<ByShapes>),
}

/// A model that is optimised and ordered, and which of its nodes are to be measured in a run.
pub(crate) struct Plan {
    pub(crate) runnable: Arc<TypedRunnableModel>,
    pub(crate) sizes: Sizes,
}

/// The plans for the shapes that came last.
pub(crate) struct ByShapes {
    reading: Reading,
    /// The one that was used last comes last. Those that are being made are there beside those that are kept.
    made: Mutex<Vec<Made>>,
    kept: usize,
}

#[derive(Clone)]
struct Made {
    shapes: Vec<Vec<usize>>,
    /// Held while the plan is made, by those alone who wait for it.
    plan: Arc<Mutex<Option<Arc<Plan>>>>,
}

impl Plans {
    /// Plans by the shapes of calls, of which this many are kept.
    pub(crate) fn by_shapes(reading: Reading, kept: usize) -> Plans {
        Plans::ByShapes(Box::new(ByShapes {
            reading,
            made: Mutex::default(),
            kept,
        }))
    }

    /// The plan for these inputs: always the same one for the same shapes.
    ///
    /// # Errors
    /// Where it has to be made, those of [`Plan::of`] and of [`Reading::for_shapes`].
    pub(crate) fn plan(&self, inputs: &[Tensor], cancel: &Cancel) -> Result<Arc<Plan>> {
        match self {
            Plans::Any(plan) => Ok(plan.clone()),
            Plans::ByShapes(plans) => plans.plan(inputs, cancel),
        }
    }
}

impl ByShapes {
    fn plan(&self, inputs: &[Tensor], cancel: &Cancel) -> Result<Arc<Plan>> {
        let entry = self.entry(inputs);
        let mut plan = entry.plan.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(plan) = &*plan {
            return Ok(plan.clone());
        }
        // What has been begun is finished, for those who ask next: planning takes longer than many a deadline.
        let begun = Cancel::default();
        let made = with_stack(|| Plan::of(self.reading.for_shapes(inputs, cancel)?, &begun));
        self.settle(&entry, made.is_ok());
        Ok(plan.insert(Arc::new(made?)).clone())
    }

    /// Gives up the plan that was used longest ago for one that was made. One that could not be made costs none.
    fn settle(&self, entry: &Made, is_made: bool) {
        let mut made = self.made();
        let is_it = |other: &Made| Arc::ptr_eq(&other.plan, &entry.plan);
        if !is_made {
            made.retain(|other| !is_it(other));
            return;
        }
        // Another who waited for it may have failed to make it before.
        if !made.iter().any(is_it) {
            made.push(entry.clone());
        }
        if made.len() > self.kept {
            made.remove(0);
        }
    }

    fn made(&self) -> MutexGuard<'_, Vec<Made>> {
        self.made.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn entry(&self, inputs: &[Tensor]) -> Made {
        let mut made = self.made();
        let is_for = |entry: &Made| {
            let mut pairs = entry.shapes.iter().zip(inputs);
            pairs.all(|(shape, input)| shape == input.shape())
        };
        let entry = match made.iter().position(is_for) {
            Some(place) => made.remove(place),
            None => Made {
                shapes: inputs.iter().map(|input| input.shape().to_vec()).collect(),
                plan: Arc::default(),
            },
        };
        made.push(entry.clone());
        entry
    }
}

/// Runs what recurses over a model, on a thread that has the stack for it.
fn with_stack<T: Send>(work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
    thread::scope(|scope| {
        let thread = thread::Builder::new().name("tract-plan".to_owned());
        let work = || run_engine("tract", work);
        let started = thread.stack_size(STACK).spawn_scoped(scope, work);
        let failed = || Error::new(ErrorKind::RuntimeError, "tract could not plan the model");
        let started = started.map_err(|e| failed().with_source(e))?;
        started.join().unwrap_or_else(|_| Err(failed()))
    })
}

impl Plan {
    /// # Errors
    /// `UnsupportedOperation` where tract cannot optimise the model, `TooLarge`, `Cancelled`.
    pub(crate) fn of(mut simplified: TypedModel, cancel: &Cancel) -> Result<Plan> {
        cancel.check()?;
        simplified.optimize().map_err(|e| rejected("optimise", e))?;
        cancel.check()?;
        limits::check(&simplified)?;
        let sizes = Sizes::of(&simplified);
        let runnable = simplified.into_runnable();
        let runnable = runnable.map_err(|e| rejected("plan", e))?;
        Ok(Plan { runnable, sizes })
    }
}
