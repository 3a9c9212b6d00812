//! Writes tiny ONNX models: a protobuf encoder of the few messages needed.
#![allow(
    dead_code,
    unreachable_pub,
    reason = "each test program uses some of these"
)]

/// ONNX's numbers of element types.
pub const FLOAT: u64 = 1;
pub const UINT8: u64 = 2;
pub const INT64: u64 = 7;

/// A model under construction.
pub struct Model {
    graph: Vec<u8>,
    functions: Vec<u8>,
    opset: u64,
}

impl Model {
    pub fn new(opset: u64) -> Model {
        Model {
            graph: text(2, "test"),
            functions: Vec::new(),
            opset,
        }
    }

    /// An input; a dimension of 0 is dynamic.
    pub fn input(mut self, name: &str, dtype: u64, shape: &[u64]) -> Model {
        self.graph.extend(message(11, &value(name, dtype, shape)));
        self
    }

    pub fn output(mut self, name: &str, dtype: u64, shape: &[u64]) -> Model {
        self.graph.extend(message(12, &value(name, dtype, shape)));
        self
    }

    pub fn node(mut self, operator: &str, ends: [&[&str]; 2], attributes: &[Vec<u8>]) -> Model {
        let node = node(operator, ends, attributes);
        self.graph.extend(message(1, &node));
        self
    }

    pub fn floats(mut self, name: &str, shape: &[u64], values: &[f32]) -> Model {
        let raw: Vec<u8> = values.iter().flat_map(|v| v.to_le_bytes()).collect();
        let tensor = [tensor(name, FLOAT, shape), message(9, &raw)].concat();
        self.graph.extend(message(5, &tensor));
        self
    }

    pub fn integers(mut self, name: &str, values: &[i64]) -> Model {
        let raw: Vec<u8> = values.iter().flat_map(|v| v.to_le_bytes()).collect();
        let shape = [values.len() as u64];
        let tensor = [tensor(name, INT64, &shape), message(9, &raw)].concat();
        self.graph.extend(message(5, &tensor));
        self
    }

    /// One number of u8.
    pub fn byte(mut self, name: &str, number: u8) -> Model {
        let tensor = [tensor(name, UINT8, &[]), message(9, &[number])].concat();
        self.graph.extend(message(5, &tensor));
        self
    }

    /// Elements of f32 in another file.
    pub fn external(mut self, name: &str, shape: &[u64], location: &str) -> Model {
        let entry = [text(1, "location"), text(2, location)].concat();
        let tensor = [
            tensor(name, FLOAT, shape),
            message(13, &entry),
            number(14, 1),
        ]
        .concat();
        self.graph.extend(message(5, &tensor));
        self
    }

    /// An operator of domain `own` that is these nodes.
    pub fn function(mut self, name: &str, ends: [&[&str]; 2], nodes: &[Vec<u8>]) -> Model {
        let mut body = text(1, name);
        body.extend(ends[0].iter().flat_map(|name| text(4, name)));
        body.extend(ends[1].iter().flat_map(|name| text(5, name)));
        body.extend(nodes.iter().flat_map(|node| message(7, node)));
        body.extend(message(9, &number(2, self.opset)));
        body.extend(text(10, "own"));
        self.functions.extend(message(25, &body));
        self
    }

    /// The graph alone, for an attribute.
    pub fn body(self) -> Vec<u8> {
        self.graph
    }

    pub fn bytes(self) -> Vec<u8> {
        let mut bytes = number(1, 8);
        bytes.extend(message(7, &self.graph));
        bytes.extend(message(8, &number(2, self.opset)));
        bytes.extend(message(8, &[text(1, "own"), number(2, 1)].concat()));
        bytes.extend(self.functions);
        bytes
    }
}

/// A node from its inputs and outputs.
pub fn node(operator: &str, ends: [&[&str]; 2], attributes: &[Vec<u8>]) -> Vec<u8> {
    let (operator, domain) = match operator.strip_prefix("own.") {
        Some(operator) => (operator, "own"),
        None => (operator, ""),
    };
    let mut node = Vec::new();
    node.extend(ends[0].iter().flat_map(|name| text(1, name)));
    node.extend(ends[1].iter().flat_map(|name| text(2, name)));
    node.extend(text(4, operator));
    node.extend(attributes.iter().flat_map(|a| message(5, a)));
    node.extend(text(7, domain));
    node
}

/// A graph for an attribute, of one node and one output.
pub fn graph(node: &[u8], output: &str) -> Vec<u8> {
    let output = value(output, FLOAT, &[0]);
    [message(1, node), text(2, "inner"), message(12, &output)].concat()
}

pub fn int(name: &str, value: u64) -> Vec<u8> {
    [text(1, name), number(3, value), number(20, 2)].concat()
}

pub fn ints(name: &str, values: &[u64]) -> Vec<u8> {
    let values: Vec<u8> = values.iter().flat_map(|v| number(8, *v)).collect();
    [text(1, name), values, number(20, 7)].concat()
}

pub fn string(name: &str, value: &str) -> Vec<u8> {
    [text(1, name), text(4, value), number(20, 3)].concat()
}

pub fn inner(name: &str, graph: &[u8]) -> Vec<u8> {
    [text(1, name), message(6, graph), number(20, 5)].concat()
}

fn value(name: &str, dtype: u64, shape: &[u64]) -> Vec<u8> {
    let mut dims = Vec::new();
    for (axis, size) in shape.iter().enumerate() {
        let dim = match size {
            0 => text(2, &format!("{name}_{axis}")),
            size => number(1, *size),
        };
        dims.extend(message(1, &dim));
    }
    let tensor = [number(1, dtype), message(2, &dims)].concat();
    [text(1, name), message(2, &message(1, &tensor))].concat()
}

fn tensor(name: &str, dtype: u64, shape: &[u64]) -> Vec<u8> {
    let dims: Vec<u8> = shape.iter().flat_map(|size| number(1, *size)).collect();
    [dims, number(2, dtype), text(8, name)].concat()
}

fn varint(mut value: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    while value > 0x7f {
        bytes.push(value as u8 & 0x7f | 0x80);
        value >>= 7;
    }
    bytes.push(value as u8);
    bytes
}

/// A field that is a number.
pub fn number(field: u64, value: u64) -> Vec<u8> {
    [varint(field << 3), varint(value)].concat()
}

/// A field of bytes or of a message.
pub fn message(field: u64, bytes: &[u8]) -> Vec<u8> {
    let mut encoded = varint(field << 3 | 2);
    encoded.extend(varint(bytes.len() as u64));
    encoded.extend(bytes);
    encoded
}

/// A field of text.
pub fn text(field: u64, value: &str) -> Vec<u8> {
    message(field, value.as_bytes())
}

/// A model of one node; each input is a given one of f32.
pub fn one(operator: &str, inputs: &[&str], outputs: &[&str], attributes: &[Vec<u8>]) -> Model {
    let mut model = Model::new(22);
    for input in inputs.iter().filter(|input| !input.is_empty()) {
        model = model.input(input, FLOAT, &[1, 1, 4, 4]);
    }
    for output in outputs.iter().filter(|output| !output.is_empty()) {
        model = model.output(output, FLOAT, &[0, 0, 0, 0]);
    }
    model.node(operator, [inputs, outputs], attributes)
}
