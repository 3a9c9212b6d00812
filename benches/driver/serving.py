"""Measures servers: every side of every server in rounds, by the load generator `load`."""

import dataclasses
import json
import os
import random
import subprocess

import machine
from calls import SEED
from servers import Running, address, photo_server, servers
from settings import Failure
from stats import spread
from works import IDENTITY

#: What a guest is sent that decodes photos.
PHOTO = "photos/macaque.jpg"

#: Inferences through a guest, for what memory does meanwhile.
MANY = 1_000_000


@dataclasses.dataclass(frozen=True)
class Model:
    """What a server serves, and the input of the work that it is started for."""

    name: str
    file: str
    input: str
    dimensions: str


@dataclasses.dataclass(frozen=True)
class Load:
    """How requests come."""

    name: str
    title: str
    connections: int
    rate: int = None
    #: The servers that it is for; all where there are none.
    only: tuple = ()


@dataclasses.dataclass(frozen=True)
class Work:
    """A model, the size of its input, and the loads."""

    name: str
    title: str
    model: Model
    loads: tuple
    #: Whether the output is the input.
    echo: bool = False


#: Those that can take the greater of the two rates.
FAST = ("native", "infer")


def loads(low, high):
    """Closed loops, and open ones at a rate that every server can take and one that only some can."""

    def every(rate):
        return "open loop, {:,} requests a second".format(rate)

    return (
        Load("c1", "closed loop, 1 connection", 1),
        Load("c4", "closed loop, 4 connections", 4),
        Load("low", every(low), 64, low),
        Load("high", every(high), 64, high, FAST),
    )


def works(network):
    """All of them, in groups of one model; `network` is the file of EfficientNet-lite0."""
    large, small = (Model("identity-%s" % size, IDENTITY, "x", size) for size in ("150528", "1"))
    efficientnet = Model("efficientnet-lite0", network, "input", "1x3x224x224")
    return [
        Work("efficientnet-lite0", "EfficientNet-lite0, 602,112 B in and 4,000 B out", efficientnet, loads(20, 100)),
        Work("identity-602112", "A trivial model, 602,112 B in and out", large, loads(30, 800), echo=True),
        Work("identity-4", "A trivial model, 4 B in and out", small, loads(100, 4000), echo=True),
    ]


def measure(places, environment, given, say):
    """The result, as it is kept in the file of results."""
    wanted = given.only
    known = [server.name for server in servers(places)]
    for name in wanted:
        if name not in known:
            raise Failure("expected a server, got `%s`" % name, "one of: %s" % ", ".join(known))
    rounds = given.rounds or (2 if given.quick else 8)
    seconds = 0.5 if given.quick else 2.0
    about = machine.about(places, environment)
    about.update(peers=peers(places))
    results = {"about": about, "rounds": rounds, "seconds": seconds, "works": [], "memory": None, "photo": None, "titles": titles(places)}
    for work in works(machine.model_file(places, environment, "efficientnet-lite0")):
        results["works"].append(one_work(places, environment, (work, wanted), (rounds, seconds), say))
    if not given.quick and (not wanted or "infer" in wanted):
        say("memory over many inferences")
        results["memory"] = memory(places, environment, works("")[-1])
    if not wanted or "infer" in wanted:
        results["photo"] = photo(places, environment, results["works"][0]["work"], (rounds, seconds), say)
    say("")
    return results


def titles(places):
    return {side.name: side.title for server in servers(places) for side in server.sides}


def peers(places):
    """The versions of the peers in Python."""
    found = {}
    for server in servers(places):
        if server.packages:
            with open("benches/serve/%s.txt" % server.packages, encoding="ascii") as file:
                found[server.packages] = dict(line.strip().split("==") for line in file if "==" in line)
    wanted = (("fastapi", "fastapi"), ("fastapi", "uvicorn"), ("litserve", "litserve"), ("mlserver", "mlserver"))
    return ", ".join("%s %s" % (name, found[packages][name]) for packages, name in wanted)


def missing(places, server):
    """Why a server's packages are not here; `None` where they are."""
    if not server.packages or os.path.exists(places.serve_python(server.packages)):
        return None
    return "pip could not install it"


def one_work(places, environment, chosen, effort, say):
    work, wanted = chosen
    rounds, seconds = effort
    places.link_peer_model(work.model.name, work.model.file)
    running, absent, places_of_largest = [], {}, None
    try:
        for server in servers(places):
            if wanted and server.name not in wanted:
                continue
            say("%s: starting %s" % (work.name, server.name))
            why = missing(places, server)
            if why is None:
                one = Running(server, work.model, places, environment)
                running.append(one)
                try:
                    one.wait()
                    learned = {learn(places, one, side, work) for side in server.sides}
                    one.rest()
                except Failure as failure:
                    if not server.packages:
                        raise
                    # A peer that does not work here is said to be so, and the others are measured.
                    why = str(failure)
                    running.pop().close()
            if why is not None:
                absent[server.name] = why
                continue
            places_of_largest = places_of_largest or learned
            if learned != places_of_largest or len(learned) != 1:
                raise Failure("%s: `%s` answers %s, expected %s" % (work.name, server.name, learned, places_of_largest))
        (right,) = places_of_largest
        measured = []
        for number in range(rounds):
            say("%s: round %d of %d" % (work.name, number + 1, rounds))
            measured.append(one_round(places, running, work, (number, seconds, right)))
    finally:
        for one in running:
            one.close()
    return {"work": work.name, "title": work.title, "absent": absent, "rounds": measured,
            "loads": {load.name: load.title for load in work.loads}}  # fmt: skip


def one_round(places, running, work, effort):
    """What every side did under every load: reports by load and side, and memory by server."""
    number, seconds, right = effort
    shuffled = list(running)
    random.Random(SEED + number).shuffle(shuffled)
    measured = {load.name: {} for load in work.loads}
    resident = {}
    for one in shuffled:
        one.go_on()
        for side in one.server.sides:
            # A few requests are sent beforehand, since the server has slept.
            learn(places, one, side, work)
            for load in work.loads:
                if not load.only or one.server.name in load.only:
                    measured[load.name][side.name] = put(places, one, side, (work, load, seconds, right))
        resident[one.server.name] = one.resident()
        one.rest()
    return {"loads": measured, "resident": resident}


def target(places, one, side, work):
    return (places.load, side.protocol, address(one.port(side)), work.model.name, work.model.input, work.model.dimensions)


def learn(places, one, side, work):
    """The places of the largest values that it answers to all requests."""
    return said(places, one, target(places, one, side, work) + ("--learn",))


def put(places, one, side, about):
    """Puts a side under load; the report."""
    work, load, seconds, right = about
    options = ("--connections", str(load.connections), "--duration", "%dms" % (seconds * 1000))
    if load.rate:
        options += ("--rate", str(load.rate))
    expected = ("--echo",) if work.echo and side.protocol != "raw" else ("--places", right)
    return json.loads(said(places, one, target(places, one, side, work) + options + expected))


def said(places, one, command):
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise Failure("cannot run `%s`: %s" % (places.load, error)) from error
    if done.returncode:
        raise Failure("`%s`: %s; its log is %s" % (one.server.name, done.stderr.strip(), one.log))
    return done.stdout.strip()


def memory(places, environment, work):
    """Resident memory of infer while its guest does many inferences, at ten times on the way."""
    places.link_peer_model(work.model.name, work.model.file)
    (server,) = (server for server in servers(places) if server.name == "infer")
    (side,) = (side for side in server.sides if side.name == "infer")
    one = Running(server, work.model, places, environment)
    try:
        one.wait()
        right = learn(places, one, side, work)
        load, steps, done, wrong = Load("c4", "", 4), [], 0, 0
        while done < MANY:
            report = put(places, one, side, (work, load, 2.0, right))
            done += report["answered"]
            wrong += report["wrong"] + report["failed"]
            if not report["answered"]:
                raise Failure("`infer` stopped answering after %d inferences: %s" % (done, report["failure"]))
            if done >= MANY * (len(steps) + 1) / 10:
                steps.append({"inferences": done, "resident": one.resident()})
    finally:
        one.close()
    return {"inferences": done, "wrong": wrong, "steps": steps}


def photo(places, environment, name, effort, say):
    """The guest that takes a photo beside the one that takes the tensor, by the same model: rounds as those of a work."""
    rounds, seconds = effort
    (tensor,) = (work for work in works(machine.model_file(places, environment, name)) if work.name == name)
    closed = tuple(load for load in tensor.loads if load.rate is None)
    model = dataclasses.replace(tensor.model, input=PHOTO, dimensions="1")
    (plain,) = (server for server in servers(places) if server.name == "infer")
    plain = dataclasses.replace(plain, sides=tuple(side for side in plain.sides if side.name == "infer"))
    pairs, running = ((plain, tensor), (photo_server(places), dataclasses.replace(tensor, model=model))), []
    try:
        for server, work in pairs:
            one = Running(server, work.model, places, environment)
            running.append((one, dataclasses.replace(work, loads=closed)))
            one.wait()
            one.rest()
        measured = []
        for number in range(rounds):
            say("a photo: round %d of %d" % (number + 1, rounds))
            of_round = {}
            for one, work in running:
                one.go_on()
                right = learn(places, one, one.server.sides[0], work)
                one.rest()
                for load, found in one_round(places, [one], work, (number, seconds, right))["loads"].items():
                    of_round.setdefault(load, {}).update(found)
            measured.append({"loads": of_round})
    finally:
        for one, _ in running:
            one.close()
    commit = machine.about(places, environment)["commit"]
    return {"work": "photo", "rounds": measured, "loads": {load.name: load.title for load in closed}, "commit": commit}


def value(results, work, load, side, figure):
    """A figure of each round: a list, or `None` where it was not measured."""
    for result in results["works"]:
        if result["work"] == work:
            found = [measured["loads"][load].get(side, {}).get(figure) for measured in result["rounds"]]
            return None if not found or None in found else found
    return None


def residents(results, work, server):
    """Bytes of a server's processes in each round."""
    for result in results["works"]:
        if result["work"] == work:
            found = [measured["resident"].get(server) for measured in result["rounds"]]
            return None if not found or None in found else found
    return None


def within_rounds(first, second, combine):
    """The spread of `combine(first, second)` over the rounds."""
    if first is None or second is None:
        return None
    return spread([combine(a, b) for a, b in zip(first, second)])
