//! The engine without this backend, for measuring the backend beside it.
#![allow(unsafe_code, reason = "a C library is called")]

use ort::AsPointer;
use ort::session::{IoBinding, Session};

use crate::api::status;

/// One run of a session on inputs and outputs that are bound, and nothing else. `ort`'s own form asks the engine
/// about every output after every run, which takes longer than the run of a tiny model.
///
/// # Errors
/// Those of the engine.
pub fn run_bound(session: &mut Session, binding: &IoBinding) -> ort::Result<()> {
    // SAFETY: both are alive, and the caller has the only run of the session. The binding keeps what is bound alive.
    status(unsafe {
        (ort::api().RunWithBinding)(session.ptr().cast_mut(), std::ptr::null(), binding.ptr())
    })
}
