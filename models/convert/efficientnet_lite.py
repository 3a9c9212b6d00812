"""Converts the EfficientNet-lite0 checkpoint (.pth) to ONNX: `efficientnet_lite.py OUT.onnx IN.pth`.

Input `input` f32[1, 3, 224, 224], output `probabilities` f32[1, 1000]. Steps: read the tensors,
walk the network as the paper's table of stages lists it, fold each batch normalisation into the
convolution before it (in doubles, rounded once to f32, so that every Python 3 writes the same
bytes), and write the file. Paddings are TensorFlow's `SAME`. Prints `progress DONE TOTAL` lines.
"""

import math
import os
import sys
from array import array

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))  # python3 -I leaves it out

import onnx_writer as onnx  # noqa: E402
import torch_reader  # noqa: E402

IMAGE_SIZE = 224
CLASSES = 1000
BATCH_NORM_EPSILON = 1e-3
# repeats, stride, expansion; the weights' shapes say the rest
STAGES = [(1, 1, 1), (2, 2, 6), (2, 2, 6), (3, 2, 6), (3, 1, 6), (4, 2, 6), (1, 1, 6)]
CONVOLUTIONS = 1 + 2 + 15 * 3 + 1  # the stem, the first block without expansion, 15 blocks, the head


class Network:
    """The nodes and weights so far, and the image size where the walk stands."""

    def __init__(self, tensors):
        self.tensors = tensors
        self.used = set()
        self.size = IMAGE_SIZE
        self.convolutions = 0
        self.nodes = []
        self.weights = [onnx.floats("zero", [], [0.0]), onnx.floats("six", [], [6.0])]

    def take(self, name):
        self.used.add(name)
        return self.tensors[name]

    def add(self, op_type, inputs, **attributes):
        output = "%s_%d" % (op_type.lower(), len(self.nodes))
        self.nodes.append(onnx.node(op_type, inputs, [output], **attributes))
        return output

    def convolution(self, x, name, norm, stride=1, depthwise=False, activation=True):
        weight, bias = self.folded(name, norm)
        kernel = weight.shape[2]
        output_size = -(-self.size // stride)
        padding = max((output_size - 1) * stride + kernel - self.size, 0)
        before, after = padding // 2, padding - padding // 2
        self.size = output_size
        self.weights.append(onnx.floats(name + ".weight", weight.shape, weight.values))
        self.weights.append(onnx.floats(name + ".bias", [len(bias)], bias))
        y = self.add(
            "Conv",
            [x, name + ".weight", name + ".bias"],
            group=weight.shape[0] if depthwise else 1,
            kernel_shape=[kernel, kernel],
            pads=[before, before, after, after],
            strides=[stride, stride],
        )
        self.convolutions += 1
        print("progress %d %d" % (self.convolutions, CONVOLUTIONS), flush=True)
        return self.add("Clip", [y, "zero", "six"]) if activation else y

    def folded(self, name, norm):
        """The convolution's weight and bias with the batch normalisation after it folded in."""
        weight = self.take(name + ".weight")
        gamma, beta, mean, variance = (
            self.take(norm + part).values for part in (".weight", ".bias", ".running_mean", ".running_var")
        )
        scales = [g / math.sqrt(v + BATCH_NORM_EPSILON) for g, v in zip(gamma, variance)]
        bias = array("f", [b - m * s for b, m, s in zip(beta, mean, scales)])
        values = array("f")
        row = len(weight.values) // len(scales)
        for channel, scale in enumerate(scales):
            values.extend([w * scale for w in weight.values[channel * row : (channel + 1) * row]])
        return torch_reader.Tensor(weight.shape, values), bias

    def block(self, x, name, stride, expansion):
        y = x
        if expansion != 1:
            y = self.convolution(y, name + "._expand_conv", name + "._bn0")
        y = self.convolution(y, name + "._depthwise_conv", name + "._bn1", stride, depthwise=True)
        return self.convolution(y, name + "._project_conv", name + "._bn2", activation=False)

    def classifier(self, x):
        weight, bias = self.take("_fc.weight"), self.take("_fc.bias")
        self.weights.append(onnx.floats("fc.weight", weight.shape, weight.values))
        self.weights.append(onnx.floats("fc.bias", bias.shape, bias.values))
        x = self.add("GlobalAveragePool", [x])
        x = self.add("Flatten", [x], axis=1)
        x = self.add("Gemm", [x, "fc.weight", "fc.bias"], transB=1)
        self.nodes.append(onnx.node("Softmax", [x], ["probabilities"], axis=1))


def convert(tensors):
    network = Network(tensors)
    x = network.convolution("input", "_conv_stem", "_bn0", stride=2)
    index = 0
    for repeats, stride, expansion in STAGES:
        for repeat in range(repeats):
            y = network.block(x, "_blocks.%d" % index, stride if repeat == 0 else 1, expansion)
            x = y if repeat == 0 else network.add("Add", [y, x])
            index += 1
    x = network.convolution(x, "_conv_head", "_bn1")
    network.classifier(x)
    left = [n for n in sorted(set(tensors) - network.used) if not n.endswith("num_batches_tracked")]
    if left:
        raise SystemExit("error: expected EfficientNet-lite0, got a network that also has `%s`" % left[0])
    return onnx.model(
        "efficientnet-lite0",
        [onnx.value_info("input", onnx.FLOAT, [1, 3, IMAGE_SIZE, IMAGE_SIZE])],
        [onnx.value_info("probabilities", onnx.FLOAT, [1, CLASSES])],
        network.nodes,
        network.weights,
    )


def main(destination, checkpoint):
    encoded = convert(torch_reader.read(checkpoint))
    with open(destination, "wb") as file:
        file.write(encoded)


if __name__ == "__main__":
    main(*sys.argv[1:])
