"""Medians and their spread."""

from statistics import median


def percentile(values, part):
    """The value that `part` of 100 do not exceed, between neighbours where it falls between two."""
    ordered = sorted(values)
    place = (len(ordered) - 1) * part / 100
    below = int(place)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (ordered[above] - ordered[below]) * (place - below)


def spread(values):
    """What a table and a plot show of many samples."""
    return {
        "median": median(values),
        "p5": percentile(values, 5),
        "p95": percentile(values, 95),
        "count": len(values),
    }


def per_round(rounds, side, reference, combine):
    """`combine(side, reference)` of the medians of each round, and the spread of that over the rounds.

    Both were measured within one round, one soon after the other, so that what else the machine did is in both.
    """
    return spread([combine(median(times[side]), median(times[reference])) for times in rounds])
