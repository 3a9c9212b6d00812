"""A guest in Python that is a model: `values` in, the place of the largest value that the model `default` makes of them out.

What it imports is made by componentize-py from guest-examples/guest/wit; docs/guests.md has the commands.
"""

import struct

from componentize_py_types import Err
from wit_world import exports
from wit_world.exports.transform import DataType, ModelInfo, TensorInfo
from wit_world.imports import graph
from wit_world.imports.tensor import Tensor, TensorType


class Transform(exports.Transform):
    def describe(self):
        return ModelInfo(
            [TensorInfo("values", DataType.FP32, [None])],
            [TensorInfo("place", DataType.I64, [1]), TensorInfo("value", DataType.FP32, [1])],
        )

    def transform(self, inputs):
        values = dict(inputs)["values"]
        try:
            # Tensors are the host's memory: `with` gives each back at once, not when Python happens to.
            with graph.load_by_name("default") as model, model.init_execution_context() as context:
                ((_, output),) = context.compute([("x", values)])
        except Err as error:
            # The text is for the caller.
            raise Err(error.value.data()) from error
        with output:
            numbers = struct.unpack("<%df" % (len(output.data()) // 4), output.data())
        place = max(range(len(numbers)), key=numbers.__getitem__)
        return [
            ("place", Tensor([1], TensorType.I64, struct.pack("<q", place))),
            ("value", Tensor([1], TensorType.FP32, struct.pack("<f", numbers[place]))),
        ]
