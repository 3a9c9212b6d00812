"""Writes the characters that a PaddleOCR model reads, one per line by class index:
`paddle_labels.py OUT MODEL.onnx`.

They are in the model's metadata, under `character`. The first class is no character at all (an empty
line), the last one is a blank.
"""

import os
import sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))  # python3 -I leaves it out

from protobuf_reader import fields  # noqa: E402

MODEL_METADATA = 14
KEY, VALUE = 1, 2


def main(destination, source):
    with open(source, "rb") as file:
        model = file.read()
    for number, content, _ in fields(model):
        if number != MODEL_METADATA:
            continue
        entry = {key: text for key, text, _ in fields(content)}
        if entry[KEY] == b"character":
            characters = [""] + entry[VALUE].decode("utf-8").split("\n") + [" "]
            with open(destination, "w", encoding="utf-8", newline="\n") as file:
                file.writelines(character + "\n" for character in characters)
            return
    raise SystemExit("error: `%s` has no metadata `character`" % source)


if __name__ == "__main__":
    main(*sys.argv[1:])
