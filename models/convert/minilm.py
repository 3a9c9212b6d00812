"""Converts all-MiniLM-L6-v2 to ONNX: `minilm.py OUT.onnx IN.safetensors CONFIG.json`.

Inputs `input_ids`, `attention_mask` and `token_type_ids`, i64[batch, tokens]; outputs
`last_hidden_state` f32[batch, tokens, 384] and `sentence_embedding` f32[batch, 384]: the mean of the
tokens' states where the mask is 1, scaled to length 1. The network is BERT's (arXiv 1810.04805).
"""

import json
import math
import os
import sys
from array import array

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))  # python3 -I leaves it out

import onnx_writer as onnx  # noqa: E402
import safetensors_reader  # noqa: E402

MASKED = -1e9
INPUTS = ("input_ids", "attention_mask", "token_type_ids")


class Network:
    """The nodes and weights so far."""

    def __init__(self, tensors, config):
        self.tensors = {name[5:] if name.startswith("bert.") else name: t for name, t in tensors.items()}
        self.heads = config["num_attention_heads"]
        self.layers = config["num_hidden_layers"]
        self.width = config["hidden_size"]
        size = self.width // self.heads
        self.nodes = []
        numbers = [
            ("epsilon", config["layer_norm_eps"]), ("one", 1.0), ("masked", MASKED), ("half", 0.5),
            ("scale", 1 / math.sqrt(size)), ("root", 1 / math.sqrt(2)), ("tiny", 1e-9),
        ]
        self.weights = [onnx.floats(name, [], [value]) for name, value in numbers]
        shapes = [("split", [0, 0, self.heads, size]), ("joined", [0, 0, self.width])]
        axes = [("axis_1", [1]), ("axes_1_2", [1, 2]), ("last_axis", [-1])]
        self.weights += [onnx.integers(name, [len(values)], values) for name, values in shapes + axes]
        self.weights += [onnx.integers("zero", [], [0]), onnx.integers("step", [], [1])]

    def add(self, op_type, inputs, **attributes):
        output = "%s_%d" % (op_type.lower(), len(self.nodes))
        self.nodes.append(onnx.node(op_type, inputs, [output], **attributes))
        return output

    def weight(self, name):
        tensor = self.tensors[name]
        self.weights.append(onnx.floats(name, tensor.shape, tensor.values))
        return name

    def linear(self, x, name):
        """A product with the weight, which the file has as [outputs, inputs], turned around."""
        outputs, inputs = self.tensors[name + ".weight"].shape
        values, turned = self.tensors[name + ".weight"].values, array("f")
        for column in range(inputs):
            turned.extend(values[column::inputs])
        self.weights.append(onnx.floats(name + ".weight", [inputs, outputs], turned))
        return self.add("Add", [self.add("MatMul", [x, name + ".weight"]), self.weight(name + ".bias")])

    def norm(self, x, name):
        centred = self.add("Sub", [x, self.add("ReduceMean", [x], axes=[-1], keepdims=1)])
        squares = self.add("Mul", [centred, centred])
        variance = self.add("ReduceMean", [squares], axes=[-1], keepdims=1)
        deviation = self.add("Sqrt", [self.add("Add", [variance, "epsilon"])])
        scaled = self.add("Mul", [self.add("Div", [centred, deviation]), self.weight(name + ".weight")])
        return self.add("Add", [scaled, self.weight(name + ".bias")])

    def embeddings(self):
        tokens = self.add("Gather", [self.add("Shape", ["input_ids"]), "step"], axis=0)
        positions = self.add("Range", ["zero", tokens, "step"])
        x = self.lookup("word", "input_ids")
        x = self.add("Add", [x, self.lookup("position", positions)])
        x = self.add("Add", [x, self.lookup("token_type", "token_type_ids")])
        return self.norm(x, "embeddings.LayerNorm")

    def lookup(self, kind, index):
        return self.add("Gather", [self.weight("embeddings.%s_embeddings.weight" % kind), index], axis=0)

    def attention(self, x, name, hidden):
        def heads(part, perm):
            return self.add("Transpose", [self.add("Reshape", [self.linear(x, name + part), "split"])], perm=perm)

        query, key = heads("query", [0, 2, 1, 3]), heads("key", [0, 2, 3, 1])
        value = heads("value", [0, 2, 1, 3])
        scores = self.add("Mul", [self.add("MatMul", [query, key]), "scale"])
        shares = self.add("Softmax", [self.add("Add", [scores, hidden])], axis=-1)
        mixed = self.add("Transpose", [self.add("MatMul", [shares, value])], perm=[0, 2, 1, 3])
        return self.add("Reshape", [mixed, "joined"])

    def layer(self, x, name, hidden):
        mixed = self.attention(x, name + "attention.self.", hidden)
        mixed = self.linear(mixed, name + "attention.output.dense")
        x = self.norm(self.add("Add", [x, mixed]), name + "attention.output.LayerNorm")
        y = self.linear(x, name + "intermediate.dense")
        # GELU: y / 2 (1 + erf(y / root of 2))
        error = self.add("Add", [self.add("Erf", [self.add("Mul", [y, "root"])]), "one"])
        y = self.add("Mul", [self.add("Mul", [y, "half"]), error])
        y = self.linear(y, name + "output.dense")
        return self.norm(self.add("Add", [x, y]), name + "output.LayerNorm")

    def embedding(self, x, mask):
        mask = self.add("Unsqueeze", [mask, "last_axis"])
        total = self.add("ReduceSum", [self.add("Mul", [x, mask]), "axis_1"], keepdims=0)
        count = self.add("Max", [self.add("ReduceSum", [mask, "axis_1"], keepdims=0), "tiny"])
        mean = self.add("Div", [total, count])
        squares = self.add("ReduceSum", [self.add("Mul", [mean, mean]), "axis_1"], keepdims=1)
        length = self.add("Sqrt", [squares])
        self.nodes.append(onnx.node("Div", [mean, length], ["sentence_embedding"]))

    def convert(self):
        mask = self.add("Cast", ["attention_mask"], to=onnx.FLOAT)
        hidden = self.add("Mul", [self.add("Sub", ["one", mask]), "masked"])
        hidden = self.add("Unsqueeze", [hidden, "axes_1_2"])
        x = self.embeddings()
        for index in range(self.layers):
            x = self.layer(x, "encoder.layer.%d." % index, hidden)
            print("progress %d %d" % (index + 1, self.layers), flush=True)
        self.nodes.append(onnx.node("Identity", [x], ["last_hidden_state"]))
        self.embedding(x, mask)
        return onnx.model(
            "all-minilm-l6-v2",
            [onnx.value_info(name, onnx.INT64, ["batch", "tokens"]) for name in INPUTS],
            [
                onnx.value_info("last_hidden_state", onnx.FLOAT, ["batch", "tokens", self.width]),
                onnx.value_info("sentence_embedding", onnx.FLOAT, ["batch", self.width]),
            ],
            self.nodes,
            self.weights,
        )


def main(destination, tensors, config):
    with open(config, encoding="utf-8") as file:
        config = json.load(file)
    encoded = Network(safetensors_reader.read(tensors), config).convert()
    with open(destination, "wb") as file:
        file.write(encoded)


if __name__ == "__main__":
    main(*sys.argv[1:])
