"""An int8 network in the form that ONNX Runtime's `quantize_static` writes by default, and its answer.

Each tensor between two operators goes through QuantizeLinear and DequantizeLinear with a scale and zero
point of its own; weights are int8, offsets int32, both through DequantizeLinear. Some engines fuse these
pairs wrongly. The network: x[1, 2, 6, 6] -> a convolution, its largest values, a second convolution
added to them, both side by side, the mean of each channel, a product and a softmax, y[1, 3].

`answer` computes the same in plain arithmetic, and checks that no value is so near to the middle of two
integers that engines could round it either way.
"""

import math
import struct

import onnx_writer as onnx

INT8, INT32 = 3, onnx.INT32
NEAREST = 0.004  # to the middle of two integers, in steps of the quantisation

X = [((i * 37 + 11) % 101 - 50) * 0.0251 for i in range(72)]
FIRST = [(i * 29 + 7) % 97 - 48 for i in range(4 * 2 * 9)]
SECOND = [(i * 53 + 5) % 113 - 56 for i in range(4 * 4)]
LAST = [(i * 41 + 3) % 127 - 63 for i in range(3 * 8)]
FIRST_OFFSETS, SECOND_OFFSETS, LAST_OFFSETS = [310, -205, 57, -410], [120, -330, 45, 260], [90, -130, 40]
# Name -> scale and zero point of what is quantised.
STEPS = {
    "x": (0.0105, -3), "edges": (0.0125, -128), "mixed": (0.0112, -9), "sum": (0.0234, -41),
    "both": (0.0268, -57), "mean": (0.0138, -73), "logits": (0.06, 5), "y": (1 / 256, -128),
}
WEIGHT_SCALES = {"first": 0.0083, "second": 0.0069, "last": 0.0473}


def f32(value):
    """The value as an f32 holds it."""
    return struct.unpack("<f", struct.pack("<f", value))[0]


class Graph:
    def __init__(self):
        self.nodes = []
        self.initializers = []

    def steps(self, name, scale, zero, element_type):
        typecode = {INT8: "b", INT32: "i"}[element_type]
        self.initializers.append(onnx.floats(name + "_scale", [], [scale]))
        raw = onnx.little_endian(typecode, [zero])
        self.initializers.append(onnx.tensor(name + "_zero_point", element_type, [], raw))
        return [name + "_scale", name + "_zero_point"]

    def constant(self, name, element_type, dims, values, scale):
        typecode = {INT8: "b", INT32: "i"}[element_type]
        raw = onnx.little_endian(typecode, values)
        self.initializers.append(onnx.tensor(name + "_quantized", element_type, dims, raw))
        inputs = [name + "_quantized"] + self.steps(name, scale, 0, element_type)
        self.nodes.append(onnx.node("DequantizeLinear", inputs, [name]))
        return name

    def pair(self, name, output, like=None):
        """Quantises and dequantises the tensor; `like` names one whose steps it shares."""
        if like is None:
            steps = self.steps(name, *STEPS[name], INT8)
        else:
            steps = [like + "_scale", like + "_zero_point"]
        self.nodes.append(onnx.node("QuantizeLinear", [name] + steps, [name + "_quantized"]))
        self.nodes.append(onnx.node("DequantizeLinear", [name + "_quantized"] + steps, [output]))
        return output

    def add(self, op_type, inputs, name, like=None, **attributes):
        self.nodes.append(onnx.node(op_type, inputs, [name], **attributes))
        return self.pair(name, name + "_dequantized", like)


def model():
    graph = Graph()
    x = graph.pair("x", "x_dequantized")
    scales = {
        "first": STEPS["x"][0], "second": STEPS["edges"][0], "last": STEPS["mean"][0],
    }
    scales = {name: scale * WEIGHT_SCALES[name] for name, scale in scales.items()}
    first = graph.constant("first", INT8, [4, 2, 3, 3], FIRST, WEIGHT_SCALES["first"])
    offsets = graph.constant("first_offsets", INT32, [4], FIRST_OFFSETS, scales["first"])
    edges = graph.add("Conv", [x, first, offsets], "edges", kernel_shape=[3, 3], pads=[1, 1, 1, 1])
    largest = graph.add("MaxPool", [edges], "largest", "edges", kernel_shape=[2, 2], strides=[2, 2])
    second = graph.constant("second", INT8, [4, 4, 1, 1], SECOND, WEIGHT_SCALES["second"])
    offsets = graph.constant("second_offsets", INT32, [4], SECOND_OFFSETS, scales["second"])
    mixed = graph.add("Conv", [largest, second, offsets], "mixed", kernel_shape=[1, 1])
    total = graph.add("Add", [mixed, largest], "sum")
    both = graph.add("Concat", [total, mixed], "both", axis=1)
    mean = graph.add("GlobalAveragePool", [both], "mean")
    flat = graph.add("Reshape", [mean, "shape"], "flat", "mean")
    graph.initializers.append(onnx.integers("shape", [2], [1, 8]))
    last = graph.constant("last", INT8, [3, 8], LAST, WEIGHT_SCALES["last"])
    offsets = graph.constant("last_offsets", INT32, [3], LAST_OFFSETS, scales["last"])
    logits = graph.add("Gemm", [flat, last, offsets], "logits", transB=1)
    graph.nodes.append(onnx.node("Softmax", [logits], ["probabilities"], axis=1))
    steps = graph.steps("y", *STEPS["y"], INT8)
    graph.nodes.append(onnx.node("QuantizeLinear", ["probabilities"] + steps, ["y_quantized"]))
    graph.nodes.append(onnx.node("DequantizeLinear", ["y_quantized"] + steps, ["y"]))
    inputs = [onnx.value_info("x", onnx.FLOAT, [1, 2, 6, 6])]
    outputs = [onnx.value_info("y", onnx.FLOAT, [1, 3])]
    return onnx.model("quantised", inputs, outputs, graph.nodes, graph.initializers)


def quantised(name, values):
    """What QuantizeLinear and DequantizeLinear make of the values."""
    scale, zero = f32(STEPS[name][0]), STEPS[name][1]
    result = []
    for value in values:
        step = value / scale
        if abs(step - math.floor(step) - 0.5) < NEAREST:
            raise SystemExit("`%s`: %g is too near to the middle of two integers" % (name, step))
        result.append((max(-128, min(127, round(step) + zero)) - zero) * scale)
    return result


def answer():
    """y for the input X."""
    x = quantised("x", X)
    w = {name: f32(scale) for name, scale in WEIGHT_SCALES.items()}

    def conv3(channel, row, column):
        total = FIRST_OFFSETS[channel] * f32(STEPS["x"][0] * WEIGHT_SCALES["first"])
        for i in range(2):
            for dy in range(3):
                for dx in range(3):
                    y, z = row + dy - 1, column + dx - 1
                    if 0 <= y < 6 and 0 <= z < 6:
                        total += x[i * 36 + y * 6 + z] * FIRST[(channel * 2 + i) * 9 + dy * 3 + dx] * w["first"]
        return total

    edges = quantised("edges", [conv3(c, r, s) for c in range(4) for r in range(6) for s in range(6)])

    def pooled(channel, row, column):
        return max(edges[channel * 36 + (2 * row + dy) * 6 + 2 * column + dx] for dy in range(2) for dx in range(2))

    largest = [pooled(c, r, s) for c in range(4) for r in range(3) for s in range(3)]
    scale = f32(STEPS["edges"][0] * WEIGHT_SCALES["second"])
    mixed = quantised("mixed", [
        SECOND_OFFSETS[c] * scale + sum(largest[i * 9 + p] * SECOND[c * 4 + i] * w["second"] for i in range(4))
        for c in range(4) for p in range(9)
    ])
    total = quantised("sum", [a + b for a, b in zip(mixed, largest)])
    both = quantised("both", total + mixed)
    mean = quantised("mean", [sum(both[c * 9 : c * 9 + 9]) / 9 for c in range(8)])
    scale = f32(STEPS["mean"][0] * WEIGHT_SCALES["last"])
    logits = quantised("logits", [
        LAST_OFFSETS[k] * scale + sum(mean[c] * LAST[k * 8 + c] * w["last"] for c in range(8)) for k in range(3)
    ])
    powers = [math.exp(value) for value in logits]
    return quantised("y", [power / sum(powers) for power in powers])
