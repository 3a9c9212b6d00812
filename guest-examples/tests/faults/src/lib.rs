//! Answers HTTP requests as their path says: well, or in one of the ways that must cost nobody else anything.
//!
//! It exports `wasi:http/incoming-handler`, so it is a component only; built for preview1 there is nothing in it.

#[cfg(all(target_arch = "wasm32", target_env = "p2"))]
mod handler;

#[cfg(all(target_arch = "wasm32", target_env = "p2"))]
mod holding;
