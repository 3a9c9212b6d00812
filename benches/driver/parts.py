"""Runs criterion's measurements of the parts of one process, and reads what it keeps of them."""

import glob
import json
import os
import subprocess

from settings import Failure
from stats import spread

#: Where criterion keeps its measurements, and the benchmark that is run.
FOLDER, BENCHMARK = "target/criterion", "instances"
#: How criterion is told to be quick.
QUICK = ("--warm-up-time", "0.5", "--measurement-time", "1", "--sample-size", "20")


def measure(environment, quick):
    """The result of every function of the benchmark, by its group; nothing where there is no such benchmark."""
    if not os.path.exists("benches/benches/%s.rs" % BENCHMARK):
        return None
    command = ["cargo", "bench", "--quiet", "-p", "infer", "-p", "infer-benches", "--bench", BENCHMARK, "--locked", "--", "--noplot"]
    before = set(found())
    stamps = {path: os.stat(path).st_mtime_ns for path in before}
    try:
        subprocess.run(command + list(QUICK if quick else ()), check=True, env=environment, stdout=subprocess.DEVNULL)
    except (OSError, subprocess.CalledProcessError) as error:
        raise Failure("cannot run `%s`: %s" % (" ".join(command), error)) from error
    fresh = [path for path in found() if stamps.get(path) != os.stat(path).st_mtime_ns]
    return {"rows": [row(path) for path in sorted(fresh, key=os.path.getmtime)]}


def found():
    return glob.glob(os.path.join(FOLDER, "*/*/new/sample.json"))


def row(path):
    with open(path, encoding="utf-8") as file:
        sample = json.load(file)
    with open(os.path.join(os.path.dirname(path), "benchmark.json"), encoding="utf-8") as file:
        about = json.load(file)
    times = [time / runs for time, runs in zip(sample["times"], sample["iters"])]
    return {"group": about["group_id"], "title": about["function_id"], "nanoseconds": spread(times)}
