//! A model that reads a page: the bytes of a JPEG or PNG in, its lines of text out, from top to bottom.
//!
//! Steps: decode; `pp-ocrv4-det` says how likely each pixel is text, and rows of text are lines (`lines`); each is cut
//! out, turned where `pp-ocrv4-cls` is sure that it is upside down, and read by `pp-ocrv4-rec`, which scores 6,625
//! characters for each step along the line. Those scores never come here: they go as they are, on the host, into
//! `argmax`, which gives the best of each step, and the guest spells the line (`spelling`).
//!
//! It is for pages of one column with lines from left to right. It exports `infer:nn/transform`, so it is a component
//! only; built for preview1 there is nothing in it.

#[cfg(any(test, all(target_arch = "wasm32", target_env = "p2")))]
mod lines;
#[cfg(all(target_arch = "wasm32", target_env = "p2"))]
mod page;
#[cfg(all(target_arch = "wasm32", target_env = "p2"))]
mod reader;
#[cfg(any(test, all(target_arch = "wasm32", target_env = "p2")))]
mod spelling;
