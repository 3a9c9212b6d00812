"""Writes the test models: `make.py [FOLDER]`, by default beside this file.

Each is the smallest model that shows one thing to a host or an engine, and the bytes are the same
under every Python 3. Some are wrong on purpose; they say so.
"""

import os
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, "..", "convert"))

import onnx_writer as onnx  # noqa: E402

DTYPES = {
    "f32": onnx.FLOAT,
    "f64": onnx.DOUBLE,
    "f16": onnx.FLOAT16,
    "bf16": onnx.BFLOAT16,
    "u8": onnx.UINT8,
    "i32": onnx.INT32,
    "i64": onnx.INT64,
    "bool": onnx.BOOL,
}
SLOW_SIZE = 4096


def info(name, *dims):
    return onnx.value_info(name, onnx.FLOAT, dims)


def identity(element_type):
    """x[N] -> y[N], the same."""
    x, y = (onnx.value_info(name, element_type, ["N"]) for name in "xy")
    return onnx.model("identity", [x], [y], [onnx.node("Identity", ["x"], ["y"])])


def add():
    """a[2, 3], b[2, 3] -> sum[2, 3]: two inputs."""
    node = onnx.node("Add", ["a", "b"], ["sum"])
    return onnx.model("add", [info("a", 2, 3), info("b", 2, 3)], [info("sum", 2, 3)], [node])


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
        add, several, scalar, empty_ok, two_d, batch, shared, pick, network, slow, unknown_op, wrong_declared_shape,
        external,
    )
    models.update((maker.__name__.replace("_", "-"), maker()) for maker in makers)
    return models


def main(folder=HERE):
    for name, encoded in sorted(all_models().items()):
        with open(os.path.join(folder, name + ".onnx"), "wb") as file:
            file.write(encoded)


if __name__ == "__main__":
    main(*sys.argv[1:])
