"""Writes the 1000 ImageNet labels, one per line by class index: `imagenet_labels.py OUT SYNSETS LEMMAS`.

SYNSETS lists WordNet identifiers in the order of the classes, LEMMAS gives each identifier's names
separated by commas: the first name becomes the label.
"""

import sys


def main(destination, synsets, lemmas):
    with open(lemmas, encoding="utf-8") as file:
        names = dict(line.rstrip("\n").split("\t", 1) for line in file)
    with open(synsets, encoding="utf-8") as file:
        labels = [names[line.strip()].split(",")[0].strip() for line in file if line.strip()]
    with open(destination, "w", encoding="utf-8", newline="\n") as file:
        file.writelines(label + "\n" for label in labels)


if __name__ == "__main__":
    main(*sys.argv[1:])
