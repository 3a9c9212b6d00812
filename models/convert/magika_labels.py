"""Writes magika's file types, one per line by class index: `magika_labels.py OUT CONFIG.json`."""

import json
import sys


def main(destination, config):
    with open(config, encoding="utf-8") as file:
        labels = json.load(file)["target_labels_space"]
    with open(destination, "w", encoding="utf-8", newline="\n") as file:
        file.writelines(label + "\n" for label in labels)


if __name__ == "__main__":
    main(*sys.argv[1:])
