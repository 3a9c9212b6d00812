//! The few parts of an ONNX file that are looked at before the engine reads it.
//!
//! Decoding nests 100 messages deep at most and takes no memory that the bytes do not have: weights stay
//! slices of the file. Field numbers are those of onnx.proto.

use std::collections::HashSet;

use bytes::Bytes;
use infer_core::{Error, ErrorKind, Result};
use prost::Message;

/// A whole model.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct Model {
    #[prost(message, optional, tag = "7")]
    pub(crate) graph: Option<Graph>,
    #[prost(message, repeated, tag = "8")]
    pub(crate) opsets: Vec<Opset>,
    #[prost(message, repeated, tag = "25")]
    pub(crate) functions: Vec<Function>,
}

/// The version of a domain's operators.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct Opset {
    #[prost(string, tag = "1")]
    pub(crate) domain: String,
    #[prost(int64, tag = "2")]
    pub(crate) version: i64,
}

/// An operator that the model itself defines.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct Function {
    #[prost(string, tag = "1")]
    pub(crate) name: String,
    #[prost(message, repeated, tag = "7")]
    pub(crate) nodes: Vec<Node>,
    #[prost(message, repeated, tag = "9")]
    pub(crate) opsets: Vec<Opset>,
    #[prost(string, tag = "10")]
    pub(crate) domain: String,
}

/// A graph, or one inside of a node.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct Graph {
    #[prost(message, repeated, tag = "1")]
    pub(crate) nodes: Vec<Node>,
    #[prost(message, repeated, tag = "5")]
    pub(crate) initializers: Vec<Tensor>,
    #[prost(message, repeated, tag = "11")]
    pub(crate) inputs: Vec<Value>,
    #[prost(message, repeated, tag = "12")]
    pub(crate) outputs: Vec<Value>,
    #[prost(message, repeated, tag = "13")]
    pub(crate) values: Vec<Value>,
    #[prost(message, repeated, tag = "15")]
    pub(crate) sparse_initializers: Vec<SparseTensor>,
}

/// An operation.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct Node {
    #[prost(string, repeated, tag = "1")]
    pub(crate) inputs: Vec<String>,
    #[prost(string, repeated, tag = "2")]
    pub(crate) outputs: Vec<String>,
    #[prost(string, tag = "4")]
    pub(crate) operator: String,
    #[prost(message, repeated, tag = "5")]
    pub(crate) attributes: Vec<Attribute>,
    #[prost(string, tag = "7")]
    pub(crate) domain: String,
}

/// A setting of a node.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct Attribute {
    #[prost(string, tag = "1")]
    pub(crate) name: String,
    #[prost(float, tag = "2")]
    pub(crate) float: f32,
    #[prost(int64, tag = "3")]
    pub(crate) int: i64,
    #[prost(bytes = "bytes", tag = "4")]
    pub(crate) text: Bytes,
    #[prost(message, optional, tag = "5")]
    pub(crate) tensor: Option<Tensor>,
    #[prost(message, optional, tag = "6")]
    pub(crate) graph: Option<Graph>,
    #[prost(float, repeated, tag = "7")]
    pub(crate) floats: Vec<f32>,
    #[prost(int64, repeated, tag = "8")]
    pub(crate) ints: Vec<i64>,
    #[prost(bytes = "bytes", repeated, tag = "9")]
    pub(crate) texts: Vec<Bytes>,
    #[prost(message, repeated, tag = "10")]
    pub(crate) tensors: Vec<Tensor>,
    #[prost(message, repeated, tag = "11")]
    pub(crate) graphs: Vec<Graph>,
    #[prost(message, optional, tag = "22")]
    pub(crate) sparse_tensor: Option<SparseTensor>,
    #[prost(message, repeated, tag = "23")]
    pub(crate) sparse_tensors: Vec<SparseTensor>,
}

/// A constant; of its elements only f32, wide integers and raw bytes are kept.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct Tensor {
    #[prost(int64, repeated, tag = "1")]
    pub(crate) dims: Vec<i64>,
    #[prost(int32, tag = "2")]
    pub(crate) dtype: i32,
    #[prost(float, repeated, tag = "4")]
    pub(crate) floats: Vec<f32>,
    #[prost(int64, repeated, tag = "7")]
    pub(crate) integers: Vec<i64>,
    #[prost(string, tag = "8")]
    pub(crate) name: String,
    #[prost(bytes = "bytes", tag = "9")]
    pub(crate) raw: Bytes,
    #[prost(uint64, repeated, tag = "11")]
    pub(crate) unsigned: Vec<u64>,
    #[prost(message, repeated, tag = "13")]
    pub(crate) external: Vec<Entry>,
    #[prost(int32, tag = "14")]
    pub(crate) location: i32,
}

/// A constant that holds its few elements other than 0.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct SparseTensor {
    #[prost(message, optional, tag = "1")]
    pub(crate) values: Option<Tensor>,
    #[prost(message, optional, tag = "2")]
    pub(crate) indices: Option<Tensor>,
}

/// A key and a text.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct Entry {
    #[prost(string, tag = "1")]
    pub(crate) key: String,
    #[prost(string, tag = "2")]
    pub(crate) value: String,
}

/// A name and a type.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct Value {
    #[prost(string, tag = "1")]
    pub(crate) name: String,
    #[prost(message, optional, tag = "2")]
    pub(crate) r#type: Option<Type>,
}

/// A type; sequences, maps and optionals have no `tensor`.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct Type {
    #[prost(message, optional, tag = "1")]
    pub(crate) tensor: Option<TensorType>,
}

/// The type of a tensor.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct TensorType {
    #[prost(int32, tag = "1")]
    pub(crate) dtype: i32,
    #[prost(message, optional, tag = "2")]
    pub(crate) shape: Option<Shape>,
}

/// Dimensions.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct Shape {
    #[prost(message, repeated, tag = "1")]
    pub(crate) dims: Vec<Dimension>,
}

/// A number, a name, or neither.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct Dimension {
    #[prost(int64, optional, tag = "1")]
    pub(crate) number: Option<i64>,
    #[prost(string, tag = "2")]
    pub(crate) name: String,
}

/// Decodes a model and checks that it has a graph.
///
/// # Errors
/// `InvalidEncoding` for anything else.
pub(crate) fn decode(bytes: Bytes) -> Result<Model> {
    if bytes.is_empty() {
        return Err(not_onnx("it is empty"));
    }
    let model =
        Model::decode(bytes).map_err(|error| not_onnx("it does not decode").with_source(error))?;
    match &model.graph {
        None => Err(not_onnx("it has no graph")),
        Some(graph) if graph.nodes.is_empty() && graph.outputs.is_empty() => {
            Err(not_onnx("its graph is empty"))
        }
        Some(_) => Ok(model),
    }
}

fn not_onnx(why: &str) -> Error {
    Error::new(
        ErrorKind::InvalidEncoding,
        format!("not a valid ONNX model: {why}"),
    )
}

impl Model {
    /// The version of the plain operators, 0 where none is named.
    pub(crate) fn opset(&self) -> i64 {
        opset(&self.opsets)
    }

    /// Has `visit` look at every list of nodes, those inside of nodes and functions too.
    ///
    /// # Errors
    /// Those of `visit`.
    pub(crate) fn for_each_graph(
        &self,
        visit: &mut impl FnMut(Scope<'_>) -> Result<()>,
    ) -> Result<()> {
        if let Some(graph) = &self.graph {
            for_graph(graph, self.opset(), visit)?;
        }
        for function in &self.functions {
            let scope = Scope {
                nodes: &function.nodes,
                graph: None,
                opset: opset(&function.opsets),
            };
            for_scope(scope, visit)?;
        }
        Ok(())
    }

    /// Has `visit` look at every use of a value by a node: the node, and which of its inputs.
    ///
    /// # Errors
    /// Those of `visit`.
    pub(crate) fn for_each_use(
        &self,
        name: &str,
        visit: &mut impl FnMut(&Node, usize) -> Result<()>,
    ) -> Result<()> {
        self.for_each_graph(&mut |scope| {
            for node in scope.nodes {
                let places = node.inputs.iter().enumerate();
                for (place, _) in places.filter(|(_, input)| *input == name) {
                    visit(node, place)?;
                }
            }
            Ok(())
        })
    }

    /// Has `visit` look at every constant.
    ///
    /// # Errors
    /// Those of `visit`.
    pub(crate) fn for_each_tensor(
        &self,
        visit: &mut impl FnMut(&Tensor) -> Result<()>,
    ) -> Result<()> {
        self.for_each_graph(&mut |scope| {
            if let Some(graph) = scope.graph {
                graph.initializers.iter().try_for_each(&mut *visit)?;
                let sparse = graph.sparse_initializers.iter();
                sparse.flat_map(parts).try_for_each(&mut *visit)?;
            }
            for attribute in scope.nodes.iter().flat_map(|node| &node.attributes) {
                let plain = attribute.tensor.iter().chain(&attribute.tensors);
                plain.into_iter().try_for_each(&mut *visit)?;
                let sparse = attribute
                    .sparse_tensor
                    .iter()
                    .chain(&attribute.sparse_tensors);
                sparse.flat_map(parts).try_for_each(&mut *visit)?;
            }
            Ok(())
        })
    }
}

/// A list of nodes, with the graph that it is of unless it is a function's.
#[derive(Clone, Copy)]
pub(crate) struct Scope<'a> {
    pub(crate) nodes: &'a [Node],
    pub(crate) graph: Option<&'a Graph>,
    pub(crate) opset: i64,
}

fn for_graph(
    graph: &Graph,
    opset: i64,
    visit: &mut impl FnMut(Scope<'_>) -> Result<()>,
) -> Result<()> {
    let scope = Scope {
        nodes: &graph.nodes,
        graph: Some(graph),
        opset,
    };
    for_scope(scope, visit)
}

fn for_scope(scope: Scope<'_>, visit: &mut impl FnMut(Scope<'_>) -> Result<()>) -> Result<()> {
    visit(scope)?;
    for attribute in scope.nodes.iter().flat_map(|node| &node.attributes) {
        for inner in attribute.graph.iter().chain(&attribute.graphs) {
            for_graph(inner, scope.opset, visit)?;
        }
    }
    Ok(())
}

fn parts(sparse: &SparseTensor) -> impl Iterator<Item = &Tensor> {
    sparse.values.iter().chain(&sparse.indices)
}

fn opset(opsets: &[Opset]) -> i64 {
    let plain = |opset: &&Opset| matches!(opset.domain.as_str(), "" | "ai.onnx");
    opsets.iter().find(plain).map_or(0, |opset| opset.version)
}

impl Graph {
    /// The inputs that a caller gives: an initialiser of the same name is a default value.
    pub(crate) fn given_inputs(&self) -> Vec<&Value> {
        let initialised: HashSet<&str> = self
            .initializers
            .iter()
            .map(|tensor| tensor.name.as_str())
            .collect();
        self.inputs
            .iter()
            .filter(|input| !initialised.contains(input.name.as_str()))
            .collect()
    }
}

impl Value {
    fn shape(&self) -> Option<&Shape> {
        self.r#type.as_ref()?.tensor.as_ref()?.shape.as_ref()
    }

    /// The number of the elements' type; `None` for what is not a tensor.
    pub(crate) fn dtype(&self) -> Option<i32> {
        Some(self.r#type.as_ref()?.tensor.as_ref()?.dtype)
    }

    /// The declared dimensions, `None` for one without a number; `None` if nothing is declared.
    pub(crate) fn dimensions(&self) -> Option<Vec<Option<usize>>> {
        let number = |dimension: &Dimension| usize::try_from(dimension.number?).ok();
        Some(self.shape()?.dims.iter().map(number).collect())
    }

    /// The names of dimensions, by position.
    pub(crate) fn symbols(&self) -> impl Iterator<Item = (usize, &str)> {
        let dims = self.shape().map_or(&[][..], |shape| &shape.dims);
        // Anything but a plain name may be an expression.
        let plain =
            |name: &str| !name.is_empty() && name.chars().all(|c| c.is_alphanumeric() || c == '_');
        dims.iter()
            .enumerate()
            .map(|(axis, dimension)| (axis, dimension.name.as_str()))
            .filter(move |(_, name)| plain(name))
    }
}
