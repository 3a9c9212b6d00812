//! Rules about what an engine answers wrongly, and what they may ask of a node.
//!
//! Element types are known where the file says them: of inputs, initializers and annotated values. A rule
//! that needs one says what it takes a silent file for.

use std::collections::HashMap;

use infer_core::{Error, ErrorKind, Result};

use crate::proto::{AttributeProto, GraphProto, ModelProto, NodeProto, OpsetProto, TensorProto};

/// Something that an engine gets wrong.
pub struct Rule {
    /// The operators that it is about.
    pub operators: &'static [&'static str],
    /// What about them, as it continues a message.
    pub what: &'static str,
    /// Whether a node is such a case.
    pub applies: fn(&Facts<'_>) -> bool,
}

/// The type of a value's elements, by ONNX's numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ElementType(i32);

impl ElementType {
    /// 1.
    pub const FLOAT: ElementType = ElementType(1);
    /// 2.
    pub const UINT8: ElementType = ElementType(2);
    /// 3.
    pub const INT8: ElementType = ElementType(3);
    /// 4.
    pub const UINT16: ElementType = ElementType(4);
    /// 5.
    pub const INT16: ElementType = ElementType(5);
    /// 6.
    pub const INT32: ElementType = ElementType(6);
    /// 7.
    pub const INT64: ElementType = ElementType(7);
    /// 8.
    pub const STRING: ElementType = ElementType(8);
    /// 9.
    pub const BOOL: ElementType = ElementType(9);
    /// 10.
    pub const FLOAT16: ElementType = ElementType(10);
    /// 11.
    pub const DOUBLE: ElementType = ElementType(11);
    /// 12.
    pub const UINT32: ElementType = ElementType(12);
    /// 13.
    pub const UINT64: ElementType = ElementType(13);
    /// 16.
    pub const BFLOAT16: ElementType = ElementType(16);
}

/// What a rule may ask of a node.
pub struct Facts<'a> {
    node: &'a NodeProto,
    opset: i64,
    values: &'a Values<'a>,
}

/// What the file says of values, by name: graphs inside of graphs come last and so hide what is outside.
#[derive(Default)]
struct Values<'a> {
    types: HashMap<&'a str, ElementType>,
    ranks: HashMap<&'a str, usize>,
}

impl<'a> Facts<'a> {
    /// The version of the operator set that the node is of.
    pub fn opset(&self) -> i64 {
        self.opset
    }

    /// The operator.
    pub fn operator(&self) -> &str {
        &self.node.op_type
    }

    /// The operator's domain, empty for ONNX's own.
    pub fn domain(&self) -> &str {
        match self.node.domain.as_str() {
            "ai.onnx" => "",
            domain => domain,
        }
    }

    /// Whether an attribute is there.
    pub fn has(&self, attribute: &str) -> bool {
        self.attribute(attribute).is_some()
    }

    /// An attribute that is a number, or its default.
    pub fn int(&self, attribute: &str, default: i64) -> i64 {
        self.attribute(attribute).map_or(default, |a| a.i)
    }

    /// An attribute that is a number, or its default.
    pub fn float(&self, attribute: &str, default: f32) -> f32 {
        self.attribute(attribute).map_or(default, |a| a.f)
    }

    /// An attribute that is a list of numbers; empty where it is absent.
    pub fn ints(&self, attribute: &str) -> &[i64] {
        self.attribute(attribute).map_or(&[], |a| &a.ints)
    }

    /// An attribute that is a text; empty where it is absent.
    pub fn text(&self, attribute: &str) -> &str {
        let bytes = self.attribute(attribute).map_or(&[][..], |a| &a.s);
        std::str::from_utf8(bytes).unwrap_or_default()
    }

    /// How many inputs the node names; one left out in the middle counts.
    pub fn inputs(&self) -> usize {
        self.node.input.len()
    }

    /// Whether an input is there and not left out.
    pub fn has_input(&self, index: usize) -> bool {
        self.node
            .input
            .get(index)
            .is_some_and(|name| !name.is_empty())
    }

    /// Whether an output is asked for.
    pub fn has_output(&self, index: usize) -> bool {
        self.node
            .output
            .get(index)
            .is_some_and(|name| !name.is_empty())
    }

    /// The element type of an input, where the file says it.
    pub fn input_type(&self, index: usize) -> Option<ElementType> {
        self.values
            .types
            .get(self.node.input.get(index)?.as_str())
            .copied()
    }

    /// The element type of an output, where the file says it.
    pub fn output_type(&self, index: usize) -> Option<ElementType> {
        self.values
            .types
            .get(self.node.output.get(index)?.as_str())
            .copied()
    }

    /// The number of dimensions of an input, where the file says it.
    pub fn input_rank(&self, index: usize) -> Option<usize> {
        self.values
            .ranks
            .get(self.node.input.get(index)?.as_str())
            .copied()
    }

    /// Whether an input may be of one of these types: it is, or the file does not say.
    pub fn may_be(&self, index: usize, types: &[ElementType]) -> bool {
        self.input_type(index)
            .is_none_or(|found| types.contains(&found))
    }

    fn attribute(&self, name: &str) -> Option<&'a AttributeProto> {
        self.node
            .attribute
            .iter()
            .find(|attribute| attribute.name == name)
    }
}

/// Every node of a model, in subgraphs and functions too.
pub(crate) fn nodes(model: &ModelProto) -> impl Iterator<Item = &NodeProto> {
    let mut waiting: Vec<&NodeProto> = model
        .graph
        .iter()
        .flat_map(|graph| &graph.node)
        .chain(model.functions.iter().flat_map(|function| &function.node))
        .collect();
    std::iter::from_fn(move || {
        let node = waiting.pop()?;
        let graphs = node
            .attribute
            .iter()
            .flat_map(|a| a.g.iter().chain(&a.graphs));
        waiting.extend(graphs.flat_map(|graph| &graph.node));
        Some(node)
    })
}

/// Refuses a model to which a rule applies.
pub(crate) fn check(model: &ModelProto, engine: &str, rules: &[Rule]) -> Result<()> {
    let opset = |domain: &str| opset(&model.opset_import, domain);
    let mut values = Values::default();
    if let Some(graph) = &model.graph {
        values.add(graph);
    }
    for node in nodes(model) {
        let facts = Facts {
            node,
            opset: opset(&node.domain),
            values: &values,
        };
        let rule = rules
            .iter()
            .find(|rule| rule.operators.contains(&facts.operator()) && (rule.applies)(&facts));
        if let Some(rule) = rule {
            let message = format!(
                "{engine} would run `{}` wrongly: {}",
                facts.operator(),
                rule.what
            );
            return Err(Error::new(ErrorKind::UnsupportedOperation, message)
                .with_hint("another backend may run this model"));
        }
    }
    Ok(())
}

fn opset(imported: &[OpsetProto], domain: &str) -> i64 {
    let plain = |domain: &str| matches!(domain, "" | "ai.onnx");
    imported
        .iter()
        .find(|opset| opset.domain == domain || plain(&opset.domain) && plain(domain))
        .map_or(1, |opset| opset.version)
}

impl<'a> Values<'a> {
    fn add(&mut self, graph: &'a GraphProto) {
        for TensorProto {
            name,
            data_type,
            dims,
            ..
        } in &graph.initializer
        {
            self.types.insert(name, ElementType(*data_type));
            self.ranks.insert(name, dims.len());
        }
        for value in graph
            .input
            .iter()
            .chain(&graph.output)
            .chain(&graph.value_info)
        {
            let kind = value
                .r#type
                .as_ref()
                .and_then(|kind| kind.tensor_type.as_ref());
            if let Some(tensor) = kind {
                self.types
                    .insert(&value.name, ElementType(tensor.elem_type));
                if let Some(shape) = &tensor.shape {
                    self.ranks.insert(&value.name, shape.dim.len());
                }
            }
        }
        for node in &graph.node {
            for attribute in &node.attribute {
                if node.op_type == "Constant"
                    && let (Some(tensor), Some(output)) = (&attribute.t, node.output.first())
                {
                    self.types.insert(output, ElementType(tensor.data_type));
                    self.ranks.insert(output, tensor.dims.len());
                }
                attribute
                    .g
                    .iter()
                    .chain(&attribute.graphs)
                    .for_each(|graph| self.add(graph));
            }
        }
    }
}
