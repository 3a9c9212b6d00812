"""Measures infer beside the engine alone and beside wasmtime, and writes the page: what `scripts/bench` runs.

The current folder is the repository's root, and everything is built. Results are kept as JSON in target/bench.
"""

import argparse
import dataclasses
import json
import os
import signal
import sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))

import calls  # noqa: E402
import containers  # noqa: E402
import machine  # noqa: E402
import page  # noqa: E402
import parts  # noqa: E402
import processes  # noqa: E402
import serving  # noqa: E402
import serving_page  # noqa: E402
import works  # noqa: E402
from settings import Effort, Failure, Places  # noqa: E402

RESULTS, SERVING = "results.json", "serving.json"


def arguments():
    parser = argparse.ArgumentParser(prog="scripts/bench")
    parser.add_argument("what", nargs="?", choices=["serve"])
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--write", action="store_true")
    parser.add_argument("--page", action="store_true")
    parser.add_argument("--containers", action="store_true")
    parser.add_argument("--rounds", type=int)
    parser.add_argument("--only", action="append", default=[])
    return parser.parse_args()


def say(line):
    """Progress: one line that is written over, on a terminal."""
    if sys.stderr.isatty():
        print("\r\033[K" + line, end="", file=sys.stderr, flush=True)


def warn_of_load():
    load = os.getloadavg()[0]
    if load > 0.5:
        print("warning: the machine is busy (load %.1f): figures will be noisy" % load, file=sys.stderr)


def main():
    given, places = arguments(), Places()
    os.makedirs(places.work, exist_ok=True)
    if given.page:
        return write(serving_page.written(read(places, SERVING)) if given.what else page.written(read(places, RESULTS)))
    warn_of_load()
    environment = places.environment(machine.library(places))
    if given.containers:
        result = containers.measure(places, environment, given.quick, say)
        say("")
        return show_or_write(containers.written(result), not given.quick or given.write)
    whole = not given.only
    to_disk = whole and (not given.quick or given.write)
    if given.what:
        results = serving.measure(places, environment, given, say)
        keep(places, SERVING if to_disk else "serving-some.json", results)
        return show_or_write(serving_page.written(results), to_disk)
    results = measure(places, environment, given)
    keep(places, RESULTS if whole else "results-some.json", results)
    return show_or_write(page.written(results), to_disk)


def keep(places, name, results):
    with open(os.path.join(places.work, name), "w", encoding="utf-8") as file:
        json.dump(results, file, indent=1)


def read(places, name):
    path = os.path.join(places.work, name)
    try:
        with open(path, encoding="utf-8") as file:
            return json.load(file)
    except OSError as error:
        raise Failure("cannot read `%s`: %s" % (path, error), "measure first: scripts/bench, or scripts/bench serve") from error


def measure(places, environment, given):
    all_works = works.works(places, lambda name: machine.model_file(places, environment, name))
    for work in all_works:
        places.link_peer_model(work.model, work.file)
    effort = Effort.quick() if given.quick else Effort.full()
    if given.rounds:
        effort = dataclasses.replace(effort, rounds=given.rounds, processes=given.rounds)
    some = works.chosen(all_works, given.only)
    results = {"about": machine.describe(places, environment), "rounds": effort.rounds, "calls": []}
    results.update(processes=None, parts=None)
    for work in some:
        results["calls"].append(calls.measure(places, work, environment, effort.rounds, say))
    if not given.only or "processes" in given.only:
        results["processes"] = processes.measure(places, all_works, environment, effort.processes, say)
    if not given.only or "parts" in given.only:
        say("parts")
        results["parts"] = parts.measure(environment, given.quick)
    say("")
    return results


def show_or_write(files, to_disk):
    """Shows the page; files go into docs only where all was measured."""
    print(next(iter(files.values())))
    if to_disk:
        write(files)


def write(files):
    for path, text in files.items():
        path = os.path.join("docs", path)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "w", encoding="utf-8") as file:
            file.write(text)
        print("wrote %s" % path, file=sys.stderr)


def terminated(_number, _frame):
    # As by Ctrl-C, so that what was started is stopped.
    raise KeyboardInterrupt


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, terminated)
    try:
        main()
    except Failure as failure:
        say("")
        print("error: %s" % failure, file=sys.stderr)
        if failure.hint:
            print("hint: %s" % failure.hint, file=sys.stderr)
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(130)
