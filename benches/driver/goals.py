"""The goals, and whether a run reached them."""

import dataclasses


@dataclasses.dataclass(frozen=True)
class Goal:
    """A figure of one row that must not be above a limit."""

    what: str
    limit: float
    shown: str
    #: How the figure is found in a result, and written; `None` where it was not measured.
    find: object
    write: object


def microseconds(value):
    return "%.2f µs" % (value / 1000)


def milliseconds(value):
    return "%.1f ms" % (value / 1e6)


def percent(value):
    return "%+.1f %%" % ((value - 1) * 100)


def times(value):
    return "%.2f" % value


def call(work, side, figure):
    def find(results):
        for result in results["calls"]:
            if result["work"] == work:
                for row in result["rows"]:
                    if row["side"] == side and figure in row:
                        return row[figure]["median"]
        return None

    return find


def start(name, figure):
    def find(results):
        for row in (results.get("processes") or {}).get("rows", []):
            if row["start"] == name:
                return row[figure]["median"]
        return None

    return find


def part(group, title):
    def find(results):
        for row in (results.get("parts") or {}).get("rows", []):
            if (row["group"], row["title"]) == (group, title):
                return row["nanoseconds"]["median"]
        return None

    return find


def live(abi):
    """What a further live instance takes beside its tensors on ONNX Runtime, in KiB."""

    def find(results):
        for row in (results.get("parts") or {}).get("live", []):
            if (row["engine"], row["abi"]) == ("onnxruntime", abi):
                return row["kibibytes"] - row["tensors"]
        return None

    return find


def kibibytes(value):
    return "%d KiB" % value


def slower_than_python(work):
    found = call(work, "python", "ratio")

    def find(results):
        ratio = found(results)
        return None if ratio is None else 1 / ratio

    return find


ABIS = ("component", "preview1")


def goals():
    """All goals, each for both ABIs where a guest takes part."""
    found = []
    for abi in ABIS:
        side = "infer-" + abi
        found += [
            Goal("4 B in and out, %s: over native" % abi, 1500, "1.50 µs",
                 call("identity-4", side, "over"), microseconds),
            Goal("602,112 B in and out, %s: over native, in copies of both" % abi, 1.6, "1.60",
                 call("identity-602112", side, "copies"), times),
            Goal("24,000,000 B in and out, %s: over native, in copies of both" % abi, 1.15, "1.15",
                 call("identity-24000000", side, "copies"), times),
            Goal("SqueezeNet 1.0, %s: over native" % abi, 1.02, "+2.0 %", call("squeezenet", side, "ratio"), percent),
            Goal("ResNet-50, %s: over native" % abi, 1.005, "+0.5 %", call("resnet50", side, "ratio"), percent),
            Goal("process, first answer of SqueezeNet 1.0, %s: in times of wasmtime's" % abi, 0.5, "0.50",
                 start("infer-squeezenet-" + abi, "ratio"), times),
            Goal("process, `hello`, %s" % abi, 8e6, "8.0 ms", start("infer-hello-" + abi, "nanoseconds"), milliseconds),
        ]  # fmt: skip
    for abi in ABIS:
        found += [
            Goal("a new instance of a guest that does nothing, %s: run and drop" % abi, 6_000, "6.00 µs",
                 part("nothing, " + abi, "infer, run here and drop"), microseconds),
            Goal("a new instance of `hello`, %s: run and drop" % abi, 25_000, "25.00 µs",
                 part("hello, " + abi, "infer, run here and drop"), microseconds),
            Goal("a further live instance on ONNX Runtime, %s: beside its tensors" % abi, 1024, "1024 KiB",
                 live(abi), kibibytes),
        ]  # fmt: skip
    for work, title in (
        ("identity-4", "4 B"), ("identity-602112", "602,112 B"), ("identity-24000000", "24,000,000 B"),
        ("squeezenet", "SqueezeNet 1.0"), ("efficientnet-lite0", "EfficientNet-lite0"), ("resnet50", "ResNet-50"),
    ):  # fmt: skip
        found.append(
            Goal("%s: the native side over its Python twin" % title, 1.05, "+5.0 %", slower_than_python(work), percent)
        )
    return found


def table(results):
    """Rows of goal, limit, measured figure, and whether it was reached."""
    rows = []
    for goal in goals():
        figure = goal.find(results)
        if figure is None:
            rows.append((goal.what, goal.shown, "not measured", ""))
        else:
            rows.append((goal.what, goal.shown, goal.write(figure), "yes" if figure <= goal.limit else "**no**"))
    return rows
