//! The smallest ONNX model: one `Identity` node, f32 [?] `x` -> `y`, written as protobuf by hand.
//!
//! Field numbers are those of `onnx.proto3`: ModelProto (ir_version 1, graph 7, opset_import 8), GraphProto
//! (node 1, name 2, input 11, output 12), NodeProto (input 1, output 2, op_type 4), ValueInfoProto (name 1,
//! type 2), TypeProto (tensor_type 1), Tensor (elem_type 1, shape 2), TensorShapeProto (dim 1), Dimension
//! (dim_param 2), OperatorSetIdProto (version 2).

/// The model's bytes.
pub(crate) fn identity() -> Vec<u8> {
    let node = [text(1, "x"), text(2, "y"), text(4, "Identity")].concat();
    let graph = [
        bytes(1, &node),
        text(2, "identity"),
        bytes(11, &value("x")),
        bytes(12, &value("y")),
    ]
    .concat();
    [number(1, 8), bytes(7, &graph), bytes(8, &number(2, 13))].concat()
}

/// An f32 tensor of one dimension, `n`.
fn value(name: &str) -> Vec<u8> {
    let shape = bytes(1, &text(2, "n"));
    let tensor = [number(1, 1), bytes(2, &shape)].concat();
    [text(1, name), bytes(2, &bytes(1, &tensor))].concat()
}

fn text(field: u8, value: &str) -> Vec<u8> {
    bytes(field, value.as_bytes())
}

/// A field with a length, which here is always under 128.
fn bytes(field: u8, value: &[u8]) -> Vec<u8> {
    assert!(
        value.len() < 128,
        "lengths of one byte are enough for this model"
    );
    [&[field << 3 | 2, value.len() as u8], value].concat()
}

fn number(field: u8, value: u8) -> Vec<u8> {
    vec![field << 3, value]
}
