"""Measures whole processes: from the start to the end, or to the first answer of a worker."""

import dataclasses
import os
import random
import time

from calls import SEED
from settings import Failure
from sides import ABIS, LARGE_PAGES, by_infer, by_peer, natively
from stats import per_round, spread


@dataclasses.dataclass(frozen=True)
class Start:
    """A command that is started again and again."""

    name: str
    title: str
    group: str
    command: tuple
    #: The start that it is held against.
    reference: str
    #: An order for a worker: the time ends with the line of its answer, not with the process.
    order: str = None
    #: Variables of its own.
    variables: dict = dataclasses.field(default_factory=dict)


GROUPS = {
    "nothing": "no guest",
    "hello": "the guest `hello`, from start to end",
    "squeezenet": "first answer of SqueezeNet 1.0",
    "efficientnet-lite0": "first answer of EfficientNet-lite0",
    "resnet50": "first answer of ResNet-50",
}


def starts(places, all_works):
    """All that are started. Each group has the native engine or an empty program as its floor."""
    found = [
        Start("true", "`true`, the floor of this method", "nothing", ("/bin/true",), "true"),
        Start("infer-version", "`infer --version`", "nothing", (places.infer, "--version"), "wasmtime-version"),
        Start("wasmtime-version", "`wasmtime --version`", "nothing", (places.peer, "--version"), "wasmtime-version"),
    ]
    for abi, title in ABIS:
        hello = places.guest(abi, "hello")
        peer = "wasmtime-hello-" + abi
        found.append(Start("infer-hello-" + abi, "infer, " + title, "hello", (places.infer, "run", hello), peer))
        found.append(Start(peer, "wasmtime, " + title, "hello", (places.peer, "run", hello), peer))
    for work in all_works:
        if work.name in GROUPS:
            found.extend(first_answers(places, work))
    return found


def first_answers(places, work):
    order = work.first_order()
    one = ("--threads", "1")
    native = natively(places, work, one)
    name = "native-" + work.name
    yield Start(name, "native, Rust", work.name, native, name, order, LARGE_PAGES)
    for abi, title in ABIS:
        infer, peer = ("%s-%s-%s" % (who, work.name, abi) for who in ("infer", "wasmtime"))
        by_us = by_infer(places, abi, work, ("--backend", "onnxruntime", *one))
        yield Start(infer, "infer, " + title, work.name, by_us, peer, order)
        yield Start(peer, "wasmtime, " + title, work.name, by_peer(places, abi, work), peer, order)


def measure(places, all_works, environment, runs, say):
    """The result of all starts. The first round fills every cache and is not counted."""
    all_starts = starts(places, all_works)
    times, memory = [], {start.name: [] for start in all_starts}
    for number in range(runs + 1):
        say("processes: round %d of %d" % (number, runs))
        shuffled = list(all_starts)
        random.Random(SEED + number).shuffle(shuffled)
        measured = {}
        for start in shuffled:
            taken, peak = one(start, environment)
            measured[start.name] = [taken]
            if number:
                memory[start.name].append(peak)
        if number:
            times.append(measured)
    rows = [row(start, times, memory[start.name]) for start in all_starts]
    return {"rounds": runs, "groups": GROUPS, "rows": rows}


def row(start, times, memory):
    return {
        "start": start.name,
        "title": start.title,
        "group": start.group,
        "reference": start.reference,
        "nanoseconds": spread([sample for measured in times for sample in measured[start.name]]),
        "ratio": per_round(times, start.name, start.reference, lambda a, b: a / b),
        "peak_bytes": spread(memory),
    }


def one(start, environment):
    """Nanoseconds of one start, and the process's peak of resident memory in bytes."""
    child_in, to_child = os.pipe()
    from_child, child_out = os.pipe()
    actions = [(os.POSIX_SPAWN_DUP2, child_in, 0), (os.POSIX_SPAWN_DUP2, child_out, 1)]
    if start.order:
        # It lies in the pipe before the process begins.
        os.write(to_child, start.order.encode() + b"\n")
    begin = time.perf_counter_ns()
    variables = {**environment, **start.variables}
    process = os.posix_spawn(start.command[0], start.command, variables, file_actions=actions)
    os.close(child_in)
    os.close(child_out)
    answer = b""
    end = None
    if start.order:
        while not answer.endswith(b"\n"):
            more = os.read(from_child, 1 << 16)
            if not more:
                break
            answer += more
        end = time.perf_counter_ns()
    os.close(to_child)
    while os.read(from_child, 1 << 16):
        pass
    _, status, usage = os.wait4(process, 0)
    end = end or time.perf_counter_ns()
    os.close(from_child)
    status = os.waitstatus_to_exitcode(status)
    if status or (start.order and not answer):
        raise Failure("`%s` ended with status %d\n  %s" % (start.title, status, " ".join(start.command)))
    return end - begin, usage.ru_maxrss * 1024
