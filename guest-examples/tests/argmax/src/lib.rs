//! Answers HTTP requests: an f32 tensor in, the place of the largest output out. One side of `scripts/bench serve`.
//!
//! `POST /MODEL/INPUT/1x3x224x224` with the values, little-endian, as its body runs that model and answers with the
//! index of the largest value of its first output, as decimal text; of equal ones the first. The dimensions are part of
//! the path because hosts other than infer do not tell a guest what a model takes. It exports
//! `wasi:http/incoming-handler`, so it is a component only; built for preview1 there is nothing in it.
//!
//! Steps: read the path; gather the body; run; find the largest. A request that cannot be read is answered with 400, a
//! failure of the host with 500, and the reason as text.

#[cfg(all(target_arch = "wasm32", target_env = "p2"))]
mod handler;
#[cfg(any(test, all(target_arch = "wasm32", target_env = "p2")))]
mod work;
