"""Reads the tensors of a PyTorch checkpoint (.pth) without PyTorch, and runs nothing that is in it.

A checkpoint is a pickle, which could call any function: this reader allows the four names that a
dictionary of tensors needs and refuses every other. It knows the old stream format and the zip
format of PyTorch 1.6, and the element types in `STORAGES`. The tensors that it gives are row-major.
"""

import collections
import io
import pickle
import struct
import sys
import zipfile
from array import array

STORAGES = {"FloatStorage": "f", "DoubleStorage": "d", "LongStorage": "q", "IntStorage": "i"}

Tensor = collections.namedtuple("Tensor", "shape values")


class Storage:
    """Numbers that tensors are cut from; filled in after the pickle was read."""

    def __init__(self, typecode):
        self.values = array(typecode)

    def fill(self, raw):
        self.values.frombytes(raw)
        if sys.byteorder == "big":
            self.values.byteswap()


Slice = collections.namedtuple("Slice", "storage offset shape strides")


class SafeUnpickler(pickle.Unpickler):
    def __init__(self, file, storages):
        super().__init__(file)
        self.storages = storages

    def find_class(self, module, name):
        if module == "torch" and name in STORAGES:
            return STORAGES[name]
        if (module, name) == ("torch._utils", "_rebuild_tensor_v2"):
            return lambda storage, offset, shape, strides, *_: Slice(storage, offset, shape, strides)
        if (module, name) == ("collections", "OrderedDict"):
            return collections.OrderedDict
        raise SystemExit("error: refused `%s.%s`: not part of a plain dictionary of tensors" % (module, name))

    def persistent_load(self, identifier):
        _kind, typecode, key = identifier[:3]
        return self.storages.setdefault(key, Storage(typecode))


def read(path):
    """The tensors of the checkpoint at `path`: name -> Tensor(shape, array of numbers)."""
    storages = {}
    with open(path, "rb") as file:
        zipped = file.read(2) == b"PK"
        file.seek(0)
        slices = read_zip(file, storages) if zipped else read_stream(file, storages)
    return {name: cut(name, s) for name, s in slices.items() if isinstance(s, Slice)}


def read_stream(file, storages):
    for _ in ("magic number", "protocol", "system"):
        pickle.Unpickler.load(SafeUnpickler(file, storages))
    slices = SafeUnpickler(file, storages).load()
    for key in SafeUnpickler(file, storages).load():
        (count,) = struct.unpack("<q", file.read(8))
        storage = storages[key]
        storage.fill(file.read(count * storage.values.itemsize))
    return slices


def read_zip(file, storages):
    archive = zipfile.ZipFile(file)
    pickles = [n for n in archive.namelist() if n.endswith("/data.pkl")]
    if len(pickles) != 1:
        raise SystemExit("error: expected one `data.pkl`, got %d" % len(pickles))
    slices = SafeUnpickler(io.BytesIO(archive.read(pickles[0])), storages).load()
    folder = pickles[0][: -len("data.pkl")]
    for key, storage in storages.items():
        storage.fill(archive.read(folder + "data/" + key))
    return slices


def cut(name, part):
    """Gathers a tensor's elements, in row-major order, out of its storage by the strides."""
    dense, count = [], 1
    for size in reversed(part.shape):
        dense.insert(0, count)
        count *= size
    values = part.storage.values
    if list(part.strides) == dense and 0 <= part.offset <= part.offset + count <= len(values):
        return Tensor(tuple(part.shape), values[part.offset : part.offset + count])
    offsets = [part.offset]
    for size, stride in zip(part.shape, part.strides):
        offsets = [o + i * stride for o in offsets for i in range(size)]
    if offsets and not 0 <= min(offsets) <= max(offsets) < len(values):
        raise SystemExit("error: tensor `%s`: expected elements within %d, got others" % (name, len(values)))
    return Tensor(tuple(part.shape), array(values.typecode, [values[o] for o in offsets]))
