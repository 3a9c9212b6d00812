//! Rules about what an engine answers wrongly, and what they may ask of a node.

use infer_core::{Error, ErrorKind, Result};

use crate::model::{Attribute, Model, Node, Scope, Tensor};

/// Something that an engine gets wrong.
pub struct Rule {
    /// The operators that it is about.
    pub operators: &'static [&'static str],
    /// What about them, as it continues a message.
    pub what: &'static str,
    /// Whether a node is such a case.
    pub applies: fn(&Facts<'_>) -> bool,
}

/// A node, and what is known of it from the file.
#[derive(Clone, Copy)]
pub struct Facts<'a> {
    /// The node.
    pub node: &'a Node,
    /// The nodes that it stands among.
    pub scope: Scope<'a>,
}

impl<'a> Facts<'a> {
    /// An attribute, if it is there.
    pub fn attribute(&self, name: &str) -> Option<&'a Attribute> {
        self.node.attributes.iter().find(|a| a.name == name)
    }

    /// A number, or its default.
    pub fn int(&self, name: &str, default: i64) -> i64 {
        self.attribute(name).map_or(default, |a| a.int)
    }

    /// A list of numbers, empty where it is missing.
    pub fn ints(&self, name: &str) -> &'a [i64] {
        self.attribute(name).map_or(&[], |a| &a.ints)
    }

    /// A text, empty where it is missing.
    pub fn text(&self, name: &str) -> &'a [u8] {
        self.attribute(name).map_or(&[], |a| &a.text)
    }

    /// Whether an input is there and not left out.
    pub fn has_input(&self, place: usize) -> bool {
        self.node.inputs.get(place).is_some_and(|n| !n.is_empty())
    }

    /// Whether an output is asked for.
    pub fn has_output(&self, place: usize) -> bool {
        self.node.outputs.get(place).is_some_and(|n| !n.is_empty())
    }

    /// An input that is a constant of the same graph.
    pub fn constant(&self, place: usize) -> Option<&'a Tensor> {
        let name = self.node.inputs.get(place)?;
        let graph = self.scope.graph;
        // A caller may give another value for an initialiser that is an input too.
        let given = graph.is_some_and(|graph| graph.inputs.iter().any(|i| i.name == *name));
        let initialisers = graph.map_or(&[][..], |graph| &graph.initializers);
        let initialiser = initialisers.iter().find(|t| t.name == *name && !given);
        initialiser.or_else(|| {
            let makes = |node: &&Node| node.operator == "Constant" && node.outputs.contains(name);
            let node = self.scope.nodes.iter().find(makes)?;
            node.attributes.iter().find_map(|a| a.tensor.as_ref())
        })
    }

    /// ONNX's number of an input's element type, where the file says it.
    pub fn element_type(&self, place: usize) -> Option<i32> {
        let (graph, name) = (self.scope.graph?, self.node.inputs.get(place)?);
        let mut declared = graph.inputs.iter().chain(&graph.values);
        let declared = declared
            .find(|value| value.name == *name)
            .and_then(|value| value.dtype());
        declared.or_else(|| Some(self.constant(place)?.dtype))
    }

    /// The declared number of elements of an input of one axis.
    pub fn length(&self, place: usize) -> Option<usize> {
        let (graph, name) = (self.scope.graph?, self.node.inputs.get(place)?);
        let mut declared = graph.inputs.iter().chain(&graph.values);
        let dimensions = declared.find(|value| value.name == *name)?.dimensions()?;
        match dimensions.as_slice() {
            [length] => *length,
            _ => None,
        }
    }

    /// Whether an input is known to be whole numbers of at least 1.
    pub fn whole_scales(&self, place: usize) -> bool {
        let Some(tensor) = self.constant(place) else {
            return false;
        };
        let (raw, _) = tensor.raw.as_chunks();
        let raw = raw.iter().map(|number| f32::from_le_bytes(*number));
        let scales: Vec<f32> = tensor.floats.iter().copied().chain(raw).collect();
        !scales.is_empty() && scales.iter().all(|s| *s >= 1.0 && s.fract() == 0.0)
    }
}

/// Refuses a model if a rule of `engine` applies to any of its nodes, those inside of nodes and functions too.
///
/// # Errors
/// `UnsupportedOperation` for the first, with the operator and what about it.
pub fn check_rules(model: &Model, engine: &str, rules: &[Rule]) -> Result<()> {
    model.for_each_graph(&mut |scope| {
        scope
            .nodes
            .iter()
            .try_for_each(|node| check_node(Facts { node, scope }, engine, rules))
    })
}

fn check_node(facts: Facts<'_>, engine: &str, rules: &[Rule]) -> Result<()> {
    let operator = facts.node.operator.as_str();
    if !matches!(facts.node.domain.as_str(), "" | "ai.onnx") {
        return Ok(());
    }
    let found = rules
        .iter()
        .find(|rule| rule.operators.contains(&operator) && (rule.applies)(&facts));
    match found {
        None => Ok(()),
        Some(rule) => {
            let message = format!("{engine} would run `{operator}` wrongly: {}", rule.what);
            Err(Error::new(ErrorKind::UnsupportedOperation, message)
                .with_hint("another backend may run this model"))
        }
    }
}
