"""Writes the page and its plots from the results of a run."""

import os

import goals
import plots

HERE = os.path.dirname(os.path.abspath(__file__))
MISSING = "Not measured in this run."


def time(nanoseconds):
    """A time in the unit that suits it."""
    size = abs(nanoseconds)
    for unit, scale in (("ms", 1e6), ("µs", 1e3)):
        if size >= scale:
            value = nanoseconds / scale
            return "%.*f %s" % (0 if abs(value) >= 100 else 1 if abs(value) >= 10 else 2, value, unit)
    return "%.0f ns" % nanoseconds


def signed(nanoseconds):
    return ("+" if nanoseconds >= 0 else "") + time(nanoseconds)


def megabytes(count):
    return "%.1f MB" % (count / 1e6)


def with_spread(spread, write):
    return "%s (%s .. %s)" % (write(spread["median"]), write(spread["p5"]), write(spread["p95"]))


def ratio(value):
    return "%.3f" % value


def markdown(heads, rows):
    """A table; the first column is text, the others are figures."""
    lines = ["| %s |" % " | ".join(heads), "|---|%s" % ("--:|" * (len(heads) - 1))]
    return "\n".join(lines + ["| %s |" % " | ".join(row) for row in rows])


def machine(about):
    return (
        "Measured %s on %s (%d processors, %s of memory, %s), load %.1f at the start. %s (commit %s), %s, %s%s. Built by %s."
        % (
            about["date"], about["processor"], about["processors"], "%.1f GB" % (about["memory"] / 1e9),
            about["kernel"], about["load"], about["infer"], about["commit"], about["engine"],
            about["wasmtime"], "; native Python: " + about["python"] if "python" in about else "", about["rust"],
        )
    )  # fmt: skip


def titles(result):
    return {row["side"]: row["title"] for row in result["rows"]}


def calls_table(result):
    """One work whose answer is its input."""
    names = titles(result)
    rows = []
    for row in result["rows"]:
        over = held = copies = ""
        if not row["helper"] and row["reference"] != row["side"]:
            over, held = with_spread(row["over"], time), names[row["reference"]]
            copies = "%.2f" % row["copies"]["median"] if "copies" in row else ""
        rows.append((row["title"], with_spread(row["nanoseconds"], time), over, copies, held))
    heads = ("side", "a call", "over its reference", "that in copies of input and output", "held against")
    return "### %s\n%s" % (result["title"], markdown(heads, rows))


def network_table(result):
    names = titles(result)
    rows = []
    for row in result["rows"]:
        shown = held = same = ""
        if row["reference"] != row["side"]:
            shown, held = with_spread(row["ratio"], ratio), names[row["reference"]]
            same = "yes" if row["agrees"] else "no"
        rows.append((row["title"], with_spread(row["nanoseconds"], time), shown, same, held))
    heads = ("side", "a call", "in times of its reference", "same bits", "held against")
    return "### %s\n%s" % (result["title"], markdown(heads, rows))


def process_tables(result):
    names = {row["start"]: row["title"] for row in result["rows"]}
    parts = []
    for group, title in result["groups"].items():
        rows = []
        for row in result["rows"]:
            if row["group"] != group:
                continue
            shown = held = ""
            if row["reference"] != row["start"]:
                shown, held = with_spread(row["ratio"], ratio), names[row["reference"]]
            taken = with_spread(row["nanoseconds"], time)
            rows.append((row["title"], taken, shown, held, megabytes(row["peak_bytes"]["median"])))
        if rows:
            heads = ("process", "time", "in times of its reference", "held against", "peak of memory")
            parts.append("### %s\n%s" % (title[0].upper() + title[1:], markdown(heads, rows)))
    return "\n\n".join(parts)


def parts_tables(result):
    """What criterion measured, a table for each of its groups."""
    groups = {}
    for row in result["rows"]:
        groups.setdefault(row["group"], []).append((row["title"], with_spread(row["nanoseconds"], time)))
    tables = [
        "### The guest `%s`\n%s" % (group, markdown(("part", "time"), rows)) for group, rows in groups.items()
    ]
    rows = [
        (row["engine"], row["abi"], "%d KiB" % row["kibibytes"], "%d KiB" % row["tensors"]) for row in result.get("live", ())
    ]
    if rows:
        heads = ("engine", "ABI", "a further live instance", "of that its tensors")
        tables.append("### A thousand live instances of one model\n" + markdown(heads, rows))
    return "\n\n".join(tables)


def is_copy(result):
    return result["work"].startswith("identity")


def call_plot(results):
    panels = []
    for result in results:
        bars = []
        for row in result["rows"]:
            if row["helper"] or row["reference"] == row["side"]:
                continue
            bars.append(plots.bar(row["side"], row["title"], row["over"], signed(row["over"]["median"])))
        panels.append((result["title"] + ": time over the engine alone", bars))
    return plots.svg("What a call costs over the engine alone", panels)


def scaled(spread, change):
    return dict(spread, **{key: change(spread[key]) for key in ("median", "p5", "p95")})


def network_plot(results):
    panels = []
    for result in results:
        bars = []
        for row in result["rows"]:
            if row["reference"] == row["side"]:
                continue
            over = scaled(row["ratio"], lambda value: (value - 1) * 100)
            bars.append(plots.bar(row["side"], row["title"], over, "%+.1f %%" % over["median"]))
        panels.append((result["title"] + ": percent over the engine alone", bars))
    return plots.svg("What a network costs over the engine alone", panels)


def process_plot(result):
    panels = []
    for group, title in result["groups"].items():
        bars = [
            plots.bar(row["start"], row["title"].replace("`", ""), row["nanoseconds"], time(row["nanoseconds"]["median"]))
            for row in result["rows"]
            if row["group"] == group
        ]
        if bars:
            panels.append((title.replace("`", ""), bars))
    return plots.svg("How long processes take", panels)


def written(results):
    """The page and its plots, by path below `docs`."""
    goal_rows = goals.table(results)
    with open(os.path.join(HERE, "page.md"), encoding="utf-8") as file:
        template = file.read()
    copies = [result for result in results["calls"] if is_copy(result)]
    networks = [result for result in results["calls"] if not is_copy(result)]
    started = results["processes"]
    parts = {
        "machine": machine(results["about"]),
        "rounds": str(results["rounds"]),
        "goals": markdown(("goal", "at most", "measured", "reached"), goal_rows),
        "calls": "\n\n".join(map(calls_table, copies)) or MISSING,
        "networks": "\n\n".join(map(network_table, networks)) or MISSING,
        "processes": process_tables(started) if started else MISSING,
        "parts": parts_tables(results["parts"]) if results["parts"] else MISSING,
    }
    for name, part in parts.items():
        template = template.replace("{%s}" % name, part)
    files = {"performance.md": template.rstrip() + "\n"}
    if copies:
        files["performance/calls.svg"] = call_plot(copies)
    if networks:
        files["performance/networks.svg"] = network_plot(networks)
    if started:
        files["performance/processes.svg"] = process_plot(started)
    return files
