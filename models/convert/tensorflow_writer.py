"""Writes TensorFlow graphs with the standard library alone: frozen (GraphDef) and as a SavedModel.

The caller builds bytes bottom-up: `constant`, `placeholder` and `node` give messages, `graph` joins
them, `saved_model` wraps a graph. The same calls give the same bytes under every Python 3. Field numbers
are those of graph.proto, node_def.proto, attr_value.proto and saved_model.proto.
"""

from onnx_writer import data, float32, little_endian, number, varint

FLOAT, INT32 = 1, 3
PRODUCER = 134  # the version of graphs that TensorFlow 1.15 writes
TENSORFLOW = "2.0.0"


class Type(int):
    """An attribute that is an element type."""


class Shape(list):
    """An attribute that is a shape."""


def shape(dims):
    return b"".join(data(2, number(1, dim)) for dim in dims)


def value(attribute):
    """An AttrValue from a bool, a Type, an int, a float, a text, a Shape, a list of ints or a tensor."""
    if isinstance(attribute, bool):
        return number(5, int(attribute))
    if isinstance(attribute, Type):
        return number(6, attribute)
    if isinstance(attribute, int):
        return number(3, attribute)
    if isinstance(attribute, float):
        return float32(4, attribute)
    if isinstance(attribute, str):
        return data(2, attribute)
    if isinstance(attribute, Shape):
        return data(7, shape(attribute))
    if isinstance(attribute, list):
        return data(1, data(3, b"".join(varint(v) for v in attribute)))
    return data(8, attribute)


def node(operator, name, inputs=(), **attributes):
    """A NodeDef."""
    encoded = data(1, name) + data(2, operator)
    encoded += b"".join(data(3, i) for i in inputs)
    entries = (data(1, key) + data(2, value(attributes[key])) for key in sorted(attributes))
    return encoded + b"".join(data(5, entry) for entry in entries)


def constant(name, element_type, dims, values):
    typecode = {FLOAT: "f", INT32: "i"}[element_type]
    tensor = number(1, element_type) + data(2, shape(dims)) + data(4, little_endian(typecode, values))
    return node("Const", name, dtype=Type(element_type), value=tensor)


def placeholder(name, dims):
    return node("Placeholder", name, dtype=Type(FLOAT), shape=Shape(dims))


def graph(nodes):
    """A whole GraphDef as bytes: what goes into a frozen graph's .pb file."""
    return b"".join(data(1, n) for n in nodes) + data(4, number(1, PRODUCER))


def entry(key, message):
    return data(1, key) + data(2, message)


def tensor_info(name, dims):
    return data(1, name + ":0") + number(2, FLOAT) + data(3, shape(dims))


def saved_model(encoded_graph, inputs, outputs):
    """A SavedModel's .pb file: a graph without variables; inputs and outputs are name -> dimensions."""
    signature = b"".join(data(1, entry(name, tensor_info(name, dims))) for name, dims in inputs.items())
    signature += b"".join(data(2, entry(name, tensor_info(name, dims))) for name, dims in outputs.items())
    signature += data(3, "tensorflow/serving/predict")
    description = data(4, "serve") + data(5, TENSORFLOW)
    meta_graph = data(1, description) + data(2, encoded_graph) + data(5, entry("serving_default", signature))
    return number(1, 1) + data(2, meta_graph)
