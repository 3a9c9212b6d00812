"""Unpacks the backend tests of an onnx wheel: `unpack-conformance-data.py WHEEL FOLDER`.

Tests become FOLDER/GROUP/NAME/{model.onnx, test_data_set_N/{input,output}_M.pb}. Those of whole networks
(`real`) are descriptions that name a model in `light`; they become tests of the same form, in the group `light`,
with the input that ONNX's runner makes: element i of n is i / n.
"""

import json
import pathlib
import struct
import sys
import zipfile

ROOT = "onnx/backend/test/data/"

# The input of every network among them.
SHAPE = (1, 3, 224, 224)


def main(wheel, folder):
    folder = pathlib.Path(folder)
    with zipfile.ZipFile(wheel) as archive:
        for member in archive.namelist():
            parts = member[len(ROOT) :].split("/")
            if not member.startswith(ROOT) or member.endswith("/") or ".." in parts:
                continue
            if parts[0] == "real" and parts[-1] == "data.json":
                network(archive, json.loads(archive.read(member)), folder / "light" / parts[1])
            elif len(parts) > 2 and parts[0] not in ("real", "light"):
                write(folder.joinpath(*parts), archive.read(member))


def network(archive, description, folder):
    # It has the tolerance, which is not the same for all.
    write(folder / "data.json", json.dumps(description).encode())
    model = description["url"]
    write(folder / "model.onnx", archive.read(model))
    write(folder / "test_data_set_0/input_0.pb", ramp())
    expected = model.replace(".onnx", "_output_0.pb")
    write(folder / "test_data_set_0/output_0.pb", archive.read(expected))


def ramp():
    """A `TensorProto` of f32: dims (1), data_type (2) and raw_data (9)."""
    count = 1
    for size in SHAPE:
        count *= size
    values = struct.pack("<%df" % count, *(index / count for index in range(count)))
    dimensions = b"".join(b"\x08" + varint(size) for size in SHAPE)
    return dimensions + b"\x10\x01" + b"\x4a" + varint(len(values)) + values


def varint(number):
    encoded = bytearray()
    while number > 127:
        encoded.append(number & 127 | 128)
        number >>= 7
    encoded.append(number)
    return bytes(encoded)


def write(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)


if __name__ == "__main__":
    main(*sys.argv[1:])
