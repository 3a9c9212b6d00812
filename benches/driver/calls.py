"""Measures calls: all sides of a work in rounds, in an order that changes from round to round."""

import random

from settings import Failure
from sides import Worker, sides
from stats import per_round, spread

#: The order of the sides is the same in every run of the benchmark.
SEED = 4

#: From how many bytes on a call is told in copies of them.
LARGE = 4096


def measure(places, work, environment, rounds, say):
    """The result of one work, as it is kept in the file of results."""
    workers = []
    try:
        for side in sides(places, work):
            workers.append(Worker(side, environment))
        checksums, times = {}, []
        # The first round opens models and is not counted.
        for number in range(rounds + 1):
            say("%s: round %d of %d" % (work.name, number, rounds))
            measured = one_round(work, workers, number, checksums)
            if number:
                times.append(measured)
    finally:
        for worker in workers:
            worker.close()
    return result(work, [worker.side for worker in workers], checksums, times)


def one_round(work, workers, number, checksums):
    shuffled = sorted(workers, key=lambda worker: worker.side.name)
    random.Random(SEED + number).shuffle(shuffled)
    measured = {}
    for worker in shuffled:
        side = worker.side
        checksum, measured[side.name] = worker.ask(work.order(side.model))
        before = checksums.setdefault(side.name, checksum)
        if before != checksum:
            raise Failure("%s, %s: the answer changed from %s to %s" % (work.name, side.title, before, checksum))
    return measured


def result(work, all_sides, checksums, times):
    rows = []
    for side in all_sides:
        row = {
            "side": side.name,
            "title": side.title,
            "reference": side.reference,
            "helper": side.helper,
            "nanoseconds": spread([sample for measured in times for sample in measured[side.name]]),
            "ratio": per_round(times, side.name, side.reference, lambda a, b: a / b),
            "over": per_round(times, side.name, side.reference, lambda a, b: a - b),
            "answer": checksums[side.name],
        }
        if work.copies and work.output_bytes >= LARGE and not side.helper:
            row["copies"] = spread([copies(measured, side) for measured in times])
        rows.append(row)
    check(work, rows)
    return {
        "work": work.name,
        "title": work.title,
        "rounds": len(times),
        "samples": work.samples,
        "calls": work.calls,
        "bytes": [4 * product(work.dimensions), work.output_bytes],
        "rows": rows,
    }


def copies(measured, side):
    """What a side takes over its reference in a round, in copies of the input and the output."""
    of = {name: spread(samples)["median"] for name, samples in measured.items()}
    return (of[side.name] - of[side.reference]) / (2 * max(of["copy"], 1))


def product(numbers):
    total = 1
    for number in numbers:
        total *= number
    return total


def check(work, rows):
    """Every side that copies must agree bit for bit; of networks, those by the same engine with the same options."""
    answers = {row["side"]: row["answer"] for row in rows if not row["helper"]}
    for row in rows:
        row["agrees"] = row["helper"] or row["answer"] == answers[row["reference"]]
        if work.copies and not row["helper"] and row["answer"] != answers["native"]:
            raise Failure("%s: `%s` answers other bits than `native`" % (work.name, row["title"]))
