"""Converts the EfficientNet-lite0 checkpoint (.pth) to ONNX: `efficientnet_lite.py OUT.onnx IN.pth`.

Input `input` f32[1, 3, 224, 224], output `probabilities` f32[1, 1000].
"""

import os
import sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))  # python3 -I leaves it out

import onnx_writer as onnx  # noqa: E402
from efficientnet_lite_layers import CLASSES, IMAGE_SIZE, walk  # noqa: E402


class Writer:
    """The nodes and weights so far."""

    def __init__(self):
        self.nodes = []
        self.weights = [onnx.floats("zero", [], [0.0]), onnx.floats("six", [], [6.0])]

    def node(self, op_type, inputs, **attributes):
        output = "%s_%d" % (op_type.lower(), len(self.nodes))
        self.nodes.append(onnx.node(op_type, inputs, [output], **attributes))
        return output

    def convolution(self, x, layer):
        name, weight = layer.name, layer.weight
        self.weights.append(onnx.floats(name + ".weight", weight.shape, weight.values))
        self.weights.append(onnx.floats(name + ".bias", [len(layer.bias)], layer.bias))
        kernel = weight.shape[2]
        y = self.node(
            "Conv",
            [x, name + ".weight", name + ".bias"],
            group=weight.shape[0] if layer.depthwise else 1,
            kernel_shape=[kernel, kernel],
            pads=[layer.before, layer.before, layer.after, layer.after],
            strides=[layer.stride, layer.stride],
        )
        return self.node("Clip", [y, "zero", "six"]) if layer.activation else y

    def add(self, x, y):
        return self.node("Add", [x, y])

    def classifier(self, x, weight, bias):
        self.weights.append(onnx.floats("fc.weight", weight.shape, weight.values))
        self.weights.append(onnx.floats("fc.bias", bias.shape, bias.values))
        x = self.node("GlobalAveragePool", [x])
        x = self.node("Flatten", [x], axis=1)
        x = self.node("Gemm", [x, "fc.weight", "fc.bias"], transB=1)
        self.nodes.append(onnx.node("Softmax", [x], ["probabilities"], axis=1))

    def encoded(self):
        return onnx.model(
            "efficientnet-lite0",
            [onnx.value_info("input", onnx.FLOAT, [1, 3, IMAGE_SIZE, IMAGE_SIZE])],
            [onnx.value_info("probabilities", onnx.FLOAT, [1, CLASSES])],
            self.nodes,
            self.weights,
        )


def main(destination, checkpoint):
    writer = Writer()
    walk(checkpoint, writer)
    with open(destination, "wb") as file:
        file.write(writer.encoded())


if __name__ == "__main__":
    main(*sys.argv[1:])
