//! What a model's file says: what its inputs and outputs are, and its nodes.

use std::collections::{BTreeSet, HashSet};
use std::fmt::Write;
use std::path::Path;

use tract_onnx::pb::type_proto::Value as TypeValue;
use tract_onnx::pb::{AttributeProto, GraphProto, ModelProto, NodeProto, ValueInfoProto};

use tract_onnx::prelude::Framework;

use crate::conformance::value::{dtype_name, dtype_of};

/// Operators whose results are random.
const RANDOM: [&str; 6] = [
    "Bernoulli",
    "Multinomial",
    "RandomNormal",
    "RandomNormalLike",
    "RandomUniform",
    "RandomUniformLike",
];

/// How much of an attribute's value is shown, in characters.
const LONGEST_ATTRIBUTE: usize = 60;

/// A model's file.
pub struct About {
    model: ModelProto,
}

impl About {
    /// Decodes a file.
    ///
    /// # Errors
    /// Where it cannot be read or is no ONNX model.
    pub fn read(path: &Path) -> Result<About, String> {
        let file = std::fs::File::open(path).map_err(|error| error.to_string())?;
        let model = tract_onnx::onnx().proto_model_for_read(&mut std::io::BufReader::new(file));
        let model = model.map_err(|error| format!("{error:#}"))?;
        Ok(About { model })
    }

    /// The names of the inputs that a caller gives, in the file's order.
    pub fn inputs(&self) -> Vec<String> {
        self.given()
            .into_iter()
            .map(|input| input.name.clone())
            .collect()
    }

    /// What no tensor of ours can be, by ONNX's name: dtypes, or `no tensor`.
    pub fn strange(&self) -> Option<String> {
        let outputs = self.graph().output.iter();
        self.given().into_iter().chain(outputs).find_map(strange)
    }

    /// The operators, with those of graphs and functions inside.
    pub fn operators(&self) -> BTreeSet<String> {
        self.nodes()
            .iter()
            .map(|node| node.op_type.clone())
            .collect()
    }

    /// Whether a result may be random, so that no values can be expected.
    pub fn is_random(&self) -> bool {
        // With a third input a dropout may train.
        let random = |node: &&NodeProto| {
            RANDOM.contains(&node.op_type.as_str())
                || node.op_type == "Dropout"
                    && node.input.get(2).is_some_and(|name| !name.is_empty())
        };
        self.nodes().iter().any(random)
    }

    /// A line for each node: operator, domain if not ONNX's own, attributes; at most so many.
    pub fn lines(&self, most: usize) -> Vec<String> {
        let nodes = self.nodes();
        let mut lines: Vec<String> = nodes.iter().take(most).map(|node| line(node)).collect();
        if nodes.len() > most {
            lines.push(format!("and {} more", nodes.len() - most));
        }
        let opsets = self.model.opset_import.iter();
        let opsets: Vec<String> = opsets
            .map(|set| format!("{} {}", set.domain, set.version).trim().to_owned())
            .collect();
        lines.push(format!("opset {}", opsets.join(", ")));
        lines
    }

    fn graph(&self) -> &GraphProto {
        static EMPTY: std::sync::LazyLock<GraphProto> =
            std::sync::LazyLock::new(GraphProto::default);
        self.model.graph.as_ref().unwrap_or(&EMPTY)
    }

    fn given(&self) -> Vec<&ValueInfoProto> {
        let graph = self.graph();
        let initialised: HashSet<&str> = graph
            .initializer
            .iter()
            .map(|tensor| tensor.name.as_str())
            .collect();
        graph
            .input
            .iter()
            .filter(|input| !initialised.contains(input.name.as_str()))
            .collect()
    }

    fn nodes(&self) -> Vec<&NodeProto> {
        let mut nodes = Vec::new();
        collect(&self.graph().node, &mut nodes);
        for function in &self.model.functions {
            collect(&function.node, &mut nodes);
        }
        nodes
    }
}

fn collect<'a>(from: &'a [NodeProto], into: &mut Vec<&'a NodeProto>) {
    for node in from {
        into.push(node);
        for attribute in &node.attribute {
            for graph in attribute.g.iter().chain(&attribute.graphs) {
                collect(&graph.node, into);
            }
        }
    }
}

fn strange(info: &ValueInfoProto) -> Option<String> {
    match info.r#type.as_ref()?.value.as_ref() {
        // A sequence, an optional or a map, which tract's code skips.
        None => Some("no tensor".to_owned()),
        Some(TypeValue::TensorType(tensor)) => {
            let number = i64::from(tensor.elem_type);
            (number != 0 && dtype_of(number).is_none()).then(|| dtype_name(number))
        }
    }
}

fn line(node: &NodeProto) -> String {
    let mut line = match node.domain.as_str() {
        "" | "ai.onnx" => node.op_type.clone(),
        domain => format!("{domain}.{}", node.op_type),
    };
    let given = node.input.iter().filter(|name| !name.is_empty()).count();
    let _ = write!(line, " {given} -> {}", node.output.len());
    for attribute in &node.attribute {
        let _ = write!(line, " {}={}", attribute.name, value(attribute));
    }
    line
}

fn value(attribute: &AttributeProto) -> String {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let value = match attribute.r#type {
        1 => attribute.f.to_string(),
        2 => attribute.i.to_string(),
        3 => text(&attribute.s),
        4 => match &attribute.t {
            Some(tensor) => format!("{}{:?}", dtype_name(tensor.data_type.into()), tensor.dims),
            None => "tensor".to_owned(),
        },
        5 | 10 => "graph".to_owned(),
        6 => format!("{:?}", attribute.floats),
        7 => format!("{:?}", attribute.ints),
        8 => format!(
            "{:?}",
            attribute
                .strings
                .iter()
                .map(|bytes| text(bytes))
                .collect::<Vec<_>>()
        ),
        _ => "?".to_owned(),
    };
    value.chars().take(LONGEST_ATTRIBUTE).collect()
}
