//! TensorFlow's graphs in ONNX's words (`words`): operators, element types and constants, those of functions too. Field
//! numbers are those of graph.proto, node_def.proto, attr_value.proto, function.proto and saved_model.proto.
//!
//! The outputs of a node go by one name, but for those of calls: without TensorFlow's own list of operators it is not
//! known which of them a function's text means.

use std::collections::{BTreeMap, HashMap, HashSet};

use bytes::Bytes;
use infer_core::{Result, clip};
use infer_onnx::Model;
use prost::Message;

use crate::operators::UNKNOWN;
use crate::refuse::unsupported;
use crate::words::Words;

/// A graph, frozen or one of a SavedModel's.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct GraphDef {
    #[prost(message, repeated, tag = "1")]
    pub(crate) nodes: Vec<NodeDef>,
    #[prost(message, optional, tag = "2")]
    library: Option<Library>,
}

#[derive(Clone, PartialEq, Message)]
struct Library {
    #[prost(message, repeated, tag = "1")]
    functions: Vec<Function>,
}

#[derive(Clone, PartialEq, Message)]
struct Function {
    #[prost(message, optional, tag = "1")]
    signature: Option<Signature>,
    #[prost(message, repeated, tag = "3")]
    nodes: Vec<NodeDef>,
    /// What each result is, by its name.
    #[prost(btree_map = "string, string", tag = "4")]
    results: BTreeMap<String, String>,
}

#[derive(Clone, PartialEq, Message)]
struct Signature {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(message, repeated, tag = "2")]
    inputs: Vec<Argument>,
    #[prost(message, repeated, tag = "3")]
    outputs: Vec<Argument>,
}

#[derive(Clone, PartialEq, Message)]
struct Argument {
    #[prost(string, tag = "1")]
    name: String,
}

/// A node.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct NodeDef {
    #[prost(string, tag = "1")]
    pub(crate) name: String,
    #[prost(string, tag = "2")]
    pub(crate) operator: String,
    #[prost(string, repeated, tag = "3")]
    inputs: Vec<String>,
    #[prost(btree_map = "string, message", tag = "5")]
    attributes: BTreeMap<String, Attribute>,
}

#[derive(Clone, PartialEq, Message)]
struct Attribute {
    #[prost(int32, tag = "6")]
    element_type: i32,
    #[prost(message, optional, tag = "8")]
    tensor: Option<TensorProto>,
    #[prost(message, optional, tag = "10")]
    function: Option<NamedFunction>,
}

#[derive(Clone, PartialEq, Message)]
struct NamedFunction {
    #[prost(string, tag = "1")]
    name: String,
}

#[derive(Clone, PartialEq, Message)]
struct TensorProto {
    #[prost(int32, tag = "1")]
    element_type: i32,
    #[prost(bytes = "bytes", tag = "4")]
    content: Bytes,
    #[prost(double, repeated, tag = "6")]
    doubles: Vec<f64>,
    #[prost(int32, repeated, tag = "7")]
    integers: Vec<i32>,
    #[prost(int64, repeated, tag = "10")]
    longs: Vec<i64>,
}

/// The file `saved_model.pb`.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct SavedModel {
    #[prost(int64, tag = "1")]
    version: i64,
    #[prost(message, repeated, tag = "2")]
    graphs: Vec<MetaGraph>,
}

#[derive(Clone, PartialEq, Message)]
struct MetaGraph {
    #[prost(message, optional, tag = "2")]
    graph: Option<GraphDef>,
    #[prost(btree_map = "string, message", tag = "5")]
    signatures: BTreeMap<String, Interface>,
}

#[derive(Clone, PartialEq, Message)]
struct Interface {
    #[prost(btree_map = "string, message", tag = "2")]
    outputs: BTreeMap<String, Named>,
}

#[derive(Clone, PartialEq, Message)]
struct Named {
    #[prost(string, tag = "1")]
    name: String,
}

impl SavedModel {
    /// Whether it is one that the engine reads.
    pub(crate) fn has_graphs(&self) -> bool {
        self.version == 1 && self.graphs.iter().any(|graph| graph.graph.is_some())
    }

    /// The graph that is run and what its callers get; `None` if there is none.
    pub(crate) fn words(&self) -> Result<Option<Model>> {
        const SERVED: &str = "serving_default";
        let Some(meta) = self.graphs.first() else {
            return Ok(None);
        };
        let Some(graph) = &meta.graph else {
            return Ok(None);
        };
        let outputs = meta.signatures.get(SERVED).map(|served| {
            let names = served.outputs.values().map(|named| named.name.clone());
            names.collect::<Vec<String>>()
        });
        words(graph, outputs).map(Some)
    }
}

/// A graph in ONNX's words, from what its callers get back to what they give; without names that is what no node takes.
///
/// # Errors
/// `UnsupportedOperation` for a graph that changes variables: the engine starts each run with those of the file.
pub(crate) fn words(graph: &GraphDef, outputs: Option<Vec<String>>) -> Result<Model> {
    let functions = graph.library.iter().flat_map(|library| &library.functions);
    let functions = functions
        .filter_map(|function| Some((function.signature.as_ref()?.name.as_str(), function)));
    let mut reader = Reader {
        words: Words::default(),
        functions: functions.collect(),
        read: HashSet::new(),
        waiting: Vec::new(),
    };
    let outputs = outputs.unwrap_or_else(|| sinks(&graph.nodes));
    let scope = Scope::new(String::new(), &graph.nodes);
    for output in &outputs {
        reader.words.output(scope.value(output));
    }
    let needed = needed(&graph.nodes, &outputs);
    reader.nodes(
        &scope,
        graph
            .nodes
            .iter()
            .filter(|node| needed.contains(node.name.as_str())),
    )?;
    while let Some(name) = reader.waiting.pop() {
        let function = reader.functions[name];
        let scope = Scope::new(format!("{name}/"), &function.nodes);
        reader.nodes(&scope, function.nodes.iter())?;
        reader.results(&scope, function);
    }
    Ok(reader.words.model())
}

/// The nodes that no other takes.
fn sinks(nodes: &[NodeDef]) -> Vec<String> {
    let taken: HashSet<&str> = nodes
        .iter()
        .flat_map(|node| &node.inputs)
        .map(|input| node_of(input))
        .collect();
    let free = nodes
        .iter()
        .filter(|node| !taken.contains(node.name.as_str()));
    free.map(|node| node.name.clone()).collect()
}

/// The nodes that the outputs come from, or wait for.
fn needed<'a>(nodes: &'a [NodeDef], outputs: &'a [String]) -> HashSet<&'a str> {
    let by_name: HashMap<&str, &NodeDef> = nodes
        .iter()
        .map(|node| (node.name.as_str(), node))
        .collect();
    let mut found = HashSet::new();
    let mut waiting: Vec<&str> = outputs.iter().map(|output| node_of(output)).collect();
    while let Some(name) = waiting.pop() {
        if let (true, Some(node)) = (found.insert(name), by_name.get(name)) {
            waiting.extend(node.inputs.iter().map(|input| node_of(input)));
        }
    }
    found
}

/// The node that an input names: `node`, `node:1`, `node:output:0` or `^node`.
fn node_of(input: &str) -> &str {
    let input = input.strip_prefix('^').unwrap_or(input);
    input.split(':').next().unwrap_or(input)
}

/// A list of nodes that name one another.
struct Scope<'a> {
    /// What the names of its values begin with.
    prefix: String,
    /// The nodes whose outputs have names of their own.
    calls: HashSet<&'a str>,
}

impl<'a> Scope<'a> {
    fn new(prefix: String, nodes: &'a [NodeDef]) -> Scope<'a> {
        let calls = nodes
            .iter()
            .filter(|node| node.functions().next().is_some());
        Scope {
            prefix,
            calls: calls.map(|node| node.name.as_str()).collect(),
        }
    }

    /// The name of the value that an input names.
    fn value(&self, input: &str) -> String {
        let node = node_of(input);
        match self.calls.contains(node) {
            false => format!("{}{node}", self.prefix),
            true => {
                let place = input.rsplit(':').next().and_then(|last| last.parse().ok());
                self.output(node, place.unwrap_or(0))
            }
        }
    }

    fn output(&self, call: &str, place: usize) -> String {
        format!("{}{call}:{place}", self.prefix)
    }
}

impl NodeDef {
    fn functions(&self) -> impl Iterator<Item = &str> {
        let functions = self.attributes.values().filter_map(|a| a.function.as_ref());
        functions.map(|function| function.name.as_str())
    }

    /// ONNX's number of the element type of an attribute.
    fn element_type(&self, attribute: &str) -> Option<i32> {
        let number = self.attributes.get(attribute)?.element_type;
        Some(dtype(number)).filter(|dtype| *dtype != UNKNOWN)
    }
}

struct Reader<'a> {
    words: Words,
    functions: HashMap<&'a str, &'a Function>,
    /// Functions that were called.
    read: HashSet<&'a str>,
    waiting: Vec<&'a str>,
}

impl<'a> Reader<'a> {
    fn nodes(&mut self, scope: &Scope<'a>, nodes: impl Iterator<Item = &'a NodeDef>) -> Result<()> {
        for node in nodes {
            if changes_variables(&node.operator) {
                let operator = clip(&node.operator);
                return Err(unsupported(format!(
                    "OpenVINO would run `{operator}` wrongly: each run starts with the variables of the file"
                )));
            }
            match node.functions().next() {
                Some(_) => self.call(scope, node),
                None => self.node(scope, node),
            }
        }
        Ok(())
    }

    fn node(&mut self, scope: &Scope<'a>, node: &'a NodeDef) {
        let name = scope.value(&node.name);
        let given = node.inputs.iter().filter(|input| !input.starts_with('^'));
        let inputs: Vec<String> = given.map(|input| scope.value(input)).collect();
        let declared = match node.operator.as_str() {
            "Cast" => node.element_type("DstT"),
            "Range" => node.element_type("Tidx"),
            "ArgMax" | "ArgMin" => node.element_type("output_type"),
            "Shape" | "ShapeN" | "Size" => node.element_type("out_type"),
            _ => node
                .element_type("T")
                .or_else(|| node.element_type("dtype")),
        };
        let dtype = declared.unwrap_or(UNKNOWN);
        self.words.declare(name.clone(), dtype);
        match node.operator.as_str() {
            "Placeholder" => self.words.input(name, dtype),
            "Const" => {
                let tensor = node.attributes.get("value").and_then(|a| a.tensor.as_ref());
                self.words.constant(name, dtype, tensor.map(elements));
            }
            // Its numbers are in another file, where this one is of a SavedModel.
            "VarHandleOp" | "VariableV2" => self.words.constant(name, dtype, None),
            "Cast" => self.words.cast(dtype, inputs, vec![name]),
            // What ONNX takes in another order.
            "Fill" | "Split" => {
                let inputs = inputs.into_iter().rev().collect();
                self.words
                    .node(operator(&node.operator), inputs, vec![name]);
            }
            other => self.words.node(operator(other), inputs, vec![name]),
        }
    }

    /// A call of functions, the branches and turns of which are not told apart.
    fn call(&mut self, scope: &Scope<'a>, node: &'a NodeDef) {
        // The first input of a branch says which is taken.
        let skipped = usize::from(matches!(
            node.operator.as_str(),
            "If" | "StatelessIf" | "Case" | "StatelessCase"
        ));
        let turns = matches!(node.operator.as_str(), "While" | "StatelessWhile");
        let given = node.inputs.iter().filter(|input| !input.starts_with('^'));
        let given: Vec<String> = given
            .skip(skipped)
            .map(|input| scope.value(input))
            .collect();
        if turns {
            for (place, from) in given.iter().enumerate() {
                let to = scope.output(&node.name, place);
                self.words.node("Identity", vec![from.clone()], vec![to]);
            }
        }
        for name in node.functions() {
            let Some((name, function)) = self.functions.get_key_value(name) else {
                continue;
            };
            let (name, Some(signature)) = (*name, function.signature.as_ref()) else {
                continue;
            };
            let inner = |own: &Argument| format!("{name}/{}", own.name);
            for (place, own) in signature.inputs.iter().enumerate() {
                let back = turns.then(|| scope.output(&node.name, place));
                let from = given.get(place).cloned().into_iter().chain(back).collect();
                self.words.node("Identity", from, vec![inner(own)]);
            }
            let is_condition = turns && node.is_function("cond", name);
            for (place, own) in signature.outputs.iter().enumerate() {
                if !is_condition {
                    let to = scope.output(&node.name, place);
                    let from = format!("{name}/result {}", own.name);
                    self.words.node("Identity", vec![from], vec![to]);
                }
            }
            if self.read.insert(name) {
                self.waiting.push(name);
            }
        }
    }

    fn results(&mut self, scope: &Scope<'a>, function: &Function) {
        for (name, from) in &function.results {
            let to = format!("{}result {name}", scope.prefix);
            self.words
                .node("Identity", vec![scope.value(from)], vec![to]);
        }
    }
}

impl NodeDef {
    fn is_function(&self, attribute: &str, name: &str) -> bool {
        let named = self
            .attributes
            .get(attribute)
            .and_then(|a| a.function.as_ref());
        named.is_some_and(|function| function.name == name)
    }
}

/// The elements of a constant of whole numbers of 32 or 64 bits, or of f64.
fn elements(tensor: &TensorProto) -> Bytes {
    if !tensor.content.is_empty() {
        return tensor.content.clone();
    }
    let integers = tensor
        .integers
        .iter()
        .flat_map(|number| number.to_le_bytes());
    let longs = tensor.longs.iter().flat_map(|number| number.to_le_bytes());
    let doubles = tensor
        .doubles
        .iter()
        .flat_map(|number| number.to_le_bytes());
    integers.chain(longs).chain(doubles).collect()
}

/// Whether a later run would find another variable.
fn changes_variables(operator: &str) -> bool {
    operator.starts_with("Assign")
        || operator.starts_with("ResourceScatter")
        || matches!(
            operator,
            "ScatterAdd"
                | "ScatterDiv"
                | "ScatterMax"
                | "ScatterMin"
                | "ScatterMul"
                | "ScatterSub"
                | "ScatterUpdate"
        )
}

/// ONNX's number of an element type.
fn dtype(number: i32) -> i32 {
    match number {
        1 => 1,
        2 => 11,
        3 => 6,
        4 => 2,
        5 => 5,
        6 => 3,
        7 => 8,
        9 => 7,
        10 => 9,
        14 => 16,
        17 => 4,
        19 => 10,
        22 => 12,
        23 => 13,
        _ => UNKNOWN,
    }
}

/// ONNX's name of an operator, where it has one.
fn operator(name: &str) -> &str {
    match name {
        "AddN" => "Sum",
        "AddV2" | "BiasAdd" => "Add",
        "BatchMatMul" | "BatchMatMulV2" => "MatMul",
        "BroadcastTo" | "Fill" => "Expand",
        "ClipByValue" => "Clip",
        "ConcatV2" | "Pack" => "Concat",
        "Cumprod" => "CumProd",
        "Cumsum" => "CumSum",
        "Div" | "DivNoNan" | "FloorDiv" | "RealDiv" | "TruncateDiv" => "Div",
        "ExpandDims" => "Unsqueeze",
        "FloorMod" | "TruncateMod" => "Mod",
        "GatherNd" => "GatherND",
        "GatherV2" | "ResourceGather" => "Gather",
        "GreaterEqual" => "GreaterOrEqual",
        "Invert" => "BitwiseNot",
        "LeftShift" => "BitShift",
        "LessEqual" => "LessOrEqual",
        "LogicalAnd" => "And",
        "LogicalNot" => "Not",
        "LogicalOr" => "Or",
        "Max" => "ReduceMax",
        "Maximum" => "Max",
        "Mean" => "ReduceMean",
        "Min" => "ReduceMin",
        "Minimum" => "Min",
        "MirrorPad" | "PadV2" => "Pad",
        "NotEqual" => "Equal",
        "Prod" => "ReduceProd",
        "Rank" | "ShapeN" => "Shape",
        "Relu6" => "Relu",
        "Select" | "SelectV2" => "Where",
        "SplitV" => "Split",
        "Square" | "SquaredDifference" => "Mul",
        "StridedSlice" => "Slice",
        "Sum" => "ReduceSum",
        "TopKV2" => "TopK",
        "Transpose" => "Reshape",
        "Where" => "NonZero",
        other => other,
    }
}
