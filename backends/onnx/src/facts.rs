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

    /// The whole numbers of an input that is a constant of the same graph, where the file itself has all of them.
    pub fn integers(&self, place: usize) -> Option<Vec<i64>> {
        if let Some(tensor) = self.constant(place) {
            return integers_of(tensor);
        }
        let name = self.node.inputs.get(place)?;
        let makes = |node: &&Node| node.operator == "Constant" && node.outputs.contains(name);
        let value = self.scope.nodes.iter().find(makes)?.attributes.first()?;
        match value.name.as_str() {
            "value_int" => Some(vec![value.int]),
            "value_ints" => Some(value.ints.clone()),
            _ => None,
        }
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
        match self.dimensions(self.node.inputs.get(place)?)?.as_slice() {
            [length] => *length,
            _ => None,
        }
    }

    /// The declared dimensions of a value, `None` for one without a number.
    pub fn dimensions(&self, name: &str) -> Option<Vec<Option<usize>>> {
        let graph = self.scope.graph?;
        let declared = graph.inputs.iter().chain(&graph.values);
        let mut declared = declared.chain(&graph.outputs);
        declared.find(|value| value.name == name)?.dimensions()
    }

    /// Whether every dimension of an input is known, by what the file says of it or of all that callers give.
    pub fn has_known_shape(&self, place: usize) -> bool {
        let known = |dimensions: Option<Vec<Option<usize>>>| {
            dimensions.is_some_and(|dimensions| dimensions.iter().all(Option::is_some))
        };
        let given = self.scope.graph.map_or(Vec::new(), |g| g.given_inputs());
        let all = !given.is_empty() && given.iter().all(|input| known(input.dimensions()));
        let name = self.node.inputs.get(place);
        all || name.is_some_and(|name| known(self.dimensions(name)))
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

/// The elements, where they are whole numbers of at most 64 bits that lie in the file.
fn integers_of(tensor: &Tensor) -> Option<Vec<i64>> {
    const UINT8: i32 = 2;
    const INT8: i32 = 3;
    const UINT16: i32 = 4;
    const INT16: i32 = 5;
    const INT32: i32 = 6;
    const INT64: i32 = 7;
    let raw = &tensor.raw;
    let (raw2, raw4, raw8) = (raw.as_chunks().0, raw.as_chunks().0, raw.as_chunks().0);
    let mut all: Vec<i64> = match tensor.dtype {
        UINT8 => raw.iter().map(|n| i64::from(*n)).collect(),
        INT8 => raw.iter().map(|n| i64::from(n.cast_signed())).collect(),
        UINT16 => raw2.iter().map(|n| u16::from_le_bytes(*n).into()).collect(),
        INT16 => raw2.iter().map(|n| i16::from_le_bytes(*n).into()).collect(),
        INT32 => raw4.iter().map(|n| i32::from_le_bytes(*n).into()).collect(),
        INT64 => raw8.iter().map(|n| i64::from_le_bytes(*n)).collect(),
        _ => return None,
    };
    all.extend(tensor.narrow_integers.iter().map(|n| i64::from(*n)));
    all.extend(&tensor.integers);
    let expected = tensor.dims.iter().try_fold(1, |all: usize, size| {
        all.checked_mul(usize::try_from(*size).ok()?)
    });
    (expected == Some(all.len())).then_some(all)
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
