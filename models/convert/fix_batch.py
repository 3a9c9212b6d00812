"""Gives an ONNX model the batch size 1: `fix_batch.py OUT.onnx IN.onnx`.

An engine that works shapes out when it loads a model can do so where a first dimension is free only
if no operator asks for it; with a batch of 1 it always can. The first dimension of every input and
output becomes 1, where it was free, and declared shapes in between are dropped: nothing else changes.
"""

import os
import sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))  # python3 -I leaves it out

import onnx_writer as onnx  # noqa: E402
from protobuf_reader import fields  # noqa: E402

MODEL_GRAPH = 7
GRAPH_INPUT, GRAPH_OUTPUT, GRAPH_VALUE_INFO = 11, 12, 13
VALUE_TYPE = 2
TYPE_TENSOR = 1
TENSOR_SHAPE = 2
SHAPE_DIM = 1
DIM_VALUE = 1


def rewrite(message, changes):
    """The message with the fields in `changes` replaced by what their function gives."""
    return b"".join(
        onnx.data(number, changes[number](content)) if number in changes else raw
        for number, content, raw in fields(message)
    )


def fix_shape(shape):
    dims = [content for number, content, _ in fields(shape) if number == SHAPE_DIM]
    if dims and DIM_VALUE not in [number for number, _, _ in fields(dims[0])]:
        dims[0] = onnx.number(DIM_VALUE, 1)
    return b"".join(onnx.data(SHAPE_DIM, dim) for dim in dims)


def fix_value(value):
    def fix_tensor(tensor):
        return rewrite(tensor, {TENSOR_SHAPE: fix_shape})

    return rewrite(value, {VALUE_TYPE: lambda kind: rewrite(kind, {TYPE_TENSOR: fix_tensor})})


def fix_graph(graph):
    kept = b"".join(raw for number, _, raw in fields(graph) if number != GRAPH_VALUE_INFO)
    return rewrite(kept, {GRAPH_INPUT: fix_value, GRAPH_OUTPUT: fix_value})


def main(destination, source):
    with open(source, "rb") as file:
        model = file.read()
    with open(destination, "wb") as file:
        file.write(rewrite(model, {MODEL_GRAPH: fix_graph}))


if __name__ == "__main__":
    main(*sys.argv[1:])
