"""Writes ONNX files with the standard library alone: a protobuf encoder of the few messages needed.

The caller builds bytes bottom-up: `tensor` and `node` give messages, `model` joins them. The same
calls give the same bytes under every Python 3. Field numbers are those of onnx.proto (IR version 8).

It checks nothing: a wrong model is written as it is described, which the test models rely on.
"""

import struct
import sys
from array import array

FLOAT, UINT8, INT8, UINT16, INT16, INT32, INT64, STRING, BOOL = 1, 2, 3, 4, 5, 6, 7, 8, 9
FLOAT16, DOUBLE, UINT32, UINT64, BFLOAT16 = 10, 11, 12, 13, 16

IR_VERSION = 8


def varint(value):
    """A protobuf varint; a negative value is written as its 64-bit two's complement."""
    value &= (1 << 64) - 1
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def number(field, value):
    return varint(field << 3) + varint(value)


def data(field, value):
    """A length-delimited field: text, bytes or an encoded message."""
    if isinstance(value, str):
        value = value.encode("utf-8")
    return varint(field << 3 | 2) + varint(len(value)) + value


def float32(field, value):
    return varint(field << 3 | 5) + struct.pack("<f", value)


def little_endian(typecode, values):
    """The raw bytes of numbers, for `tensor`; `typecode` is one of the `array` module's."""
    numbers = values if isinstance(values, array) else array(typecode, values)
    if sys.byteorder == "big":
        numbers = array(numbers.typecode, numbers)
        numbers.byteswap()
    return numbers.tobytes()


def tensor(name, element_type, dims, raw):
    """A TensorProto that holds `raw`, the elements in little-endian order."""
    encoded = b"".join(number(1, d) for d in dims) + number(2, element_type)
    return encoded + (data(8, name) if name else b"") + data(9, raw)


def floats(name, dims, values):
    return tensor(name, FLOAT, dims, little_endian("f", values))


def integers(name, dims, values):
    return tensor(name, INT64, dims, little_endian("q", values))


def external_tensor(name, element_type, dims, location):
    """A TensorProto whose elements are in another file."""
    entry = data(1, "location") + data(2, location)
    encoded = b"".join(number(1, d) for d in dims) + number(2, element_type)
    return encoded + data(8, name) + data(13, entry) + number(14, 1)


def attribute(name, value):
    """An AttributeProto from an int, a float, a text, an encoded tensor or a list of ints."""
    if isinstance(value, int):
        body = number(3, value) + number(20, 2)
    elif isinstance(value, float):
        body = float32(2, value) + number(20, 1)
    elif isinstance(value, str):
        body = data(4, value) + number(20, 3)
    elif isinstance(value, bytes):
        body = data(5, value) + number(20, 4)
    else:
        body = b"".join(number(8, v) for v in value) + number(20, 7)
    return data(1, name) + body


def node(op_type, inputs, outputs, domain="", **attributes):
    """A NodeProto, named after its first output."""
    encoded = b"".join(data(1, name) for name in inputs)
    encoded += b"".join(data(2, name) for name in outputs)
    encoded += data(3, outputs[0]) + data(4, op_type)
    encoded += b"".join(data(5, attribute(k, attributes[k])) for k in sorted(attributes))
    return encoded + (data(7, domain) if domain else b"")


def value_info(name, element_type, dims):
    """A ValueInfoProto; a text among the dimensions is a dynamic one."""
    shape = b""
    for dim in dims:
        shape += data(1, data(2, dim) if isinstance(dim, str) else number(1, dim))
    tensor_type = number(1, element_type) + data(2, shape)
    return data(1, name) + data(2, data(1, tensor_type))


def model(name, inputs, outputs, nodes, initializers=(), opset=13, domains=()):
    """A whole ModelProto as bytes: what goes into the .onnx file."""
    graph = b"".join(data(1, n) for n in nodes) + data(2, name)
    graph += b"".join(data(5, t) for t in initializers)
    graph += b"".join(data(11, i) for i in inputs)
    graph += b"".join(data(12, o) for o in outputs)
    encoded = number(1, IR_VERSION) + data(2, "infer") + data(7, graph)
    encoded += data(8, data(1, "") + number(2, opset))
    return encoded + b"".join(data(8, data(1, d) + number(2, 1)) for d in domains)
