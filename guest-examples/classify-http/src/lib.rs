//! Says what is on a photo, by HTTP: `POST /?top=3` with the bytes of a JPEG or PNG file answers JSON.
//!
//! Steps: check the method and the query; read the body as it comes; open the model that the host calls `default`,
//! prepare the photo as that wants it, run, and rank the classes; answer. What is wrong with a request is answered with
//! a status and a text that says it.
//!
//! It exports `wasi:http/incoming-handler`, so it is a component only; built for preview1 there is nothing in it. It
//! runs on `infer serve` and on any other server that has wasi-nn.

#[cfg(any(test, all(target_arch = "wasm32", target_env = "p2")))]
mod answer;
#[cfg(all(target_arch = "wasm32", target_env = "p2"))]
mod handler;
