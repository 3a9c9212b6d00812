"""Converts the ResNet-50 of imgsim (.pth) to ONNX: `imgsim_resnet50.py OUT.onnx IN.pth`.

Input `input` f32[batch, 3, height, width], output `embedding` f32[batch, 768]: what tells pictures apart.
The network is that of arXiv 1512.03385 with a last product of 768 numbers; each batch normalisation is
folded into the convolution before it. Prints `progress DONE TOTAL` lines.
"""

import os
import sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))  # python3 -I leaves it out

import onnx_writer as onnx  # noqa: E402
import torch_reader  # noqa: E402
from efficientnet_lite_layers import fold  # noqa: E402

PREFIX = "module.pre."
BATCH_NORM_EPSILON = 1e-5
BLOCKS = (3, 4, 6, 3)
WIDTH = 768


class Network:
    """The nodes and weights so far."""

    def __init__(self, tensors):
        self.tensors = tensors
        self.nodes = []
        self.weights = []

    def add(self, op_type, inputs, **attributes):
        output = "%s_%d" % (op_type.lower(), len(self.nodes))
        self.nodes.append(onnx.node(op_type, inputs, [output], **attributes))
        return output

    def convolution(self, x, name, norm, stride, padding):
        parts = (".weight", ".bias", ".running_mean", ".running_var")
        statistics = [self.tensors[norm + part].values for part in parts]
        weight, bias = fold(self.tensors[name + ".weight"], statistics, BATCH_NORM_EPSILON)
        self.weights.append(onnx.floats(name + ".weight", weight.shape, weight.values))
        self.weights.append(onnx.floats(name + ".bias", [len(bias)], bias))
        return self.add(
            "Conv",
            [x, name + ".weight", name + ".bias"],
            kernel_shape=list(weight.shape[2:]),
            pads=[padding] * 4,
            strides=[stride] * 2,
        )

    def block(self, x, name, stride):
        y = self.add("Relu", [self.convolution(x, name + "conv1", name + "bn1", 1, 0)])
        y = self.add("Relu", [self.convolution(y, name + "conv2", name + "bn2", stride, 1)])
        y = self.convolution(y, name + "conv3", name + "bn3", 1, 0)
        if name + "downsample.0.weight" in self.tensors:
            x = self.convolution(x, name + "downsample.0", name + "downsample.1", stride, 0)
        return self.add("Relu", [self.add("Add", [y, x])])

    def convert(self):
        x = self.add("Relu", [self.convolution("input", "conv1", "bn1", 2, 3)])
        x = self.add("MaxPool", [x], kernel_shape=[3, 3], pads=[1] * 4, strides=[2, 2])
        done = 0
        for stage, count in enumerate(BLOCKS, 1):
            for index in range(count):
                stride = 2 if stage > 1 and index == 0 else 1
                x = self.block(x, "layer%d.%d." % (stage, index), stride)
                done += 1
                print("progress %d %d" % (done, sum(BLOCKS)), flush=True)
        x = self.add("Flatten", [self.add("GlobalAveragePool", [x])], axis=1)
        for name in ("fc.weight", "fc.bias"):
            self.weights.append(onnx.floats(name, self.tensors[name].shape, self.tensors[name].values))
        x = self.add("Gemm", [x, "fc.weight", "fc.bias"], transB=1)
        self.nodes.append(onnx.node("Tanh", [x], ["embedding"]))
        return onnx.model(
            "resnet50-imgsim",
            [onnx.value_info("input", onnx.FLOAT, ["batch", 3, "height", "width"])],
            [onnx.value_info("embedding", onnx.FLOAT, ["batch", WIDTH])],
            self.nodes,
            self.weights,
        )


def main(destination, checkpoint):
    tensors = torch_reader.read(checkpoint)
    encoded = Network({name.replace(PREFIX, "", 1): tensor for name, tensor in tensors.items()}).convert()
    with open(destination, "wb") as file:
        file.write(encoded)


if __name__ == "__main__":
    main(*sys.argv[1:])
