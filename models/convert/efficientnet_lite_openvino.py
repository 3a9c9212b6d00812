"""Converts the EfficientNet-lite0 checkpoint (.pth) to OpenVINO IR:
`efficientnet_lite_openvino.py OUT.xml|OUT.bin IN.pth` writes both files, unless OUT is there already.

Input `input` f32[1, 3, 224, 224], output `probabilities` f32[1, 1000].
"""

import os
import sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))  # python3 -I leaves it out

from efficientnet_lite_layers import CLASSES, IMAGE_SIZE, walk  # noqa: E402
from openvino_writer import Model, commas  # noqa: E402


class Writer:
    """The model so far, and the dimensions of what its layers give."""

    def __init__(self):
        self.model = Model("efficientnet-lite0")
        self.dims = {"input": [1, 3, IMAGE_SIZE, IMAGE_SIZE]}
        self.model.parameter("input", self.dims["input"])

    def layer(self, kind, name, inputs, dims, **attributes):
        self.dims[name] = dims
        return self.model.layer(kind, name, inputs, dims, **attributes)

    def convolution(self, x, layer):
        name, shape = layer.name, layer.weight.shape
        # A group per channel: its number comes first in the weight's dimensions.
        dims = [shape[0], 1] + list(shape[1:]) if layer.depthwise else list(shape)
        weight = self.model.constant(name + ".weight", dims, layer.weight.values)
        result = [1, shape[0], layer.size, layer.size]
        y = self.layer(
            "GroupConvolution" if layer.depthwise else "Convolution",
            name,
            [x, weight],
            result,
            auto_pad="explicit",
            dilations="1,1",
            pads_begin=commas([layer.before] * 2),
            pads_end=commas([layer.after] * 2),
            strides=commas([layer.stride] * 2),
        )
        bias = self.model.constant(name + ".bias", [1, shape[0], 1, 1], layer.bias)
        y = self.layer("Add", name + ".biased", [y, bias], result, auto_broadcast="numpy")
        return self.layer("Clamp", name + ".relu6", [y], result, min=0, max=6) if layer.activation else y

    def add(self, x, y):
        return self.layer("Add", x + "+", [x, y], self.dims[x], auto_broadcast="numpy")

    def classifier(self, x, weight, bias):
        classes, channels = weight.shape
        axes = self.model.constant("axes", [2], [2, 3], "i64")
        x = self.layer("ReduceMean", "pool", [x, axes], [1, channels], keep_dims="false")
        weight = self.model.constant("fc.weight", [classes, channels], weight.values)
        x = self.layer("MatMul", "fc", [x, weight], [1, CLASSES], transpose_a="false", transpose_b="true")
        bias = self.model.constant("fc.bias", [1, classes], bias.values)
        x = self.layer("Add", "logits", [x, bias], [1, CLASSES], auto_broadcast="numpy")
        self.layer("SoftMax", "probabilities", [x], [1, CLASSES], axis=1)
        self.model.result("probabilities")


def main(destination, checkpoint):
    if os.path.exists(destination):
        return
    writer = Writer()
    walk(checkpoint, writer)
    stem = os.path.splitext(destination)[0]
    for extension, content in ((".xml", writer.model.xml()), (".bin", writer.model.weights())):
        with open(stem + extension, "wb") as file:
            file.write(content)


if __name__ == "__main__":
    main(*sys.argv[1:])
