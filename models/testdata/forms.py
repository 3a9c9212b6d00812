"""The model `network` of `make.py` in the other encodings: the same input bytes give the same answer.

Where an encoding has the channels last, the input is [1, 4, 4, 1], whose values are in the same order,
and the rows of the last product follow the other order of the values before it.
"""

import openvino_writer
import tensorflow_writer as tf
import tflite_writer as lite
from tflite_writer import int8, int32

KERNELS = [(i * 5 % 9 - 4) / 8 for i in range(18)]  # output, input, height, width: [2, 1, 3, 3]
OFFSETS = [0.125, -0.25]
WEIGHTS = [(i * 7 % 16 - 8) / 32 for i in range(96)]  # class, then channel, height, width: [3, 2 * 16]
BIAS = [0.0, 0.25, -0.25]
CLASSES, CHANNELS, AREA = 3, 2, 16


def weight(class_, channel, place):
    return WEIGHTS[(class_ * CHANNELS + channel) * AREA + place]


def openvino():
    """The XML and the weights of an OpenVINO IR."""
    model = openvino_writer.Model("network")
    x = model.parameter("x", [1, 1, 4, 4])
    kernels = model.constant("kernels", [2, 1, 3, 3], KERNELS)
    pads = {"auto_pad": "explicit", "dilations": "1,1", "pads_begin": "1,1", "pads_end": "1,1", "strides": "1,1"}
    x = model.layer("Convolution", "convolution", [x, kernels], [1, 2, 4, 4], **pads)
    offsets = model.constant("offsets", [1, 2, 1, 1], OFFSETS)
    x = model.layer("Add", "edges", [x, offsets], [1, 2, 4, 4], auto_broadcast="numpy")
    x = model.layer("ReLU", "positive", [x], [1, 2, 4, 4])
    shape = model.constant("shape", [2], [1, 32], "i64")
    x = model.layer("Reshape", "flat", [x, shape], [1, 32], special_zero="false")
    weights = model.constant("weights", [3, 32], WEIGHTS)
    x = model.layer("MatMul", "product", [x, weights], [1, 3], transpose_a="false", transpose_b="true")
    bias = model.constant("bias", [1, 3], BIAS)
    x = model.layer("Add", "logits", [x, bias], [1, 3], auto_broadcast="numpy")
    model.result(model.layer("SoftMax", "probabilities", [x], [1, 3], axis=1))
    return model.xml(), model.weights()


def openvino_without_weights():
    """x[2, 3] -> y[2, 3], negative numbers become 0: an IR that needs no .bin."""
    model = openvino_writer.Model("no-weights")
    model.result(model.layer("ReLU", "y", [model.parameter("x", [2, 3])], [2, 3]))
    return model.xml()


def tensorflow():
    """A frozen graph."""
    float_type = tf.Type(tf.FLOAT)
    ones = [1, 1, 1, 1]
    kernels = [KERNELS[channel * 9 + place] for place in range(9) for channel in range(CHANNELS)]
    weights = [
        weight(class_, channel, place)
        for place in range(AREA)
        for channel in range(CHANNELS)
        for class_ in range(CLASSES)
    ]
    return tf.graph([
        tf.placeholder("x", [1, 4, 4, 1]),
        tf.constant("kernels", tf.FLOAT, [3, 3, 1, 2], kernels),
        tf.node("Conv2D", "convolution", ["x", "kernels"], T=float_type, data_format="NHWC", dilations=ones,
                padding="SAME", strides=ones),
        tf.constant("offsets", tf.FLOAT, [2], OFFSETS),
        tf.node("BiasAdd", "edges", ["convolution", "offsets"], T=float_type, data_format="NHWC"),
        tf.node("Relu", "positive", ["edges"], T=float_type),
        tf.constant("shape", tf.INT32, [2], [1, 32]),
        tf.node("Reshape", "flat", ["positive", "shape"], T=float_type, Tshape=tf.Type(tf.INT32)),
        tf.constant("weights", tf.FLOAT, [32, 3], weights),
        tf.node("MatMul", "product", ["flat", "weights"], T=float_type, transpose_a=False, transpose_b=False),
        tf.constant("bias", tf.FLOAT, [3], BIAS),
        tf.node("BiasAdd", "logits", ["product", "bias"], T=float_type, data_format="NHWC"),
        tf.node("Softmax", "probabilities", ["logits"], T=float_type),
    ])


def saved_model():
    """The only file of a SavedModel without variables."""
    return tf.saved_model(tensorflow(), {"x": [1, 4, 4, 1]}, {"probabilities": [1, 3]})


def tflite():
    """A TensorFlow Lite model."""
    model = lite.Model("network")
    same, once, positive = int8(0), int32(1), int8(lite.RELU)
    model.tensor("x", [1, 4, 4, 1])
    model.tensor("kernels", [2, 3, 3, 1], KERNELS)
    model.tensor("offsets", [2], OFFSETS)
    model.tensor("positive", [1, 4, 4, 2])
    options = {0: same, 1: once, 2: once, 3: positive, 4: once, 5: once}
    model.operator(lite.CONV_2D, ["x", "kernels", "offsets"], "positive", options)
    model.tensor("shape", [2], [1, 32], lite.INT32)
    model.tensor("flat", [1, 32])
    model.operator(lite.RESHAPE, ["positive", "shape"], "flat", {0: lite.integers([1, 32])})
    weights = [
        weight(class_, channel, place)
        for class_ in range(CLASSES)
        for place in range(AREA)
        for channel in range(CHANNELS)
    ]
    model.tensor("weights", [3, 32], weights)
    model.tensor("bias", [3], BIAS)
    model.tensor("logits", [1, 3])
    model.operator(lite.FULLY_CONNECTED, ["flat", "weights", "bias"], "logits", {0: int8(lite.NO_ACTIVATION)})
    model.tensor("probabilities", [1, 3])
    model.operator(lite.SOFTMAX, ["logits"], "probabilities", {0: lite.Scalar("f", 1.0)})
    return model.encoded(["x"], ["probabilities"])
