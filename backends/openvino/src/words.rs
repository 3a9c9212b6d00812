//! Models of other encodings in ONNX's words: as much as has to be known to follow whole numbers through them
//! (`wholes`) and to see f64. Such a model is looked at and never run.
//!
//! What a reader has no word for keeps its own name: then its outputs are as its inputs are.

use bytes::Bytes;
use infer_onnx::{Attribute, Graph, Model, Node, Tensor, TensorType, Type, Value};

/// Where a constant's elements are not in the file itself.
const EXTERNAL: i32 = 1;

/// A graph that is being written down.
#[derive(Debug, Default)]
pub(crate) struct Words {
    graph: Graph,
}

impl Words {
    /// A value that callers give.
    pub(crate) fn input(&mut self, name: String, dtype: i32) {
        self.graph.inputs.push(value(name, dtype));
    }

    /// A value that callers get.
    pub(crate) fn output(&mut self, name: String) {
        self.graph.outputs.push(Value { name, r#type: None });
    }

    /// The element type that the file gives for a value.
    pub(crate) fn declare(&mut self, name: String, dtype: i32) {
        self.graph.values.push(value(name, dtype));
    }

    /// A constant and its elements, little-endian; `None` where they are not at hand.
    pub(crate) fn constant(&mut self, name: String, dtype: i32, elements: Option<Bytes>) {
        self.graph.initializers.push(Tensor {
            name,
            dtype,
            location: if elements.is_some() { 0 } else { EXTERNAL },
            raw: elements.unwrap_or_default(),
            ..Tensor::default()
        });
    }

    /// An operation.
    pub(crate) fn node(&mut self, operator: &str, inputs: Vec<String>, outputs: Vec<String>) {
        self.graph.nodes.push(Node {
            inputs,
            outputs,
            operator: operator.to_owned(),
            ..Node::default()
        });
    }

    /// A cast to an element type.
    pub(crate) fn cast(&mut self, to: i32, inputs: Vec<String>, outputs: Vec<String>) {
        self.node("Cast", inputs, outputs);
        let attribute = Attribute {
            name: "to".to_owned(),
            int: to.into(),
            ..Attribute::default()
        };
        if let Some(node) = self.graph.nodes.last_mut() {
            node.attributes.push(attribute);
        }
    }

    pub(crate) fn model(self) -> Model {
        Model {
            graph: Some(self.graph),
            ..Model::default()
        }
    }
}

fn value(name: String, dtype: i32) -> Value {
    let tensor = TensorType { dtype, shape: None };
    Value {
        name,
        r#type: Some(Type {
            tensor: Some(tensor),
        }),
    }
}
