//! What `scripts/bench serve` is made of: [`native`], a server that drives ONNX Runtime without us, and [`load`], which
//! puts any server under load and checks every answer. Both speak what is in [`wire`]; [`work`] makes requests and tells
//! what is right.

pub mod load;
pub mod native;
pub mod wire;
pub mod work;
