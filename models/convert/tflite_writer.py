"""Writes TensorFlow Lite files with the standard library alone: a flatbuffer encoder of what is needed.

A `Model` collects tensors and operators; `encoded` gives the file. The same calls give the same bytes
under every Python 3. Slots and codes are those of TensorFlow's schema.fbs, schema version 3.
"""

import struct

from onnx_writer import little_endian

FLOAT32, INT32 = 0, 2
ADD, CONV_2D, DEPTHWISE_CONV_2D, FULLY_CONNECTED, RESHAPE, SOFTMAX, MEAN = 0, 3, 4, 9, 22, 25, 40
# The table of options that goes with each operator, by its number in the union.
OPTIONS = {
    ADD: 11, CONV_2D: 1, DEPTHWISE_CONV_2D: 2, FULLY_CONNECTED: 8, RESHAPE: 17, SOFTMAX: 9, MEAN: 27,
}
NO_ACTIVATION, RELU, RELU6 = 0, 1, 3
DATA_ALIGNMENT = 16


class Scalar:
    """A number in a table, in one of struct's formats."""

    def __init__(self, form, value):
        self.bytes = struct.pack("<" + form, value)


def int8(value):
    return Scalar("b", value)


def int32(value):
    return Scalar("i", value)


class Table:
    """Slot -> Scalar, Table or vector; a slot without a value is left out."""

    def __init__(self, slots):
        self.slots = slots

    def write(self, out):
        fields = sorted(self.slots.items(), key=lambda item: (-inline_size(item[1]), item[0]))
        places, size = {}, 4
        for slot, field in fields:
            places[slot] = size
            size += inline_size(field)
        count = max(self.slots, default=-1) + 1
        align(out, 4, 4 + 2 * count)
        vtable = len(out)
        out += struct.pack("<HH", 4 + 2 * count, size)
        out += b"".join(struct.pack("<H", places.get(slot, 0)) for slot in range(count))
        table = len(out)
        out += struct.pack("<i", table - vtable)
        out += b"".join(f.bytes if isinstance(f, Scalar) else bytes(4) for _, f in fields)
        for slot, field in fields:
            if not isinstance(field, Scalar):
                refer(out, table + places[slot], field)
        return table


class Bytes:
    """A vector of plain elements, or a text, which ends with a zero byte."""

    def __init__(self, count, content, end=b"", alignment=4):
        self.count = count
        self.content = content
        self.end = end
        self.alignment = alignment

    def write(self, out):
        align(out, self.alignment, 4)
        start = len(out)
        out += struct.pack("<I", self.count)
        out += self.content
        out += self.end
        return start


class Tables:
    """A vector of tables."""

    def __init__(self, tables):
        self.tables = tables

    def write(self, out):
        align(out, 4, 0)
        start = len(out)
        out += struct.pack("<I", len(self.tables)) + bytes(4 * len(self.tables))
        for index, table in enumerate(self.tables):
            refer(out, start + 4 + 4 * index, table)
        return start


def inline_size(field):
    return len(field.bytes) if isinstance(field, Scalar) else 4


def align(out, alignment, ahead):
    """Fills up so that what comes after `ahead` more bytes is aligned."""
    out += bytes(-(len(out) + ahead) % alignment)


def refer(out, place, child):
    """Writes the child at the end and, at this place, the way to it."""
    start = child.write(out)
    out[place : place + 4] = struct.pack("<I", start - place)


def integers(values):
    return Bytes(len(values), little_endian("i", values))


def text(value):
    encoded = value.encode("utf-8")
    return Bytes(len(encoded), encoded, b"\0")


class Model:
    """The tensors, operators and buffers so far; names are those of tensors."""

    def __init__(self, name):
        self.name = name
        self.tensors = []
        self.indexes = {}
        self.operators = []
        self.codes = []
        self.buffers = [Table({})]  # the first one is that of tensors without data

    def tensor(self, name, dims, values=None, element_type=FLOAT32):
        buffer = 0
        if values is not None:
            content = little_endian({FLOAT32: "f", INT32: "i"}[element_type], values)
            buffer = len(self.buffers)
            self.buffers.append(Table({0: Bytes(len(content), content, alignment=DATA_ALIGNMENT)}))
        self.indexes[name] = len(self.tensors)
        slots = {0: integers(dims), 1: int8(element_type), 2: Scalar("I", buffer), 3: text(name)}
        self.tensors.append(Table(slots))
        return name

    def operator(self, code, inputs, output, options):
        if code not in self.codes:
            self.codes.append(code)
        slots = {
            0: Scalar("I", self.codes.index(code)),
            1: integers([self.indexes[name] for name in inputs]),
            2: integers([self.indexes[output]]),
            3: Scalar("B", OPTIONS[code]),
            4: Table(options),
        }
        self.operators.append(Table(slots))
        return output

    def encoded(self, inputs, outputs):
        """The whole file."""
        graph = {
            0: Tables(self.tensors),
            1: integers([self.indexes[name] for name in inputs]),
            2: integers([self.indexes[name] for name in outputs]),
            3: Tables(self.operators),
            4: text("main"),
        }
        model = {
            0: Scalar("I", 3),
            1: Tables([Table({0: int8(code), 2: int32(1), 3: int32(code)}) for code in self.codes]),
            2: Tables([Table(graph)]),
            3: text(self.name),
            4: Tables(self.buffers),
        }
        out = bytearray(8)
        out[4:8] = b"TFL3"
        refer(out, 0, Table(model))
        return bytes(out)
