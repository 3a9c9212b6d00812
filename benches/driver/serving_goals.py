"""The goals of serving, and whether a run reached them."""

import dataclasses

from serving import residents, value, within_rounds
from stats import spread

NETWORK, LARGE, SMALL = "efficientnet-lite0", "identity-602112", "identity-4"


@dataclasses.dataclass(frozen=True)
class Goal:
    """A figure that must be at most, or at least, so much."""

    what: str
    limit: float
    least: bool
    find: object
    write: object

    def shown(self):
        return ("≥ " if self.least else "≤ ") + self.write(self.limit)

    def reached(self, figure):
        return figure >= self.limit if self.least else figure <= self.limit


def times(figure):
    return "%.2f x" % figure


def percent(figure):
    return "%+.1f %%" % ((figure - 1) * 100)


def milliseconds(nanoseconds):
    return "%.3f ms" % (nanoseconds / 1e6)


def ratio(work, load, figure, sides):
    """A figure of one side in times of another's in the same round."""

    def find(results):
        found = [value(results, work, load, side, figure) for side in sides]
        return within_rounds(*found, lambda a, b: a / b if b else float("nan"))

    return find


def over(work, load, figure, sides):
    def find(results):
        found = [value(results, work, load, side, figure) for side in sides]
        return within_rounds(*found, lambda a, b: a - b)

    return find


def over_the_best(work, load, side, others):
    """A rate in times of the best of others in the same round."""

    def find(results):
        found = [value(results, work, load, other, "rate") for other in others]
        if None in found:
            return None
        best = [max(rates) for rates in zip(*found)]
        return within_rounds(value(results, work, load, side, "rate"), best, lambda a, b: a / b)

    return find


def smaller(work, server, other):
    def find(results):
        return within_rounds(residents(results, work, server), residents(results, work, other), lambda a, b: a / b)

    return find


def growth(results):
    """What memory grew by after the first tenth of many inferences."""
    steps = (results.get("memory") or {}).get("steps", [])
    return spread([steps[-1]["resident"] / steps[0]["resident"]]) if len(steps) > 1 else None


def goals():
    found = []
    for work, title in ((NETWORK, "EfficientNet-lite0"), (LARGE, "trivial model")):
        for load, connections in (("c1", 1), ("c4", 4)):
            for figure in ("p50", "p99"):
                what = "KServe, binary tensors, %s, c=%d: %s over the native server" % (title, connections, figure)
                sides = ("infer-rest", "native-rest")
                found.append(Goal(what, 1.05, False, ratio(work, load, figure, sides), percent))
    guest = ("infer", "native")
    found += [
        Goal("a guest, 602,112 B: median over the native server", 2e5, False, over(LARGE, "c1", "p50", guest), milliseconds),
        Goal("a guest, 4 B: median over the native server", 6e4, False, over(SMALL, "c1", "p50", guest), milliseconds),
        Goal("a guest, EfficientNet-lite0, c=4: requests/s beside the best of the native server and FastAPI", 1.0, True,
             over_the_best(NETWORK, "c4", "infer", ("native", "fastapi")), times),
        Goal("a guest, EfficientNet-lite0, c=4: requests/s beside `wasmtime serve`", 6.0, True,
             ratio(NETWORK, "c4", "rate", ("infer", "wasmtime")), times),
        Goal("gRPC, trivial model, c=1: requests/s beside MLServer", 10.0, True,
             ratio(LARGE, "c1", "rate", ("infer-grpc", "mlserver-grpc")), times),
        Goal("gRPC, trivial model, c=4: requests/s beside MLServer", 10.0, True,
             ratio(LARGE, "c4", "rate", ("infer-grpc", "mlserver-grpc")), times),
        Goal("a guest, trivial model, c=4: requests/s beside FastAPI", 2.5, True,
             ratio(LARGE, "c4", "rate", ("infer", "fastapi")), times),
        Goal("a guest, EfficientNet-lite0, c=4: requests/s beside FastAPI", 1.0, True,
             ratio(NETWORK, "c4", "rate", ("infer", "fastapi")), times),
        Goal("EfficientNet-lite0: resident memory beside FastAPI", 0.5, False, smaller(NETWORK, "infer", "fastapi"), times),
        Goal("a guest, 4 B: resident memory after a million inferences beside that after a tenth of them", 1.05, False, growth, percent),
    ]  # fmt: skip
    return found


def table(results):
    """Rows of goal, limit, measured figure with its spread over the rounds, and whether it was reached."""
    rows = []
    for goal in goals():
        found = goal.find(results)
        if found is None:
            rows.append((goal.what, goal.shown(), "not measured", ""))
            continue
        measured = goal.write(found["median"])
        if found["count"] > 1:
            measured += " (%s .. %s)" % (goal.write(found["p5"]), goal.write(found["p95"]))
        rows.append((goal.what, goal.shown(), measured, "yes" if goal.reached(found["median"]) else "**no**"))
    return rows
