"""Bars with their spread, as SVG that can be read on a light and on a dark page."""

from html import escape

WIDTH, VALUE = 760, 110
ROW, BAR, HEAD = 24, 13, 34
#: What a letter of a label takes at most, and the most that labels take.
LETTER, LABELS = 7.8, 400
#: The longest bar is at most this many times the largest median: a whisker beyond it is cut.
ROOM = 1.35

STYLE = """
text { font: 13px system-ui, sans-serif; fill: #1f2328; }
.title { font-weight: 600; }
.small { font-size: 12px; fill: #59636e; }
.infer { fill: #1f6feb; } .native { fill: #8c959f; } .peer { fill: #bc4c00; } .goal { stroke: #1a7f37; }
.whisker { stroke: #1f2328; } .axis { stroke: #8c959f; }
@media (prefers-color-scheme: dark) {
  text { fill: #f0f6fc; } .small { fill: #9198a1; }
  .infer { fill: #4493f8; } .native { fill: #656c76; } .peer { fill: #db6d28; } .goal { stroke: #3fb950; }
  .whisker { stroke: #f0f6fc; }
}
"""


#: What names of other programs begin with.
PEERS = ("wasmtime", "runc", "container", "fastapi", "litserve", "mlserver")


def kind(name):
    """The colour of a side: ours, the peers', the engine alone."""
    if name.startswith(("infer", "tract-")):
        return "infer"
    return "peer" if name.startswith(PEERS) else "native"


def bar(name, label, spread, shown, goal=None):
    """One bar: a spread in the panel's unit, and the text beside it. `goal` draws a line across."""
    return {"kind": kind(name), "label": label, "spread": spread, "shown": shown, "goal": goal}


def svg(description, panels):
    """A picture of panels, each a title and its bars, one scale for each panel."""
    parts, top = [], 0
    letters = max(len(one["label"]) for _, bars in panels for one in bars)
    left = min(letters * LETTER + 16, LABELS)
    for title, bars in panels:
        parts.append(panel(title, bars, (left, top)))
        top += HEAD + ROW * len(bars) + 10
    return (
        '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d %d" width="%d" height="%d" role="img" aria-label="%s">\n'
        "<style>%s</style>\n%s</svg>\n" % (WIDTH, top, WIDTH, top, escape(description), STYLE, "".join(parts))
    )


def panel(title, bars, corner):
    left, top = corner
    low = min([0] + [one["spread"]["median"] for one in bars])
    high = max([0] + [one["spread"]["median"] for one in bars] + [one["goal"] or 0 for one in bars])
    low, high = low * ROOM, high * ROOM
    extent = (high - low) or 1
    room = WIDTH - left - VALUE

    def place(value):
        return left + room * (min(max(value, low), high) - low) / extent

    lines = ['<text class="title" x="0" y="%d">%s</text>\n' % (top + 20, escape(title))]
    for number, one in enumerate(bars):
        lines.append(row(one, (left, top + HEAD + ROW * number), place))
    bottom = top + HEAD + ROW * len(bars)
    lines.append(line("axis", place(0), top + HEAD - 4, place(0), bottom))
    return "".join(lines)


def row(one, corner, place):
    left, top = corner
    spread, middle = one["spread"], top + ROW / 2 - 4
    start, end = sorted((place(0), place(spread["median"])))
    parts = [
        '<text x="%d" y="%.1f" text-anchor="end">%s</text>\n' % (left - 8, middle + 4, escape(one["label"])),
        '<rect class="%s" x="%.1f" y="%.1f" width="%.1f" height="%d"/>\n'
        % (one["kind"], start, middle - BAR / 2, max(end - start, 1), BAR),
        line("whisker", place(spread["p5"]), middle, place(spread["p95"]), middle),
    ]
    if one["goal"] is not None:
        parts.append(line("goal", place(one["goal"]), middle - 10, place(one["goal"]), middle + 10))
    parts.append(
        '<text class="small" x="%d" y="%.1f" text-anchor="end">%s</text>\n' % (WIDTH, middle + 4, escape(one["shown"]))
    )
    return "".join(parts)


def line(css, x1, y1, x2, y2):
    return '<line class="%s" x1="%.1f" y1="%.1f" x2="%.1f" y2="%.1f"/>\n' % (css, x1, y1, x2, y2)
