//! A model of a photo's file: the bytes of a JPEG or PNG in, labels and scores out.
//!
//! Steps: take the bytes; open the classifier that the host calls `default`, prepare the photo as that wants it, run,
//! and rank the classes. Served by `infer serve`, it is asked like any other model, by whatever speaks the Open
//! Inference Protocol: `image` is a `BYTES` tensor of one element, `labels` and `scores` have the best five, best first.
//!
//! It exports `infer:nn/transform`, so it is a component only; built for preview1 there is nothing in it.

#[cfg(not(all(target_arch = "wasm32", target_env = "p1")))]
mod model;
