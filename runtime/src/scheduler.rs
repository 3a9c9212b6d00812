//! One model's sessions: who may run now, and on what.
//!
//! A caller waits its turn, first come first served, takes an idle session or makes one, and runs it on
//! its own thread. There are never more sessions than the graph runs at once. A caller's thread may be
//! blocked by the engine for long: guests have threads of their own.

use std::sync::{Arc, Mutex, PoisonError};

use infer_core::{Call, Cancel, Error, ErrorKind, Graph, Result, Session, Tensor, run_engine};
use tokio::sync::Semaphore;

/// Runs one model's calls.
pub(crate) struct Scheduler {
    engine: &'static str,
    graph: Arc<dyn Graph>,
    turns: Semaphore,
    idle: Mutex<Vec<Box<dyn Session>>>,
}

/// A session that one guest's context keeps, because the graph remembers.
pub(crate) type OwnSession = Option<Box<dyn Session>>;

impl Scheduler {
    pub(crate) fn new(engine: &'static str, graph: Arc<dyn Graph>) -> Scheduler {
        let turns = Semaphore::new(graph.concurrency().max(1));
        Scheduler {
            engine,
            graph,
            turns,
            idle: Mutex::new(Vec::new()),
        }
    }

    pub(crate) fn graph(&self) -> &dyn Graph {
        &*self.graph
    }

    /// Runs one call; inputs are checked and in order. A stateful graph runs on `own`, which is made when
    /// it is first needed; any other on a pooled session.
    pub(crate) async fn run(
        &self,
        inputs: Vec<Tensor>,
        cancel: &Cancel,
        own: &mut OwnSession,
    ) -> Result<Vec<Tensor>> {
        let _turn = self.turns.acquire().await.map_err(|_| closed())?;
        cancel.check()?;
        let stateful = self.graph.signature().stateful;
        let session = if stateful {
            own.take()
        } else {
            self.idle().pop()
        };
        let mut call = [Call::new(inputs, cancel.clone())];
        let session = run_engine(self.engine, || {
            let mut session = session.map_or_else(|| self.graph.session(), Ok)?;
            session.run(&mut call);
            Ok(session)
        })?;
        // A session that panicked is gone by now; one that only failed is as good as before.
        match stateful {
            true => *own = Some(session),
            false => self.idle().push(session),
        }
        let [call] = call;
        call.result.unwrap_or_else(|| {
            Err(Error::new(
                ErrorKind::RuntimeError,
                "the engine gave no result",
            ))
        })
    }

    fn idle(&self) -> std::sync::MutexGuard<'_, Vec<Box<dyn Session>>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn closed() -> Error {
    Error::new(ErrorKind::RuntimeError, "the model is closed")
}
