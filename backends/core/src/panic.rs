//! Calls into an engine, whose panics and refused divisions become errors of the caller's.

use std::any::Any;
use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::division::Watch;
use crate::{Error, ErrorKind, Result};

thread_local! {
    static IN_ENGINE: Cell<bool> = const { Cell::new(false) };
}

/// Whether this thread is inside [`run_engine`]: a panic hook asks, because such a panic is reported as
/// an error and needs no message of its own.
pub fn in_engine() -> bool {
    IN_ENGINE.get()
}

/// Runs `work`, which calls into an engine, and turns a panic of the engine into an error, and a division of whole numbers
/// that the processor refuses, which would end the process.
///
/// What `work` was using may be in any state after a panic and must be dropped.
///
/// # Errors
/// Those of `work`; `RuntimeError` for a panic, with the engine's own message, and for such a division.
pub fn run_engine<T>(engine: &str, work: impl FnOnce() -> Result<T>) -> Result<T> {
    let watch = Watch::start(engine);
    let outer = IN_ENGINE.replace(true);
    let result = catch_unwind(AssertUnwindSafe(work));
    IN_ENGINE.set(outer);
    if watch.saw_one() {
        let message = format!("{engine} divided a whole number by 0, or the smallest one by -1");
        return Err(Error::new(ErrorKind::RuntimeError, message));
    }
    result.unwrap_or_else(|panic| {
        Err(Error::new(
            ErrorKind::RuntimeError,
            format!("{engine} panicked: {}", panic_message(&*panic)),
        ))
    })
}

fn panic_message(panic: &(dyn Any + Send)) -> &str {
    match (panic.downcast_ref::<&str>(), panic.downcast_ref::<String>()) {
        (Some(text), _) => text,
        (_, Some(text)) => text,
        _ => "no message",
    }
}
