//! What answers to a model's name: a model that an engine runs, or a guest that is served as one.

use std::sync::Arc;

use infer_core::{Cancel, Result, Signature, Tensor};
use infer_models::ModelStore;
use tokio::sync::Notify;

use crate::backends::Backends;
use crate::engine::Engine;
use crate::nn::info;
use crate::open::load_model;
use crate::registry::Model;
use crate::scheduler::Counters;
use crate::serve::config::ModelConfig;
use crate::serve::guests::ServedGuest;
use crate::tune::inputs;

/// What the protocol calls the platform of a guest.
pub(crate) const GUEST_PLATFORM: &str = "infer_guest";

/// One of both. Their requests look alike.
pub(crate) enum Served {
    /// A model, and `NAME#info` about it.
    Model(Arc<Model>, Arc<Model>),
    Guest(GuestModel),
}

/// A guest that has described itself.
pub(crate) struct GuestModel {
    guest: Arc<ServedGuest>,
    signature: Signature,
}

impl Served {
    /// Loads a model, of which calls are counted by `calls`. Blocks.
    ///
    /// # Errors
    /// Those of finding, loading and warming up.
    pub(crate) fn load(
        backends: &Backends,
        (store, config): (&ModelStore, &ModelConfig),
        calls: Arc<Counters>,
    ) -> Result<Served> {
        let files = config.reference.open(store)?;
        let model = load_model(backends, &files, &config.selection, calls)?;
        let model = Arc::new(model);
        if config.warm_up {
            warm_up(&model)?;
        }
        let information = Arc::new(info::model(&model, Some(&files))?);
        Ok(Served::Model(model, information))
    }

    /// Has a guest describe itself. Blocks; the thread must be one of a tokio runtime's that may.
    ///
    /// # Errors
    /// Those of the guest.
    pub(crate) fn describe(guest: &Arc<ServedGuest>) -> Result<Served> {
        let signature = tokio::runtime::Handle::current().block_on(guest.describe())?;
        Ok(Served::Guest(GuestModel {
            guest: guest.clone(),
            signature,
        }))
    }

    /// What it takes and gives.
    pub(crate) fn signature(&self) -> &Signature {
        match self {
            Served::Model(model, _) => model.signature(),
            Served::Guest(guest) => &guest.signature,
        }
    }

    /// The model that an engine runs, if it is one.
    pub(crate) fn model(&self) -> Option<&Arc<Model>> {
        match self {
            Served::Model(model, _) => Some(model),
            Served::Guest(_) => None,
        }
    }

    /// Makes outputs, in the signature's order, of named inputs, without blocking. Dropping the future is enough where
    /// nobody waits any more.
    ///
    /// # Errors
    /// `InvalidArgument` for inputs that do not fit, and what a guest refuses; `Busy` where too many wait; `Timeout`
    /// when cancelled; those of the engine or the guest.
    pub(crate) async fn infer(
        &self,
        engine: &Engine,
        inputs: Vec<(String, Tensor)>,
        cancel: &Cancel,
    ) -> Result<Vec<Tensor>> {
        match self {
            Served::Model(model, _) => model.infer(engine, inputs, cancel).await,
            Served::Guest(guest) => guest.infer(inputs, cancel).await,
        }
    }
}

impl GuestModel {
    async fn infer(&self, inputs: Vec<(String, Tensor)>, cancel: &Cancel) -> Result<Vec<Tensor>> {
        let inputs = self.signature.arrange(inputs)?;
        let stopped = Arc::new(Notify::new());
        let notify = stopped.clone();
        let _hook = cancel.on_cancel(move || notify.notify_one());
        tokio::select! {
            biased;
            // If it is dropped, the instance is stopped.
            outputs = self.guest.transform(&self.signature, inputs) => outputs,
            () = stopped.notified() => cancel.check().map(|()| Vec::new()),
        }
    }
}

/// Runs a model once: engines put off work until then.
fn warm_up(model: &Model) -> Result<()> {
    let made = match inputs::make(model.signature(), &[]) {
        Ok(made) => made,
        Err(error) => {
            tracing::info!(
                "model `{}` is not warmed up: {}",
                model.name(),
                error.report()
            );
            return Ok(());
        }
    };
    let made: Vec<Tensor> = model.signature().arrange(made)?;
    model.scheduler().run(made, &Cancel::default(), &mut None)?;
    Ok(())
}
