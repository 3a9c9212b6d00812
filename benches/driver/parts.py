"""Measures parts of one process: by criterion, of which it reads what is kept, and by the soak of live instances."""

import glob
import json
import os
import re
import subprocess

from settings import Failure
from stats import spread

#: Where criterion keeps its measurements, and the benchmark that is run.
FOLDER, BENCHMARK = "target/criterion", "instances"
#: How criterion is told to be quick.
QUICK = ("--warm-up-time", "0.5", "--measurement-time", "1", "--sample-size", "20")
#: The packages, together: one alone has fewer features, and would be compiled once more.
PACKAGES = ("--quiet", "-p", "infer", "-p", "infer-benches", "--locked")
#: How much is shown of what a command that fails has said, in characters.
LAST = 2000
#: What the soak says of one engine and ABI.
LIVE = re.compile(r"^(\S+) on (\w+), (\w+), pool .*: (\d+) KiB for each further instance, tensors of (\d+) KiB included$", re.M)


def measure(environment, quick):
    """The result of every function of the benchmark, by its group; nothing where there is no such benchmark."""
    if not os.path.exists("benches/benches/%s.rs" % BENCHMARK):
        return None
    command = ["cargo", "bench", *PACKAGES, "--bench", BENCHMARK, "--", "--noplot"]
    before = set(found())
    stamps = {path: os.stat(path).st_mtime_ns for path in before}
    said, well = run(command + list(QUICK if quick else ()), environment)
    if not well:
        raise Failure("`%s` failed: %s" % (" ".join(command), said.strip()[-LAST:]))
    fresh = [path for path in found() if stamps.get(path) != os.stat(path).st_mtime_ns]
    rows = [row(path) for path in sorted(fresh, key=os.path.getmtime)]
    return {"rows": rows, "live": live(environment)}


def run(command, environment):
    """What the command prints to its standard error, and whether it went well."""
    try:
        done = subprocess.run(
            command, check=False, env=environment, text=True, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
        )
    except OSError as error:
        raise Failure("cannot run `%s`: %s" % (" ".join(command), error)) from error
    return done.stderr, done.returncode == 0


def live(environment):
    """What a further live instance of a model takes, by engine and ABI: the test fails where that is too much."""
    command = ["cargo", "test", "--release", *PACKAGES, "--test", "soak", "--", "--nocapture"]
    said, _ = run(command, environment)
    found = lives(said)
    if not found:
        raise Failure("`%s` said nothing of live instances: %s" % (" ".join(command), said.strip()[-LAST:]))
    return found


def lives(said):
    return [
        {"model": model, "engine": engine, "abi": abi.lower(), "kibibytes": int(kibibytes), "tensors": int(tensors)}
        for model, engine, abi, kibibytes, tensors in LIVE.findall(said)
    ]


def found():
    return glob.glob(os.path.join(FOLDER, "*/*/new/sample.json"))


def row(path):
    with open(path, encoding="utf-8") as file:
        sample = json.load(file)
    with open(os.path.join(os.path.dirname(path), "benchmark.json"), encoding="utf-8") as file:
        about = json.load(file)
    times = [time / runs for time, runs in zip(sample["times"], sample["iters"])]
    return {"group": about["group_id"], "title": about["function_id"], "nanoseconds": spread(times)}
