"""Tries the driver's arithmetic, page and plots on made-up results: a test of the repository runs it."""

import os
import sys
from xml.dom import minidom

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, HERE)

import bench  # noqa: E402
import calls  # noqa: E402
import goals  # noqa: E402
import page  # noqa: E402
import parts  # noqa: E402
import processes  # noqa: E402
import serving  # noqa: E402
import serving_goals  # noqa: E402
import serving_page  # noqa: E402
import works  # noqa: E402
from servers import servers  # noqa: E402
from settings import Failure, Places  # noqa: E402
from sides import sides  # noqa: E402
from stats import per_round, percentile, spread  # noqa: E402


#: As `runtime/tests/soak.rs` writes them, among other lines.
SOAK = """
running 1 test
magika on tract, Component, pool None: 300 KiB for each further instance, tensors of 2 KiB included
magika on onnxruntime, Component, pool None: 120 KiB for each further instance, tensors of 2 KiB included
magika on onnxruntime, Preview1, pool Some(1000): 130 KiB for each further instance, tensors of 2 KiB included
"""


def same(got, expected):
    if got != expected:
        sys.exit("error: expected %r, got %r" % (expected, got))


def refused(function, text):
    try:
        function()
    except Failure as failure:
        return same(text in str(failure), True)
    return sys.exit("error: expected a failure with `%s`" % text)


def arithmetic():
    same(percentile([4, 1, 3, 2], 50), 2.5)
    same(percentile([7], 95), 7)
    same(spread([3, 1, 2])["median"], 2)
    rounds = [{"a": [10, 11, 90], "b": [10]}, {"a": [30], "b": [10]}, {"a": [20], "b": [10]}]
    same(per_round(rounds, "a", "b", lambda a, b: a / b)["median"], 2.0)
    for nanoseconds, text in ((950, "950 ns"), (1234, "1.23 µs"), (45_600, "45.6 µs"), (456_000_000, "456 ms")):
        same(page.time(nanoseconds), text)


def orders(all_works):
    same(all_works[1].order(), "identity-602112 x 150528 602112 26 4")
    same(all_works[1].order("copy"), "copy x 150528 602112 26 4")
    same(all_works[3].first_order(), "squeezenet data_0 1x3x224x224 4000 1 1")
    same([work.name for work in works.chosen(all_works, ["resnet50"])], ["resnet50"])
    refused(lambda: works.chosen(all_works, ["none"]), "expected a work, got `none`")


def the_script(all_works):
    """The script knows the same works, in the same order."""
    with open(os.path.join(HERE, "../../scripts/bench"), encoding="utf-8") as file:
        line = next(line for line in file if line.startswith("works=("))
        names = next(line for line in file if line.startswith("servers=("))
    same(line.strip(), "works=(%s)" % " ".join([work.name for work in all_works] + ["processes", "parts"]))
    same(names.strip(), "servers=(%s)" % " ".join(server.name for server in servers(Places())))


def fake_calls(work, rounds):
    """A result in which ours takes 1 µs more than native, and two copies more where it copies."""
    over = {"native": 0, "copy": -9000, "infer-component": 3000, "wasmtime-preview1": 50_000}
    all_sides = sides(Places(), work)
    times = [{side.name: [10_000 + number + over.get(side.name, 1000)] for side in all_sides} for number in range(rounds)]
    return calls.result(work, all_sides, {side.name: "0" for side in all_sides}, times)


def made_up(all_works):
    row = {"nanoseconds": spread([9e6, 7e6, 8e6]), "ratio": spread([0.4]), "peak_bytes": spread([1e7])}
    starts = processes.starts(Places(), all_works)
    rows = [dict(row, start=s.name, title=s.title, group=s.group, reference=s.reference) for s in starts]
    about = dict.fromkeys(
        ("date", "commit", "processor", "kernel", "infer", "engine", "python", "wasmtime", "rust"), "made up"
    )
    about.update(processors=2, memory=8e9, load=0.5)
    return {
        "about": about,
        "rounds": 3,
        "calls": [fake_calls(work, 3) for work in all_works],
        "processes": {"rounds": 3, "groups": processes.GROUPS, "rows": rows},
        "parts": {
            "rows": [{"group": "hello, component", "title": "infer, run here and drop", "nanoseconds": spread([26_000])}],
            "live": parts.lives(SOAK),
        },
    }


def pages(results):
    found = {what: (measured, reached) for what, _, measured, reached in goals.table(results)}
    same(found["4 B in and out, component: over native"], ("3.00 µs", "**no**"))
    same(found["4 B in and out, preview1: over native"], ("1.00 µs", "yes"))
    same(found["602,112 B in and out, component: over native, in copies of both"][1], "yes")
    same(found["process, `hello`, component"], ("8.0 ms", "yes"))
    same(found["a new instance of `hello`, component: run and drop"], ("26.00 µs", "**no**"))
    same(found["a further live instance on ONNX Runtime, component: beside its tensors"], ("118 KiB", "yes"))
    files = page.written(results)
    same(sorted(files), ["performance.md"] + ["performance/%s.svg" % name for name in ("calls", "networks", "processes")])
    text = files.pop("performance.md")
    same([part for part in ("{machine}", "{rounds}", "{goals}", "{calls}", "{networks}", "{processes}", "{parts}") if part in text], [])
    for picture in files.values():
        minidom.parseString(picture.encode())
    some = page.written(dict(results, calls=[], processes=None, parts=None))["performance.md"]
    same("not measured" in some, True)


def answers_that_differ(work):
    rows = [
        {"side": name, "title": name, "reference": "native", "helper": False, "answer": answer}
        for name, answer in (("native", "1"), ("python", "2"))
    ]
    refused(lambda: calls.check(work, rows), "answers other bits")


def report(side):
    """What a server of made-up speed did: infer takes 0.1 ms more than native, everything else 1 ms."""
    over = 0 if side.startswith("native") else 100_000 if side.startswith("infer") else 1_000_000
    figures = dict.fromkeys(("p50", "p90", "p99"), 4_000_000 + over)
    return dict(figures, rate=1e9 / (4_000_000 + over), answered=90, failed=0, wrong=0, unsent=0)


def serves():
    all_servers = [server for server in servers(Places()) if server.name != "litserve"]
    found = []
    for work in serving.works("model.onnx"):
        sides_of = {load.name: [s.name for v in all_servers for s in v.sides if not load.only or v.name in load.only] for load in work.loads}
        measured = {
            "loads": {load: {side: report(side) for side in names} for load, names in sides_of.items()},
            "resident": {server.name: 100e6 if server.name == "fastapi" else 60e6 for server in all_servers},
        }
        titles = {load.name: load.title for load in work.loads}
        found.append({"work": work.name, "title": work.title, "absent": {"litserve": "a reason"}, "rounds": [measured] * 3, "loads": titles})
    steps = [{"inferences": 100_000, "resident": 60e6}, {"inferences": 1_000_000, "resident": 66e6}]
    about = dict.fromkeys(("date", "commit", "processor", "kernel", "infer", "engine", "wasmtime", "rust", "peers"), "made up")
    about.update(processors=2, memory=8e9, load=0.5)
    many = {"inferences": 1_000_000, "wrong": 0, "steps": steps}
    pair = {side: report(side) for side in ("infer", "infer-photo")}
    photo = {"work": "photo", "rounds": [{"loads": {"c1": pair}}] * 3, "loads": {"c1": "closed loop, 1 connection"}, "commit": "0"}
    return {"about": about, "rounds": 3, "seconds": 2.0, "works": found, "memory": many, "photo": photo}


def serving_pages(results):
    found = {what: (measured, reached) for what, _, measured, reached in serving_goals.table(results)}
    same(found["a guest, 602,112 B: median over the native server"][1], "yes")
    same(found["a guest, 4 B: median over the native server"], ("0.100 ms (0.100 ms .. 0.100 ms)", "**no**"))
    same(found["KServe, binary tensors, trivial model, c=4: p99 over the native server"][0][:6], "+2.5 %")
    same(found["EfficientNet-lite0: resident memory beside FastAPI"][1], "**no**")
    same(found["a guest, 4 B: resident memory after a million inferences beside that after a tenth of them"], ("+10.0 %", "**no**"))
    files = serving_page.written(results)
    minidom.parseString(files["performance/serving.svg"].encode())
    text = files["performance/serving.md"]
    same([part for part in ("{machine}", "{rounds}", "{goals}", "{works}", "{resident}", "{many}", "{photo}", "{seconds}") if part in text], [])
    same("`litserve` was not measured: a reason." in text, True)
    same("| closed loop, 1 connection: infer, a guest that takes a photo | 244 (244 .. 244) |" in text, True)
    some = serving_page.written(dict(results, works=[], memory=None))["performance/serving.md"]
    same("not measured" in some, True)


if __name__ == "__main__":
    the_works = works.works(Places(), lambda name: name + ".onnx")
    arithmetic()
    orders(the_works)
    the_script(the_works)
    pages(made_up(the_works))
    answers_that_differ(the_works[0])
    serving_pages(serves())
    same(callable(bench.main), True)
