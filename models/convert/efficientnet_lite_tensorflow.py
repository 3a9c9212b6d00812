"""Converts the EfficientNet-lite0 checkpoint (.pth) to a TensorFlow frozen graph:
`efficientnet_lite_tensorflow.py OUT.pb IN.pth`.

Input `input` f32[1, 224, 224, 3], output `probabilities` f32[1, 1000].
"""

import os
import sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))  # python3 -I leaves it out

import tensorflow_writer as tf  # noqa: E402
from efficientnet_lite_layers import IMAGE_SIZE, outputs_last, walk  # noqa: E402

FLOAT = tf.Type(tf.FLOAT)


class Writer:
    """The nodes so far."""

    def __init__(self):
        self.nodes = [tf.placeholder("input", [1, IMAGE_SIZE, IMAGE_SIZE, 3])]

    def node(self, operator, name, inputs, **attributes):
        self.nodes.append(tf.node(operator, name, inputs, T=FLOAT, **attributes))
        return name

    def constant(self, name, dims, values):
        self.nodes.append(tf.constant(name, tf.FLOAT, dims, values))
        return name

    def bias(self, x, name, values):
        bias = self.constant(name + "/bias", [len(values)], values)
        return self.node("BiasAdd", name + "/biased", [x, bias], data_format="NHWC")

    def convolution(self, x, layer):
        name = layer.name.lstrip("_")
        outputs, inputs, height, width = layer.weight.shape
        # A depthwise weight is [height, width, channels, 1], whose values are in the same order.
        dims = [height, width, outputs, 1] if layer.depthwise else [height, width, inputs, outputs]
        weight = self.constant(name + "/weight", dims, outputs_last(layer.weight))
        y = self.node(
            "DepthwiseConv2dNative" if layer.depthwise else "Conv2D",
            name,
            [x, weight],
            data_format="NHWC",
            dilations=[1, 1, 1, 1],
            padding="SAME",
            strides=[1, layer.stride, layer.stride, 1],
        )
        y = self.bias(y, name, layer.bias)
        return self.node("Relu6", name + "/relu6", [y]) if layer.activation else y

    def add(self, x, y):
        return self.node("AddV2", "add_%d" % len(self.nodes), [x, y])

    def classifier(self, x, weight, bias):
        classes, channels = weight.shape
        self.nodes.append(tf.constant("pool/axes", tf.INT32, [2], [1, 2]))
        x = self.node("Mean", "pool", [x, "pool/axes"], Tidx=tf.Type(tf.INT32), keep_dims=False)
        matrix = weight._replace(shape=(classes, channels, 1, 1))
        weight = self.constant("fc/weight", [channels, classes], outputs_last(matrix))
        x = self.node("MatMul", "fc", [x, weight], transpose_a=False, transpose_b=False)
        self.node("Softmax", "probabilities", [self.bias(x, "fc", bias.values)])


def main(destination, checkpoint):
    writer = Writer()
    walk(checkpoint, writer)
    with open(destination, "wb") as file:
        file.write(tf.graph(writer.nodes))


if __name__ == "__main__":
    main(*sys.argv[1:])
