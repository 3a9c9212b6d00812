//! Builds the models of the tests, as small as they can be.

use std::sync::Arc;

use infer_core::{Cancel, Graph, Result, run_engine};
use tract_onnx::pb::attribute_proto::AttributeType;
use tract_onnx::pb::tensor_proto::DataType;
use tract_onnx::pb::tensor_shape_proto::Dimension;
use tract_onnx::pb::tensor_shape_proto::dimension::Value;
use tract_onnx::pb::{
    AttributeProto, GraphProto, ModelProto, NodeProto, OperatorSetIdProto, TensorProto,
    TensorShapeProto, TypeProto, ValueInfoProto, type_proto,
};

use crate::load::load_model;

/// A model under construction: inputs, constants and nodes; the outputs are those of the last node.
pub(super) struct Model {
    pub(super) opset: i64,
    pub(super) graph: GraphProto,
}

impl Model {
    pub(super) fn new(opset: i64) -> Model {
        Model {
            opset,
            graph: GraphProto::default(),
        }
    }

    /// An input; a dimension of 0 is dynamic.
    pub(super) fn input(mut self, name: &str, dtype: DataType, shape: &[i64]) -> Model {
        self.graph.input.push(value(name, dtype, shape));
        self
    }

    pub(super) fn x(self, shape: &[i64]) -> Model {
        self.input("x", DataType::Float, shape)
    }

    pub(super) fn floats(mut self, name: &str, shape: &[i64], values: &[f32]) -> Model {
        self.graph.initializer.push(TensorProto {
            name: name.to_owned(),
            dims: shape.to_vec(),
            data_type: DataType::Float as i32,
            float_data: values.to_vec(),
            ..Default::default()
        });
        self
    }

    pub(super) fn integers(mut self, name: &str, values: &[i64]) -> Model {
        self.graph.initializer.push(TensorProto {
            name: name.to_owned(),
            dims: vec![values.len() as i64],
            data_type: DataType::Int64 as i32,
            int64_data: values.to_vec(),
            ..Default::default()
        });
        self
    }

    /// One number of a type of 8 bits.
    pub(super) fn byte(mut self, name: &str, dtype: DataType, number: i32) -> Model {
        self.graph.initializer.push(TensorProto {
            name: name.to_owned(),
            data_type: dtype as i32,
            int32_data: vec![number],
            ..Default::default()
        });
        self
    }

    pub(super) fn node(
        mut self,
        op_type: &str,
        inputs: &[&str],
        outputs: &[&str],
        attributes: &[AttributeProto],
    ) -> Model {
        self.graph.node.push(NodeProto {
            op_type: op_type.to_owned(),
            input: inputs.iter().map(|name| (*name).to_owned()).collect(),
            output: outputs.iter().map(|name| (*name).to_owned()).collect(),
            attribute: attributes.to_vec(),
            ..Default::default()
        });
        self
    }

    /// The last node's domain.
    pub(super) fn domain(mut self, domain: &str) -> Model {
        self.graph.node.last_mut().expect("a node").domain = domain.to_owned();
        self
    }

    pub(super) fn load(self) -> Result<Arc<dyn Graph>> {
        let proto = self.proto();
        run_engine("tract", || load_model(proto, None, &Cancel::default()))
    }

    pub(super) fn proto(mut self) -> ModelProto {
        for name in self
            .graph
            .node
            .last()
            .expect("a node")
            .output
            .iter()
            .filter(|name| !name.is_empty())
        {
            self.graph.output.push(value(name, DataType::Float, &[]));
        }
        let opset_import = vec![OperatorSetIdProto {
            domain: String::new(),
            version: self.opset,
        }];
        ModelProto {
            opset_import,
            graph: Some(self.graph),
            ..Default::default()
        }
    }
}

/// An operator of one input of four elements.
pub(super) fn unary(opset: i64, op_type: &str, attributes: &[AttributeProto]) -> Model {
    Model::new(opset)
        .x(&[1, 1, 2, 2])
        .node(op_type, &["x"], &["y"], attributes)
}

pub(super) fn value(name: &str, dtype: DataType, shape: &[i64]) -> ValueInfoProto {
    let dim = shape.iter().enumerate().map(|(axis, &size)| Dimension {
        value: Some(match size {
            0 => Value::DimParam(format!("{name}_{axis}")),
            size => Value::DimValue(size),
        }),
        ..Default::default()
    });
    let shape = Some(TensorShapeProto { dim: dim.collect() });
    let tensor = type_proto::Tensor {
        elem_type: dtype as i32,
        shape,
    };
    let r#type = TypeProto {
        value: Some(type_proto::Value::TensorType(tensor)),
        ..Default::default()
    };
    ValueInfoProto {
        name: name.to_owned(),
        r#type: Some(r#type),
        ..Default::default()
    }
}

pub(super) fn int(name: &str, i: i64) -> AttributeProto {
    AttributeProto {
        name: name.to_owned(),
        r#type: AttributeType::Int as i32,
        i,
        ..Default::default()
    }
}

pub(super) fn float(name: &str, f: f32) -> AttributeProto {
    AttributeProto {
        name: name.to_owned(),
        r#type: AttributeType::Float as i32,
        f,
        ..Default::default()
    }
}

pub(super) fn ints(name: &str, ints: &[i64]) -> AttributeProto {
    AttributeProto {
        name: name.to_owned(),
        r#type: AttributeType::Ints as i32,
        ints: ints.to_vec(),
        ..Default::default()
    }
}

pub(super) fn text(name: &str, text: &str) -> AttributeProto {
    let s = text.as_bytes().to_vec();
    AttributeProto {
        name: name.to_owned(),
        r#type: AttributeType::String as i32,
        s,
        ..Default::default()
    }
}

pub(super) fn texts(name: &str, texts: &[&str]) -> AttributeProto {
    let strings = texts.iter().map(|text| text.as_bytes().to_vec()).collect();
    AttributeProto {
        name: name.to_owned(),
        r#type: AttributeType::Strings as i32,
        strings,
        ..Default::default()
    }
}
