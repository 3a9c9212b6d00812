"""Reads the tensors of a safetensors file: name -> Tensor(shape, array of f32)."""

import collections
import json
import struct
import sys
from array import array

Tensor = collections.namedtuple("Tensor", "shape values")


def read(path):
    with open(path, "rb") as file:
        (length,) = struct.unpack("<Q", file.read(8))
        header = json.loads(file.read(length).decode("utf-8"))
        start = file.tell()
        return {name: tensor(file, start, info) for name, info in header.items() if name != "__metadata__"}


def tensor(file, start, info):
    """An element type other than F32 gives no values: it is not part of the networks that are read."""
    values = array("f")
    if info["dtype"] == "F32":
        begin, end = info["data_offsets"]
        file.seek(start + begin)
        values.frombytes(file.read(end - begin))
        if sys.byteorder == "big":
            values.byteswap()
    return Tensor(tuple(info["shape"]), values)
