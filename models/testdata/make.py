"""Writes the test models: `make.py [FOLDER]`, by default beside this file.

Each is the smallest model that shows one thing to a host or an engine, and the bytes are the same
under every Python 3. Some are wrong on purpose; they say so. `answers.json` has the answer that each
right one of some must give, worked out without an engine: inputs and outputs as name, dtype, dimensions
and values in row-major order, and how far a value may be off.
"""

import json
import math
import os
import struct
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path[:0] = [os.path.join(HERE, "..", "convert"), HERE]

import forms  # noqa: E402
import onnx_writer as onnx  # noqa: E402
import quantised  # noqa: E402

DTYPES = {
    "f32": onnx.FLOAT,
    "f64": onnx.DOUBLE,
    "f16": onnx.FLOAT16,
    "bf16": onnx.BFLOAT16,
    "u8": onnx.UINT8,
    "u16": onnx.UINT16,
    "u32": onnx.UINT32,
    "u64": onnx.UINT64,
    "i8": onnx.INT8,
    "i16": onnx.INT16,
    "i32": onnx.INT32,
    "i64": onnx.INT64,
    "bool": onnx.BOOL,
    "string": onnx.STRING,
}
SLOW_SIZE = 4096


def info(name, *dims):
    return onnx.value_info(name, onnx.FLOAT, dims)


def identity(element_type):
    """x[N] -> y[N], the same."""
    x, y = (onnx.value_info(name, element_type, ["N"]) for name in "xy")
    return onnx.model("identity", [x], [y], [onnx.node("Identity", ["x"], ["y"])])


def negate():
    """x[N] -> y[N], negated: what takes the place of `identity-f32` and can be told from it."""
    x, y = (info(name, "N") for name in "xy")
    return onnx.model("negate", [x], [y], [onnx.node("Neg", ["x"], ["y"])])


def add():
    """a[2, 3], b[2, 3] -> sum[2, 3]: two inputs."""
    node = onnx.node("Add", ["a", "b"], ["sum"])
    return onnx.model("add", [info("a", 2, 3), info("b", 2, 3)], [info("sum", 2, 3)], [node])


def quotient():
    """a[N], b[N] -> y[N] in i32: processors refuse to divide some."""
    a, b, y = (onnx.value_info(name, onnx.INT32, ["N"]) for name in "aby")
    return onnx.model("quotient", [a, b], [y], [onnx.node("Div", ["a", "b"], ["y"])])


def several():
    """x[4] -> double[4], half[4], count (an i64 scalar): three outputs, two dtypes."""
    nodes = [
        onnx.node("Mul", ["x", "two"], ["double"]),
        onnx.node("Div", ["x", "two"], ["half"]),
        onnx.node("Size", ["x"], ["count"]),
    ]
    outputs = [info("double", 4), info("half", 4), onnx.value_info("count", onnx.INT64, [])]
    return onnx.model("several", [info("x", 4)], outputs, nodes, [onnx.floats("two", [], [2.0])])


def scalar():
    """x (rank 0) -> y = 2 x (rank 0)."""
    node = onnx.node("Mul", ["x", "two"], ["y"])
    return onnx.model("scalar", [info("x")], [info("y")], [node], [onnx.floats("two", [], [2.0])])


def empty_ok():
    """x[N, 3] -> y[N, 3], negative numbers become 0: N may be 0."""
    node = onnx.node("Relu", ["x"], ["y"])
    return onnx.model("empty-ok", [info("x", "N", 3)], [info("y", "N", 3)], [node])


def two_d():
    """x[2, 2] -> y[2, 2], transposed: rows and columns cannot be mistaken."""
    node = onnx.node("Transpose", ["x"], ["y"], perm=[1, 0])
    return onnx.model("two-d", [info("x", 2, 2)], [info("y", 2, 2)], [node])


def batch():
    """x[N, 4] -> y[N, 2] = x times [[1, 2], [3, 4], [5, 6], [7, 8]]: calls can be batched."""
    node = onnx.node("MatMul", ["x", "weights"], ["y"])
    weights = onnx.floats("weights", [4, 2], [1, 2, 3, 4, 5, 6, 7, 8])
    return onnx.model("batch", [info("x", "N", 4)], [info("y", "N", 2)], [node], [weights])


def slow():
    """x[1] -> y[1] = 4096 x^2, by one product of two 4096 by 4096 matrices: seconds in one node."""
    nodes = [
        onnx.node("Expand", ["x", "size"], ["matrix"]),
        onnx.node("MatMul", ["matrix", "matrix"], ["product"]),
        onnx.node("ReduceMax", ["product"], ["largest"], axes=[0, 1], keepdims=0),
        onnx.node("Reshape", ["largest", "one"], ["y"]),
    ]
    sizes = [onnx.integers("size", [2], [SLOW_SIZE, SLOW_SIZE]), onnx.integers("one", [1], [1])]
    return onnx.model("slow", [info("x", 1)], [info("y", 1)], nodes, sizes)


def shared():
    """a[N], b[N] -> sum[N]: both N are one symbol and must agree."""
    node = onnx.node("Add", ["a", "b"], ["sum"])
    return onnx.model("shared", [info("a", "N"), info("b", "N")], [info("sum", "N")], [node])


def pick():
    """index[N] (i64) -> y[N] out of [10, 20, 30, 40]: fails on any other index."""
    node = onnx.node("Gather", ["table", "index"], ["y"])
    index = onnx.value_info("index", onnx.INT64, ["N"])
    return onnx.model("pick", [index], [info("y", "N")], [node], [onnx.floats("table", [4], [10, 20, 30, 40])])


def network():
    """x[1, 1, 4, 4] -> probabilities[1, 3]: convolution, relu, gemm and softmax, to compare numbers."""
    nodes = [
        onnx.node("Conv", ["x", "kernels", "offsets"], ["edges"], kernel_shape=[3, 3], pads=[1, 1, 1, 1]),
        onnx.node("Relu", ["edges"], ["positive"]),
        onnx.node("Flatten", ["positive"], ["flat"], axis=1),
        onnx.node("Gemm", ["flat", "weights", "bias"], ["logits"], transB=1),
        onnx.node("Softmax", ["logits"], ["probabilities"], axis=1),
    ]
    initializers = [
        onnx.floats("kernels", [2, 1, 3, 3], [(i * 5 % 9 - 4) / 8 for i in range(18)]),
        onnx.floats("offsets", [2], [0.125, -0.25]),
        onnx.floats("weights", [3, 32], [(i * 7 % 16 - 8) / 32 for i in range(96)]),
        onnx.floats("bias", [3], [0.0, 0.25, -0.25]),
    ]
    outputs = [info("probabilities", 1, 3)]
    return onnx.model("network", [info("x", 1, 1, 4, 4)], outputs, nodes, initializers)


def half(values):
    """The bytes of f16 numbers."""
    return struct.pack("<%de" % len(values), *values)


def product_f16(name, nodes):
    """x[2, 3] (f16) -> y[2, 2] = x times [[1, 2], [3, 4], [5, 6]] plus [0.5, -1]."""
    x, y = onnx.value_info("x", onnx.FLOAT16, [2, 3]), onnx.value_info("y", onnx.FLOAT16, [2, 2])
    weights = onnx.tensor("weights", onnx.FLOAT16, [3, 2], half([1, 2, 3, 4, 5, 6]))
    bias = onnx.tensor("bias", onnx.FLOAT16, [2], half([0.5, -1]))
    return onnx.model(name, [x], [y], nodes, [weights, bias])


def gemm_f16():
    return product_f16("gemm-f16", [onnx.node("Gemm", ["x", "weights", "bias"], ["y"])])


def matmul_f16():
    product = onnx.node("MatMul", ["x", "weights"], ["product"])
    return product_f16("matmul-f16", [product, onnx.node("Add", ["product", "bias"], ["y"])])


def rate():
    """x[N], rate (an i64 scalar) -> seconds[N] = x / rate."""
    nodes = [
        onnx.node("Cast", ["rate"], ["divisor"], to=onnx.FLOAT),
        onnx.node("Div", ["x", "divisor"], ["seconds"]),
    ]
    inputs = [info("x", "N"), onnx.value_info("rate", onnx.INT64, [])]
    return onnx.model("rate", inputs, [info("seconds", "N")], nodes)


def pixels():
    """image[1, 2, 2, 3] (u8, channels last) -> y[1, 3, 2, 2] = (image - 127) / 128."""
    nodes = [
        onnx.node("Cast", ["image"], ["numbers"], to=onnx.FLOAT),
        onnx.node("Sub", ["numbers", "mean"], ["centred"]),
        onnx.node("Div", ["centred", "std"], ["scaled"]),
        onnx.node("Transpose", ["scaled"], ["y"], perm=[0, 3, 1, 2]),
    ]
    numbers = [onnx.floats("mean", [], [127.0]), onnx.floats("std", [], [128.0])]
    image = onnx.value_info("image", onnx.UINT8, [1, 2, 2, 3])
    return onnx.model("pixels", [image], [info("y", 1, 3, 2, 2)], nodes, numbers)


def three():
    """in:0[1, N] -> out:0[1, N] = x, out:1[1, N] = -x, out/2[1] = the largest: names with signs in them."""
    nodes = [
        onnx.node("Identity", ["in:0"], ["out:0"]),
        onnx.node("Neg", ["in:0"], ["out:1"]),
        onnx.node("ReduceMax", ["in:0"], ["out/2"], axes=[1], keepdims=0),
    ]
    outputs = [info("out:0", 1, "N"), info("out:1", 1, "N"), info("out/2", 1)]
    return onnx.model("three", [info("in:0", 1, "N")], outputs, nodes)


def state():
    """x[1, 2], state[1, 2] -> y[1, 2] = x + state, next_state[1, 2] = state / 2 + x."""
    nodes = [
        onnx.node("Add", ["x", "state"], ["y"]),
        onnx.node("Mul", ["state", "half"], ["faded"]),
        onnx.node("Add", ["faded", "x"], ["next_state"]),
    ]
    outputs = [info("y", 1, 2), info("next_state", 1, 2)]
    return onnx.model("state", [info("x", 1, 2), info("state", 1, 2)], outputs, nodes, [onnx.floats("half", [], [0.5])])


def beside():
    """x[4] -> y[4] = x plus the weights in `beside.onnx.data`, which lies beside the model."""
    node = onnx.node("Add", ["x", "weights"], ["y"])
    weights = onnx.external_tensor("weights", onnx.FLOAT, [4], "beside.onnx.data")
    return onnx.model("beside", [info("x", 4)], [info("y", 4)], [node], [weights])


def split():
    """x[N] -> y[M]: the distinct positive elements, twice as large. `Unique` has no kernel for a GPU in ONNX Runtime,
    which has to run it on the processor, between two nodes that it runs on the GPU."""
    nodes = [
        onnx.node("Relu", ["x"], ["positive"]),
        onnx.node("Unique", ["positive"], ["distinct"]),
        onnx.node("Mul", ["distinct", "two"], ["y"]),
    ]
    return onnx.model("split", [info("x", "N")], [info("y", "M")], nodes, [onnx.floats("two", [], [2.0])])


def argmax():
    """scores[N, S, C] -> place[N, S] (i64), value[N, S]: the greatest of the last dimension and where it is. What a
    guest puts behind a model that gives it many scores of which it wants one."""
    nodes = [
        onnx.node("ArgMax", ["scores"], ["place"], axis=-1, keepdims=0),
        onnx.node("ReduceMax", ["scores"], ["value"], axes=[-1], keepdims=0),
    ]
    outputs = [onnx.value_info("place", onnx.INT64, ["N", "S"]), info("value", "N", "S")]
    return onnx.model("argmax", [info("scores", "N", "S", "C")], outputs, nodes)


def unknown_op():
    """Wrong on purpose: an operator that no engine has."""
    node = onnx.node("Frobnicate", ["x"], ["y"], domain="test.infer")
    return onnx.model("unknown-op", [info("x", 4)], [info("y", 4)], [node], domains=["test.infer"])


def wrong_declared_shape():
    """Wrong on purpose: declares y[10] and computes y[4]."""
    node = onnx.node("Relu", ["x"], ["y"])
    return onnx.model("wrong-declared-shape", [info("x", 4)], [info("y", 10)], [node])


def external():
    """Hostile on purpose: takes weights from a file outside the model's folder; hosts must refuse it."""
    node = onnx.node("Add", ["x", "weights"], ["y"])
    weights = onnx.external_tensor("weights", onnx.FLOAT, [4], "../../../../../../etc/passwd")
    return onnx.model("external", [info("x", 4)], [info("y", 4)], [node], [weights])


def all_models():
    models = {"identity-" + name: identity(element_type) for name, element_type in DTYPES.items()}
    makers = (
        negate, add, quotient, several, scalar, empty_ok, two_d, batch, shared, pick, network, slow, unknown_op, wrong_declared_shape,
        external, gemm_f16, matmul_f16, rate, pixels, three, state, beside,
        split, argmax,
    )
    models.update((maker.__name__.replace("_", "-"), maker()) for maker in makers)
    models["quantised"] = quantised.model()
    return models


def other_files():
    """Path -> content of what is no ONNX model."""
    xml, weights = forms.openvino()
    return {
        "network.xml": xml,
        "network.bin": weights,
        "no-weights.xml": forms.openvino_without_weights(),
        "network.pb": forms.tensorflow(),
        "network-saved-model/saved_model.pb": forms.saved_model(),
        "network.tflite": forms.tflite(),
        "beside.onnx.data": onnx.little_endian("f", [1, 2, 3, 4]),
        "answers.json": answers(),
    }


def tensor(name, dtype, dimensions, values):
    # Rounded, since the last digits of `exp` are not the same everywhere.
    values = [round(value, 7) if isinstance(value, float) else value for value in values]
    return {"name": name, "dtype": dtype, "dimensions": dimensions, "values": values}


def network_answer(x):
    """The answer of `network` in plain arithmetic."""
    def edge(channel, row, column):
        total = forms.OFFSETS[channel]
        for dy in range(3):
            for dx in range(3):
                y, z = row + dy - 1, column + dx - 1
                if 0 <= y < 4 and 0 <= z < 4:
                    total += x[y * 4 + z] * forms.KERNELS[channel * 9 + dy * 3 + dx]
        return max(total, 0.0)

    edges = [edge(c, p // 4, p % 4) for c in range(2) for p in range(16)]
    logits = [forms.BIAS[k] + sum(forms.weight(k, i // 16, i % 16) * edges[i] for i in range(32)) for k in range(3)]
    powers = [math.exp(value) for value in logits]
    return [power / sum(powers) for power in powers]


def answers():
    x = [((i * 11 + 3) % 16 - 8) / 4 for i in range(16)]
    y = [tensor("probabilities", "f32", [1, 3], network_answer(x))]
    first, last = [tensor("x", "f32", [1, 1, 4, 4], x)], [tensor("x", "f32", [1, 4, 4, 1], x)]
    six = [0.5, -1.0, 2.0, 3.0, 0.25, -2.0]
    product = [8.0, 8.0, -5.75, -6.0]
    image = list(range(0, 240, 20))
    centred = [(image[place * 3 + channel] - 127) / 128 for channel in range(3) for place in range(4)]
    cases = [
        ("network.onnx", first, y, 1e-6),
        ("network.xml", first, y, 1e-6),
        ("network.pb", last, y, 1e-6),
        ("network-saved-model", last, y, 1e-6),
        ("network.tflite", last, y, 1e-6),
        ("no-weights.xml", [tensor("x", "f32", [2, 3], six)],
         [tensor("y", "f32", [2, 3], [max(value, 0.0) for value in six])], 0),
        ("gemm-f16.onnx", [tensor("x", "f16", [2, 3], six)], [tensor("y", "f16", [2, 2], product)], 0.01),
        ("matmul-f16.onnx", [tensor("x", "f16", [2, 3], six)], [tensor("y", "f16", [2, 2], product)], 0.01),
        ("rate.onnx", [tensor("x", "f32", [3], [8.0, 16.0, 24.0]), tensor("rate", "i64", [], [16])],
         [tensor("seconds", "f32", [3], [0.5, 1.0, 1.5])], 1e-6),
        ("pixels.onnx", [tensor("image", "u8", [1, 2, 2, 3], image)],
         [tensor("y", "f32", [1, 3, 2, 2], centred)], 1e-6),
        ("three.onnx", [tensor("in:0", "f32", [1, 3], [1.0, -2.0, 0.5])],
         [tensor("out:0", "f32", [1, 3], [1.0, -2.0, 0.5]), tensor("out:1", "f32", [1, 3], [-1.0, 2.0, -0.5]),
          tensor("out/2", "f32", [1], [1.0])], 0),
        ("state.onnx", [tensor("x", "f32", [1, 2], [1.0, 2.0]), tensor("state", "f32", [1, 2], [4.0, -8.0])],
         [tensor("y", "f32", [1, 2], [5.0, -6.0]), tensor("next_state", "f32", [1, 2], [3.0, -2.0])], 0),
        ("beside.onnx", [tensor("x", "f32", [4], [1.0, 1.0, 1.0, 1.0])],
         [tensor("y", "f32", [4], [2.0, 3.0, 4.0, 5.0])], 0),
        ("argmax.onnx", [tensor("scores", "f32", [1, 2, 3], six)],
         [tensor("place", "i64", [1, 2], [2, 0]), tensor("value", "f32", [1, 2], [2.0, 3.0])], 0),
        ("quantised.onnx", [tensor("x", "f32", [1, 2, 6, 6], quantised.X)],
         [tensor("y", "f32", [1, 3], quantised.answer())], 1e-4),
    ]
    listed = [dict(zip(("model", "inputs", "outputs", "tolerance"), case)) for case in cases]
    return (json.dumps(listed, indent=1) + "\n").encode("ascii")


def main(folder=HERE):
    files = {name + ".onnx": encoded for name, encoded in all_models().items()}
    files.update(other_files())
    for path, content in sorted(files.items()):
        path = os.path.join(folder, *path.split("/"))
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "wb") as file:
            file.write(content)


if __name__ == "__main__":
    main(*sys.argv[1:])
