"""The layers of EfficientNet-lite0 out of its checkpoint (.pth), in order, for whatever form is written.

Steps: read the tensors, walk the network as the paper's table of stages lists it, and fold each batch
normalisation into the convolution before it (in doubles, rounded once to f32, so that every Python 3
gives the same bytes). `walk` hands each layer to a writer with these methods, each of which gives the
name of its result:

- `convolution(x, Convolution)`, with a clamp to 0..6 after it where `activation` is set,
- `add(x, y)`,
- `classifier(x, weight, bias)`: the mean of each channel, a product with the weights [classes,
  channels], and a softmax named `probabilities`.

Weights are f32 in the order output, input, height, width. Prints `progress DONE TOTAL` lines.
"""

import collections
import math
from array import array

import torch_reader

IMAGE_SIZE = 224
CLASSES = 1000
BATCH_NORM_EPSILON = 1e-3
# repeats, stride, expansion; the weights' shapes say the rest
STAGES = [(1, 1, 1), (2, 2, 6), (2, 2, 6), (3, 2, 6), (3, 1, 6), (4, 2, 6), (1, 1, 6)]
CONVOLUTIONS = 1 + 2 + 15 * 3 + 1  # the stem, the first block without expansion, 15 blocks, the head

# `before` and `after` are the paddings of both sides, TensorFlow's `SAME`; `size` is that of the output.
Convolution = collections.namedtuple(
    "Convolution", "name weight bias stride before after size depthwise activation"
)


class Network:
    """The tensors that were used, and the image size where the walk stands."""

    def __init__(self, tensors, writer):
        self.tensors = tensors
        self.writer = writer
        self.used = set()
        self.size = IMAGE_SIZE
        self.convolutions = 0

    def take(self, name):
        self.used.add(name)
        return self.tensors[name]

    def convolution(self, x, name, norm, stride=1, depthwise=False, activation=True):
        weight, bias = self.folded(name, norm)
        output_size = -(-self.size // stride)
        padding = max((output_size - 1) * stride + weight.shape[2] - self.size, 0)
        before, after = padding // 2, padding - padding // 2
        self.size = output_size
        layer = Convolution(name, weight, bias, stride, before, after, output_size, depthwise, activation)
        y = self.writer.convolution(x, layer)
        self.convolutions += 1
        print("progress %d %d" % (self.convolutions, CONVOLUTIONS), flush=True)
        return y

    def folded(self, name, norm):
        """The convolution's weight and bias with the batch normalisation after it folded in."""
        return fold(
            self.take(name + ".weight"),
            [self.take(norm + part).values for part in (".weight", ".bias", ".running_mean", ".running_var")],
            BATCH_NORM_EPSILON,
        )

    def block(self, x, name, stride, expansion):
        y = x
        if expansion != 1:
            y = self.convolution(y, name + "._expand_conv", name + "._bn0")
        y = self.convolution(y, name + "._depthwise_conv", name + "._bn1", stride, depthwise=True)
        return self.convolution(y, name + "._project_conv", name + "._bn2", activation=False)


def fold(weight, norm, epsilon):
    """The weight and bias of a convolution with a batch normalisation after it; it has no bias itself."""
    gamma, beta, mean, variance = norm
    scales = [g / math.sqrt(v + epsilon) for g, v in zip(gamma, variance)]
    bias = array("f", [b - m * s for b, m, s in zip(beta, mean, scales)])
    values = array("f")
    row = len(weight.values) // len(scales)
    for channel, scale in enumerate(scales):
        values.extend([w * scale for w in weight.values[channel * row : (channel + 1) * row]])
    return torch_reader.Tensor(weight.shape, values), bias


def walk(checkpoint, writer):
    """Hands the layers of the checkpoint to the writer."""
    tensors = torch_reader.read(checkpoint)
    network = Network(tensors, writer)
    x = network.convolution("input", "_conv_stem", "_bn0", stride=2)
    index = 0
    for repeats, stride, expansion in STAGES:
        for repeat in range(repeats):
            y = network.block(x, "_blocks.%d" % index, stride if repeat == 0 else 1, expansion)
            x = y if repeat == 0 else writer.add(y, x)
            index += 1
    x = network.convolution(x, "_conv_head", "_bn1")
    writer.classifier(x, network.take("_fc.weight"), network.take("_fc.bias"))
    left = [n for n in sorted(set(tensors) - network.used) if not n.endswith("num_batches_tracked")]
    if left:
        raise SystemExit("error: expected EfficientNet-lite0, got a network that also has `%s`" % left[0])


def channels_last(weight):
    """Values in the order output, height, width, input."""
    outputs, inputs, height, width = weight.shape
    values, area = array("f"), height * width
    for output in range(outputs):
        start = output * inputs * area
        for place in range(area):
            values.extend(weight.values[start + place : start + inputs * area : area])
    return values


def outputs_last(weight):
    """Values in the order height, width, input, output."""
    outputs, inputs, height, width = weight.shape
    values, area = array("f"), height * width
    for place in range(area):
        for channel in range(inputs):
            values.extend(weight.values[channel * area + place :: inputs * area])
    return values
