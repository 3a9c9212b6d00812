"""Converts the EfficientNet-lite0 checkpoint (.pth) to TensorFlow Lite:
`efficientnet_lite_tflite.py OUT.tflite IN.pth`.

Input `input` f32[1, 224, 224, 3], output `probabilities` f32[1, 1000].
"""

import os
import sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))  # python3 -I leaves it out

import tflite_writer as lite  # noqa: E402
from efficientnet_lite_layers import CLASSES, IMAGE_SIZE, channels_last, outputs_last, walk  # noqa: E402
from tflite_writer import int8, int32  # noqa: E402

SAME = 0


class Writer:
    """The model so far, and the dimensions of what its layers give."""

    def __init__(self):
        self.model = lite.Model("efficientnet-lite0")
        self.model.tensor("input", [1, IMAGE_SIZE, IMAGE_SIZE, 3])
        self.dims = {}

    def result(self, name, dims):
        self.dims[name] = dims
        return self.model.tensor(name, dims)

    def convolution(self, x, layer):
        outputs, inputs, height, width = layer.weight.shape
        if layer.depthwise:
            dims, values = [1, height, width, outputs], outputs_last(layer.weight)
        else:
            dims, values = [outputs, height, width, inputs], channels_last(layer.weight)
        weight = self.model.tensor(layer.name + ".weight", dims, values)
        bias = self.model.tensor(layer.name + ".bias", [outputs], layer.bias)
        activation = int8(lite.RELU6 if layer.activation else lite.NO_ACTIVATION)
        stride, once = int32(layer.stride), int32(1)
        options = {0: int8(SAME), 1: stride, 2: stride, 3: activation, 4: once, 5: once}
        if layer.depthwise:
            options = {0: int8(SAME), 1: stride, 2: stride, 3: once, 4: activation, 5: once, 6: once}
        code = lite.DEPTHWISE_CONV_2D if layer.depthwise else lite.CONV_2D
        y = self.result(layer.name, [1, layer.size, layer.size, outputs])
        return self.model.operator(code, [x, weight, bias], y, options)

    def add(self, x, y):
        result = self.result(x + "+", self.dims[x])
        return self.model.operator(lite.ADD, [x, y], result, {0: int8(lite.NO_ACTIVATION)})

    def classifier(self, x, weight, bias):
        axes = self.model.tensor("axes", [2], [1, 2], lite.INT32)
        pool = self.model.tensor("pool", [1, weight.shape[1]])
        x = self.model.operator(lite.MEAN, [x, axes], pool, {0: int8(0)})
        weight = self.model.tensor("fc.weight", weight.shape, weight.values)
        bias = self.model.tensor("fc.bias", bias.shape, bias.values)
        logits = self.model.tensor("logits", [1, CLASSES])
        x = self.model.operator(lite.FULLY_CONNECTED, [x, weight, bias], logits, {0: int8(lite.NO_ACTIVATION)})
        probabilities = self.model.tensor("probabilities", [1, CLASSES])
        self.model.operator(lite.SOFTMAX, [x], probabilities, {0: lite.Scalar("f", 1.0)})


def main(destination, checkpoint):
    writer = Writer()
    walk(checkpoint, writer)
    with open(destination, "wb") as file:
        file.write(writer.model.encoded(["input"], ["probabilities"]))


if __name__ == "__main__":
    main(*sys.argv[1:])
