//! What backends of native engines look at in an ONNX model before the engine does.
//!
//! [`decode`] reads the file, whose weights are borrowed and not copied; [`check_files`] keeps it from naming files
//! outside its folder; [`check_rules`] refuses what an engine is known to answer wrongly;
//! [`Graph::shared_dimensions`] are the dimensions that inputs must agree on.
//!
//! It neither validates a model nor works out types: the engine does.

mod facts;
mod files;
mod model;

pub use facts::{Facts, Rule, check_rules};
pub use files::{check_files, folder_of, map_file};
pub use model::{
    Attribute, Dimension, Entry, Function, Graph, Model, Node, Opset, Scope, Shape, SparseTensor,
    Tensor, TensorType, Type, Value, decode,
};
