//! What answers to a model's name: a model that an engine runs, or a guest that is served as one.

use std::sync::Arc;
use std::time::Instant;

use infer_core::{Cancel, Result, Signature, Tensor};
use infer_models::ModelStore;
use tokio::sync::Notify;

use crate::backends::Backends;
use crate::engine::Engine;
use crate::guest::Guest;
use crate::nn::info;
use crate::open::load_model;
use crate::registry::Model;
use crate::scheduler::{Asker, Counters, Owner};
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
    program: Arc<Guest>,
    signature: Signature,
    calls: Arc<Counters>,
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

    /// Has a guest describe itself, whose calls are counted by `calls`. Blocks; the thread must be one of a tokio runtime's that may.
    ///
    /// # Errors
    /// Those of the guest.
    pub(crate) fn describe(
        guest: &Arc<ServedGuest>,
        program: Arc<Guest>,
        calls: Arc<Counters>,
    ) -> Result<Served> {
        let signature = tokio::runtime::Handle::current().block_on(guest.describe(&program))?;
        Ok(Served::Guest(GuestModel {
            guest: guest.clone(),
            program,
            signature,
            calls,
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
        asker: Asker<'_>,
    ) -> Result<Vec<Tensor>> {
        match self {
            Served::Model(model, _) => model.infer_for(engine, inputs, asker).await,
            // Its calls have the level that it was granted.
            Served::Guest(guest) => guest.infer(inputs, asker.cancel).await,
        }
    }
}

impl GuestModel {
    async fn infer(&self, inputs: Vec<(String, Tensor)>, cancel: &Cancel) -> Result<Vec<Tensor>> {
        let inputs = self.signature.arrange(inputs)?;
        let (since, rows) = (Instant::now(), infer_core::rows(&inputs));
        let mut counting = self.calls.counting(since, Owner::default());
        let result = self.transform(inputs, cancel).await;
        if result.is_ok() {
            self.calls.ran((1, rows), since.elapsed());
        }
        counting.ends(&result);
        result
    }

    async fn transform(&self, inputs: Vec<Tensor>, cancel: &Cancel) -> Result<Vec<Tensor>> {
        let model = (&*self.program, &self.signature);
        let stopped = Arc::new(Notify::new());
        let notify = stopped.clone();
        let _hook = cancel.on_cancel(move || notify.notify_one());
        tokio::select! {
            biased;
            // If it is dropped, the instance is stopped.
            outputs = self.guest.transform(model, inputs, cancel) => outputs,
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

#[cfg(test)]
mod tests {
    use std::num::NonZeroUsize;
    use std::time::Duration;

    use infer_core::{Dtype, ErrorKind};

    use super::*;
    use crate::config::{EngineConfig, Grants, Limits};
    use crate::serve::config::GuestConfig;
    use crate::serve::counters::Ending;
    use crate::serve::guests::Guests;

    const MISFIT: &str = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../guest-examples/target/wasm32-wasip2/release/misfit.wasm"
    );

    /// A guest of which there may be one instance, and no more may wait.
    struct Misfit {
        engine: Engine,
        guest: Arc<ServedGuest>,
        served: Served,
    }

    impl Misfit {
        async fn new() -> Misfit {
            let engine = Engine::new(&EngineConfig::default()).expect("an engine");
            let bytes = std::fs::read(MISFIT).expect("guest-examples/build makes it");
            let guest = Guest::compile(&engine, &bytes).expect("a guest");
            let config = GuestConfig {
                name: "misfit".to_owned(),
                path: MISFIT.into(),
                allow_precompiled: false,
                route: "/".to_owned(),
                models: None,
                grants: Grants::default(),
                limits: Limits::default(),
                concurrency: NonZeroUsize::MIN,
                queue: 0,
            };
            let backends = Arc::new(Backends::built_in());
            let guests = Guests::new(
                std::iter::once((config, guest)),
                (&backends, &Arc::default()),
            );
            let guest = guests.expect("a guest that can be served").all()[0].clone();
            let described = guest.clone();
            let served = tokio::task::spawn_blocking(move || {
                Served::describe(&described, described.program(), Arc::default())
            });
            let served = served.await.expect("no panic").expect("a description");
            Misfit {
                engine,
                guest,
                served,
            }
        }

        async fn ask(&self, what: &str, cancel: &Cancel) -> Result<Vec<Tensor>> {
            let what = Tensor::of_strings(vec![1], &[what]).expect("a string");
            let x = Tensor::copied_from(Dtype::F32, vec![1], &1.5f32.to_le_bytes());
            let inputs = vec![
                ("x".to_owned(), x.expect("a number")),
                ("do".to_owned(), what),
            ];
            self.served.infer(&self.engine, inputs, cancel.into()).await
        }

        /// Waits until so many instances are there: one that has answered is gone a little later.
        async fn running(&self, number: usize) {
            while self.guest.admission.running() != number {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        }
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_guest_is_asked_like_a_model() {
        let (misfit, cancel) = (Misfit::new().await, Cancel::default());
        assert!(misfit.served.model().is_none());
        misfit.running(0).await;
        let outputs = misfit.ask("pass", &cancel).await.expect("outputs");
        assert_eq!(
            outputs[0].host().expect("bytes"),
            1.5f32.to_le_bytes().as_slice()
        );
        let none = misfit
            .served
            .infer(&misfit.engine, Vec::new(), (&cancel).into())
            .await;
        let error = none.expect_err("no inputs");
        assert_eq!(error.to_string(), "missing input `do`: expected string [1]");
        let cases = [
            (
                "refuse",
                ErrorKind::InvalidArgument,
                "the inputs are not to its liking",
            ),
            ("trap", ErrorKind::RuntimeError, "the guest `misfit` failed"),
            (
                "missing",
                ErrorKind::RuntimeError,
                "the guest `misfit`: its outputs are not as it described them",
            ),
        ];
        for (what, kind, text) in cases {
            misfit.running(0).await;
            let error = misfit.ask(what, &cancel).await.expect_err(what);
            assert_eq!((error.kind(), error.to_string().as_str()), (kind, text));
        }
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn who_stops_waiting_gives_the_place_back() {
        let misfit = Arc::new(Misfit::new().await);
        for cancelled in [true, false] {
            misfit.running(0).await;
            let cancel = Cancel::default();
            let (asking, asked) = (misfit.clone(), cancel.clone());
            let looping = tokio::spawn(async move { asking.ask("loop", &asked).await });
            misfit.running(1).await;
            let error = misfit
                .ask("pass", &Cancel::default())
                .await
                .expect_err("full");
            assert_eq!(error.kind(), ErrorKind::Busy, "{error}");
            if cancelled {
                cancel.cancel();
                let error = looping.await.expect("no panic").expect_err("cancelled");
                assert_eq!(error.kind(), ErrorKind::Timeout, "{error}");
            } else {
                looping.abort();
            }
            misfit.running(0).await;
            misfit
                .ask("pass", &Cancel::default())
                .await
                .expect("its turn");
            let counted = |ending| misfit.guest.requests.count(ending);
            while counted(Ending::Ok) < 1 + u64::from(!cancelled) {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            assert_eq!(counted(Ending::Timeout), 1, "the deadline's");
            assert_eq!(
                counted(Ending::Cancelled),
                u64::from(!cancelled),
                "the client's"
            );
        }
    }
}
