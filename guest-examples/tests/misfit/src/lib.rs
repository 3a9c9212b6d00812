//! A model that does as its caller says: what is right, and what no guest may do.
//!
//! `do` [1] (string) says what, `x` [?] (f32) is what it is done with, `y` [?] (f32) is the answer and `note` [1]
//! (string) has something to read. `MISFIT` in the environment has it describe itself wrongly.

#[cfg(not(all(target_arch = "wasm32", target_env = "p1")))]
mod model;
