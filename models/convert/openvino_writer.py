"""Writes OpenVINO IR with the standard library alone: the XML of the network and the weights.

A `Model` collects layers; `xml` and `weights` give the two files. The same calls give the same bytes
under every Python 3. The format is that of IR version 11.
"""

from xml.sax.saxutils import quoteattr

from onnx_writer import little_endian

IR_VERSION = 11
PRECISIONS = {"f32": "FP32", "i64": "I64"}
TYPECODES = {"f32": "f", "i64": "q"}
ALIGNMENT = 64


class Model:
    """The layers, edges and weights so far; a layer is known by its name."""

    def __init__(self, name):
        self.name = name
        self.layers = []
        self.edges = []
        self.ports = {}  # name of a layer -> its number, its output's port, dimensions and element type
        self.content = bytearray()

    def layer(self, kind, name, inputs, dims, element_type="f32", opset="opset1", **attributes):
        """Adds a layer of one output and gives its name."""
        port = len(inputs)
        self.write_layer(kind, name, inputs, opset, attributes, output_port(port, name, dims, element_type))
        self.ports[name] = (len(self.layers) - 1, port, dims, element_type)
        return name

    def parameter(self, name, dims):
        return self.layer("Parameter", name, [], dims, shape=commas(dims), element_type_="f32")

    def constant(self, name, dims, values, element_type="f32"):
        self.content += bytes(-len(self.content) % ALIGNMENT)
        raw = little_endian(TYPECODES[element_type], values)
        place = {"offset": len(self.content), "size": len(raw)}
        self.content += raw
        return self.layer(
            "Const", name, [], dims, element_type, element_type_=element_type, shape=commas(dims), **place
        )

    def result(self, name):
        self.write_layer("Result", name + "/result", [name], "opset1", {}, "")

    def write_layer(self, kind, name, inputs, opset, attributes, outputs):
        number = len(self.layers)
        lines = ['<layer id="%d" name=%s type="%s" version="%s">' % (number, quoteattr(name), kind, opset)]
        if attributes:
            pairs = ((key.rstrip("_"), attributes[key]) for key in sorted(attributes))
            lines.append("<data %s/>" % " ".join('%s="%s"' % pair for pair in pairs))
        if inputs:
            lines.append("<input>")
            for port, source in enumerate(inputs):
                layer, source_port, dims, element_type = self.ports[source]
                lines.append(port_text(port, dims, element_type))
                edge = (layer, source_port, number, port)
                self.edges.append('<edge from-layer="%d" from-port="%d" to-layer="%d" to-port="%d"/>' % edge)
            lines.append("</input>")
        if outputs:
            lines += ["<output>", outputs, "</output>"]
        self.layers.append("\n".join(lines + ["</layer>"]))

    def xml(self):
        parts = ['<?xml version="1.0"?>', '<net name=%s version="%d">' % (quoteattr(self.name), IR_VERSION)]
        parts += ["<layers>"] + self.layers + ["</layers>", "<edges>"] + self.edges + ["</edges>"]
        return ("\n".join(parts + ["<rt_info/>", "</net>"]) + "\n").encode("utf-8")

    def weights(self):
        return bytes(self.content)


def commas(dims):
    return ",".join(str(dim) for dim in dims)


def port_text(port, dims, element_type, names=""):
    lines = "".join("<dim>%d</dim>" % dim for dim in dims)
    return '<port id="%d" precision="%s"%s>%s</port>' % (port, PRECISIONS[element_type], names, lines)


def output_port(port, name, dims, element_type):
    return port_text(port, dims, element_type, " names=%s" % quoteattr(name))
