"""What is computed: one model, one input, and how much of it makes a sample."""

import dataclasses
import os

from settings import Failure

IDENTITY = "models/testdata/identity-f32.onnx"


@dataclasses.dataclass(frozen=True)
class Work:
    """A model that takes one f32 tensor and gives one, and how it is measured in each round."""

    name: str
    title: str
    file: str
    input: str
    dimensions: tuple
    output_bytes: int
    samples: int
    calls: int
    #: Whether the answer is the input, so that every side must give it bit for bit.
    copies: bool = False
    #: Whether tract runs it.
    tract: bool = False

    @property
    def model(self):
        """The name by which guests ask for it."""
        return self.name

    def order(self, model=None):
        """The line that every side understands. One sample more is asked for than is kept: the first one finds
        caches that another side has filled."""
        shape = "x".join(map(str, self.dimensions))
        return "%s %s %s %d %d %d" % (
            model or self.model, self.input, shape, self.output_bytes, self.samples + 1, self.calls,
        )

    def first_order(self):
        """One call, as the first thing that a process does."""
        words = self.order().split(" ")
        return " ".join(words[:4] + ["1", "1"])


def identity(name, title, elements, samples, calls):
    return Work(name, title, IDENTITY, "x", (elements,), 4 * elements, samples, calls, copies=True)


# Samples are short, so that most of them meet nothing else that the machine does.
def works(places, installed):
    """All of them; `installed` says the file of a known model."""
    picture = (1, 3, 224, 224)
    return [
        identity("identity-4", "4 B in and out", 1, 40, 50),
        identity("identity-602112", "602,112 B in and out", 150_528, 25, 4),
        identity("identity-24000000", "24,000,000 B in and out", 6_000_000, 4, 1),
        Work(
            "squeezenet", "SqueezeNet 1.0", os.path.join(places.light, "test_squeezenet/model.onnx"),
            "data_0", picture, 4000, 7, 1,
        ),
        Work(
            "efficientnet-lite0", "EfficientNet-lite0", installed("efficientnet-lite0"),
            "input", picture, 4000, 5, 1, tract=True,
        ),
        Work(
            "resnet50", "ResNet-50", installed("resnet50-imgsim"),
            "input", picture, 3072, 3, 1, tract=True,
        ),
    ]  # fmt: skip


def chosen(all_works, names):
    """Those that were asked for; all where none was."""
    known = [work.name for work in all_works] + ["processes", "parts"]
    for name in names:
        if name not in known:
            raise Failure("expected a work, got `%s`" % name, "one of: %s" % ", ".join(known))
    return [work for work in all_works if not names or work.name in names]
