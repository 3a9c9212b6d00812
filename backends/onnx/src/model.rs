//! The few parts of an ONNX file that are looked at before an engine reads it.
//!
//! Decoding nests 100 messages deep at most and takes no memory that the bytes do not have: weights stay
//! slices of the file. Field numbers and meanings are those of onnx.proto.
#![allow(missing_docs, reason = "the fields are those of onnx.proto")]

use std::collections::{BTreeMap, HashSet};

use bytes::Bytes;
use infer_core::{Error, ErrorKind, Result, SharedDimension};
use prost::Message;

/// A whole model.
#[derive(Clone, PartialEq, Message)]
pub struct Model {
    #[prost(message, optional, tag = "7")]
    pub graph: Option<Graph>,
    #[prost(message, repeated, tag = "8")]
    pub opsets: Vec<Opset>,
    #[prost(message, repeated, tag = "25")]
    pub functions: Vec<Function>,
}

/// The version of a domain's operators.
#[derive(Clone, PartialEq, Message)]
pub struct Opset {
    #[prost(string, tag = "1")]
    pub domain: String,
    #[prost(int64, tag = "2")]
    pub version: i64,
}

/// An operator that the model itself defines.
#[derive(Clone, PartialEq, Message)]
pub struct Function {
    #[prost(string, tag = "1")]
    pub name: String,
    #[prost(string, repeated, tag = "4")]
    pub inputs: Vec<String>,
    #[prost(string, repeated, tag = "5")]
    pub outputs: Vec<String>,
    #[prost(message, repeated, tag = "7")]
    pub nodes: Vec<Node>,
    #[prost(message, repeated, tag = "9")]
    pub opsets: Vec<Opset>,
    #[prost(string, tag = "10")]
    pub domain: String,
}

/// A graph, or one inside of a node.
#[derive(Clone, PartialEq, Message)]
pub struct Graph {
    #[prost(message, repeated, tag = "1")]
    pub nodes: Vec<Node>,
    #[prost(message, repeated, tag = "5")]
    pub initializers: Vec<Tensor>,
    #[prost(message, repeated, tag = "11")]
    pub inputs: Vec<Value>,
    #[prost(message, repeated, tag = "12")]
    pub outputs: Vec<Value>,
    #[prost(message, repeated, tag = "13")]
    pub values: Vec<Value>,
    #[prost(message, repeated, tag = "15")]
    pub sparse_initializers: Vec<SparseTensor>,
}

/// An operation.
#[derive(Clone, PartialEq, Message)]
pub struct Node {
    #[prost(string, repeated, tag = "1")]
    pub inputs: Vec<String>,
    #[prost(string, repeated, tag = "2")]
    pub outputs: Vec<String>,
    #[prost(string, tag = "4")]
    pub operator: String,
    #[prost(message, repeated, tag = "5")]
    pub attributes: Vec<Attribute>,
    #[prost(string, tag = "7")]
    pub domain: String,
}

/// A setting of a node.
#[derive(Clone, PartialEq, Message)]
pub struct Attribute {
    #[prost(string, tag = "1")]
    pub name: String,
    #[prost(float, tag = "2")]
    pub float: f32,
    #[prost(int64, tag = "3")]
    pub int: i64,
    #[prost(bytes = "bytes", tag = "4")]
    pub text: Bytes,
    #[prost(message, optional, tag = "5")]
    pub tensor: Option<Tensor>,
    #[prost(message, optional, tag = "6")]
    pub graph: Option<Graph>,
    #[prost(float, repeated, tag = "7")]
    pub floats: Vec<f32>,
    #[prost(int64, repeated, tag = "8")]
    pub ints: Vec<i64>,
    #[prost(bytes = "bytes", repeated, tag = "9")]
    pub texts: Vec<Bytes>,
    #[prost(message, repeated, tag = "10")]
    pub tensors: Vec<Tensor>,
    #[prost(message, repeated, tag = "11")]
    pub graphs: Vec<Graph>,
    #[prost(message, optional, tag = "22")]
    pub sparse_tensor: Option<SparseTensor>,
    #[prost(message, repeated, tag = "23")]
    pub sparse_tensors: Vec<SparseTensor>,
}

/// A constant; of its elements only f32, integers and raw bytes are kept.
#[derive(Clone, PartialEq, Message)]
pub struct Tensor {
    #[prost(int64, repeated, tag = "1")]
    pub dims: Vec<i64>,
    #[prost(int32, tag = "2")]
    pub dtype: i32,
    #[prost(float, repeated, tag = "4")]
    pub floats: Vec<f32>,
    #[prost(int32, repeated, tag = "5")]
    pub narrow_integers: Vec<i32>,
    #[prost(int64, repeated, tag = "7")]
    pub integers: Vec<i64>,
    #[prost(string, tag = "8")]
    pub name: String,
    #[prost(bytes = "bytes", tag = "9")]
    pub raw: Bytes,
    #[prost(uint64, repeated, tag = "11")]
    pub unsigned: Vec<u64>,
    #[prost(message, repeated, tag = "13")]
    pub external: Vec<Entry>,
    #[prost(int32, tag = "14")]
    pub location: i32,
}

/// A constant that holds its few elements other than 0.
#[derive(Clone, PartialEq, Message)]
pub struct SparseTensor {
    #[prost(message, optional, tag = "1")]
    pub values: Option<Tensor>,
    #[prost(message, optional, tag = "2")]
    pub indices: Option<Tensor>,
}

/// A key and a text.
#[derive(Clone, PartialEq, Message)]
pub struct Entry {
    #[prost(string, tag = "1")]
    pub key: String,
    #[prost(string, tag = "2")]
    pub value: String,
}

/// A name and a type.
#[derive(Clone, PartialEq, Message)]
pub struct Value {
    #[prost(string, tag = "1")]
    pub name: String,
    #[prost(message, optional, tag = "2")]
    pub r#type: Option<Type>,
}

/// A type; sequences, maps and optionals have no `tensor`.
#[derive(Clone, PartialEq, Message)]
pub struct Type {
    #[prost(message, optional, tag = "1")]
    pub tensor: Option<TensorType>,
}

/// The type of a tensor.
#[derive(Clone, PartialEq, Message)]
pub struct TensorType {
    #[prost(int32, tag = "1")]
    pub dtype: i32,
    #[prost(message, optional, tag = "2")]
    pub shape: Option<Shape>,
}

/// Dimensions.
#[derive(Clone, PartialEq, Message)]
pub struct Shape {
    #[prost(message, repeated, tag = "1")]
    pub dims: Vec<Dimension>,
}

/// A number, a name, or neither.
#[derive(Clone, PartialEq, Message)]
pub struct Dimension {
    #[prost(int64, optional, tag = "1")]
    pub number: Option<i64>,
    #[prost(string, tag = "2")]
    pub name: String,
}

/// Decodes a model and checks that it has a graph.
///
/// # Errors
/// `InvalidEncoding` for anything else.
pub fn decode(bytes: Bytes) -> Result<Model> {
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
    pub fn opset(&self) -> i64 {
        opset(&self.opsets)
    }

    /// Has `visit` look at every list of nodes, those inside of nodes and functions too.
    ///
    /// # Errors
    /// Those of `visit`.
    pub fn for_each_graph(&self, visit: &mut impl FnMut(Scope<'_>) -> Result<()>) -> Result<()> {
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
    pub fn for_each_use(
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
    pub fn for_each_tensor(&self, visit: &mut impl FnMut(&Tensor) -> Result<()>) -> Result<()> {
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
pub struct Scope<'a> {
    pub nodes: &'a [Node],
    pub graph: Option<&'a Graph>,
    pub opset: i64,
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
    /// Dimensions of the inputs that go by one name, `batch` say, and so must agree in a call.
    pub fn shared_dimensions(&self) -> Vec<SharedDimension> {
        let mut places: BTreeMap<String, Vec<(usize, usize)>> = BTreeMap::new();
        for (input, value) in self.given_inputs().into_iter().enumerate() {
            for (axis, name) in value.symbols() {
                let places = places.entry(name.to_owned()).or_default();
                places.push((input, axis));
            }
        }
        places.retain(|_, places| places.len() > 1);
        places
            .into_iter()
            .map(|(name, places)| SharedDimension { name, places })
            .collect()
    }

    /// The inputs that a caller gives: an initialiser of the same name is a default value.
    pub fn given_inputs(&self) -> Vec<&Value> {
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
    pub fn dtype(&self) -> Option<i32> {
        Some(self.r#type.as_ref()?.tensor.as_ref()?.dtype)
    }

    /// The declared dimensions, `None` for one without a number; `None` if nothing is declared.
    pub fn dimensions(&self) -> Option<Vec<Option<usize>>> {
        let number = |dimension: &Dimension| usize::try_from(dimension.number?).ok();
        Some(self.shape()?.dims.iter().map(number).collect())
    }

    /// The names of dimensions, by position.
    fn symbols(&self) -> impl Iterator<Item = (usize, &str)> {
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
