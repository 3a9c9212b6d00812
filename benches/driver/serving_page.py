"""Writes the page about serving and its plot from the results of a run."""

import dataclasses
import os

import page
import plots
import serving_goals
from serving import residents, value, within_rounds
from servers import photo_server, servers
from settings import Places
from stats import spread

HERE = os.path.dirname(os.path.abspath(__file__))


def sides():
    """Every side and the server that it is of, in the order of the tables."""
    found = [(side, server) for server in servers(Places()) for side in server.sides]
    return sorted(found, key=lambda pair: pair[0].protocol != "raw")


def rate(figure):
    return "{:,.0f}".format(figure) if figure >= 100 else "%.1f" % figure


def figures(results, work, load, side):
    """The cells of one side under one load."""
    rates = value(results, work, load, side.name, "rate")
    cells = [page.with_spread(spread(rates), rate)]
    for figure in ("p50", "p90", "p99"):
        taken = value(results, work, load, side.name, figure)
        cells.append(page.with_spread(spread(taken), page.time) if taken else "")
    ours, reference = (value(results, work, load, name, "p50") for name in (side.name, side.reference))
    over = within_rounds(ours, reference, lambda a, b: a / b)
    cells.append(page.with_spread(over, page.ratio) if over and side.name != side.reference else "")
    bad = sum(sum(value(results, work, load, side.name, what)) for what in ("failed", "wrong", "unsent"))
    return cells + ["%d of %d" % (bad, bad + sum(value(results, work, load, side.name, "answered")))]


HEADS = ("server", "answers/s", "p50", "p90", "p99", "p50 in times of the native server's", "failed, wrong or unsent")


def work_tables(results, result):
    parts = ["### %s" % result["title"]]
    for load, title in result["loads"].items():
        groups = {True: [], False: []}
        for side, server in sides():
            if value(results, result["work"], load, side.name, "rate"):
                groups[side.protocol == "raw"].append((side.title, *figures(results, result["work"], load, side)))
        for raw, what in ((True, "tensor in, place of the largest value out"), (False, "Open Inference Protocol")):
            if groups[raw]:
                parts.append("**%s: %s**\n\n%s" % (title[0].upper() + title[1:], what, page.markdown(HEADS, groups[raw])))
    for name, why in result["absent"].items():
        parts.append("`%s` was not measured: %s." % (name, why))
    return "\n\n".join(parts)


def memory_table(results):
    rows = []
    for server in servers(Places()):
        cells = []
        for result in results["works"]:
            found = residents(results, result["work"], server.name)
            cells.append(page.with_spread(spread(found), page.megabytes) if found else "not measured")
        rows.append(("`%s`" % server.name, *cells))
    return page.markdown(("server", *(result["title"] for result in results["works"])), rows)


def many(results):
    found = results["memory"]
    if not found:
        return page.MISSING
    rows = [("{:,}".format(step["inferences"]), page.megabytes(step["resident"])) for step in found["steps"]]
    table = page.markdown(("inferences", "resident"), rows)
    return "%d of %s answers were failed or wrong.\n\n%s" % (found["wrong"], "{:,}".format(found["inferences"]), table)


def photo(results):
    """The guest that takes a photo beside the one that takes a tensor."""
    found = results.get("photo")
    if not found:
        return page.MISSING
    alone, rows = {"works": [found]}, []
    plain = next(side for side, _ in sides() if side.name == "infer")
    for load, title in found["loads"].items():
        for side in (plain, *photo_server(Places()).sides):
            against = dataclasses.replace(side, reference="infer")
            rows.append(("%s: %s" % (title, side.title), *figures(alone, "photo", load, against)))
    table = page.markdown(("load, server", *HEADS[1:5], "p50 in times of the guest's that takes a tensor", HEADS[6]), rows)
    return "%d rounds, commit %s.\n\n%s" % (len(found["rounds"]), found["commit"], table)


def plot(results):
    panels = []
    for result in results["works"]:
        for load, figure, title in (("c1", "p50", "median latency, 1 connection"), ("c4", "rate", "answers/s, 4 connections")):
            bars = []
            for side, _ in sides():
                found = value(results, result["work"], load, side.name, figure)
                if found and None not in found:
                    over = spread(found)
                    shown = page.time(over["median"]) if figure == "p50" else rate(over["median"])
                    label = side.title + (", KServe" if side.protocol == "rest" else "")
                    bars.append(plots.bar(side.name, label, over, shown))
            if bars:
                panels.append(("%s: %s" % (result["title"], title), bars))
    return plots.svg("What servers answer", panels)


def written(results):
    """The page and its plot, by path below `docs`."""
    with open(os.path.join(HERE, "serving.md"), encoding="utf-8") as file:
        text = file.read()
    about = results["about"]
    parts = {
        "machine": page.machine(about) + " Peers: %s." % about["peers"],
        "rounds": str(results["rounds"]),
        "seconds": "%g" % results["seconds"],
        "goals": page.markdown(("goal", "limit", "measured", "reached"), serving_goals.table(results)),
        "works": "\n\n".join(work_tables(results, result) for result in results["works"]) or page.MISSING,
        "resident": memory_table(results),
        "many": many(results),
        "photo": photo(results),
    }
    for name, part in parts.items():
        text = text.replace("{%s}" % name, part)
    files = {"performance/serving.md": text.rstrip() + "\n"}
    if results["works"]:
        files["performance/serving.svg"] = plot(results)
    return files
