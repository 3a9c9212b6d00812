"""Who computes: child processes that stay alive and speak the lines of the guest `worker`."""

import dataclasses
import os
import select
import subprocess
import time

from settings import Failure

#: What the longest order may take, in seconds.
PATIENCE = 300

#: What `infer run` sets for itself: large pages where the kernel gives them, and freed buffers kept.
LARGE_PAGES = {"GLIBC_TUNABLES": "glibc.malloc.hugetlb=1:glibc.malloc.arena_max=1:glibc.malloc.top_pad=%d"
               ":glibc.malloc.mmap_threshold=%d:glibc.malloc.trim_threshold=%d" % (16 << 20, 32 << 20, 512 << 20)}  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Side:
    """One way to run the same model."""

    name: str
    title: str
    command: tuple
    #: The side that it is held against: the same engine with the same options, without wasm.
    reference: str
    #: Another model name in orders, where it is not the work's own.
    model: str = None
    #: Whether it is measured only to be set off.
    helper: bool = False
    #: Variables of its own.
    variables: dict = dataclasses.field(default_factory=dict)


def by_infer(places, abi, work, options):
    """`infer run` of the worker."""
    command = (places.infer, "run", places.guest(abi, "worker"), "--no-tuned", *options)
    return command + ("--model", "%s=%s" % (work.model, work.file))


def by_peer(places, abi, work):
    """wasmtime's own program with its own wasi-nn."""
    graph = "nn-graph=onnx::" + places.peer_model(work.model)
    return (places.peer, "run", "-S", "nn", "-S", graph, places.guest(abi, "worker"))


def natively(places, work, options):
    return (places.native, *options, "%s=%s" % (work.model, work.file))


ABIS = (("component", "component"), ("preview1", "preview1"))


def sides(places, work):
    """All that run this work, the reference first."""
    one = ("--threads", "1")
    found = [
        Side("native", "native, Rust", natively(places, work, one), "native", variables=LARGE_PAGES),
        Side(
            "python", "native, Python",
            (places.python, "-I", "benches/peers/native.py", *one, "%s=%s" % (work.model, work.file)), "native",
        ),
    ]  # fmt: skip
    options = ("--backend", "onnxruntime", *one)
    for abi, title in ABIS:
        found.append(Side("infer-" + abi, "infer, " + title, by_infer(places, abi, work, options), "native"))
    # The peer takes the engine's own defaults, and cannot be told others.
    found.append(
        Side("native-default", "native, engine's defaults", natively(places, work, ("--spin",)), "native-default")
    )
    for abi, title in ABIS:
        found.append(Side("wasmtime-" + abi, "wasmtime, " + title, by_peer(places, abi, work), "native-default"))
    if work.tract:
        by_tract = natively(places, work, ("--tract",))
        found.append(Side("native-tract", "tract, native", by_tract, "native-tract", variables=LARGE_PAGES))
        for abi, title in ABIS:
            command = by_infer(places, abi, work, ("--backend", "tract"))
            found.append(Side("tract-" + abi, "tract, infer, " + title, command, "native-tract"))
    if work.copies:
        copy = (places.native,)
        found.append(Side("copy", "one memory copy", copy, "native", "copy", helper=True, variables=LARGE_PAGES))
    return found


class Worker:
    """A side's process."""

    def __init__(self, side, environment):
        self.side = side
        try:
            self.process = subprocess.Popen(
                side.command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0,
                env={**environment, **side.variables},
            )
        except OSError as error:
            raise Failure("cannot start `%s`: %s" % (side.command[0], error)) from error
        self.rest = b""

    def ask(self, order):
        """The checksum of the answer and the samples in nanoseconds, the first one left out."""
        try:
            self.process.stdin.write(order.encode() + b"\n")
        except BrokenPipeError:
            self.ended()
        checksum, *samples = self.line().split()
        return checksum, [int(sample) for sample in samples][1:]

    def line(self):
        end = time.monotonic() + PATIENCE
        while b"\n" not in self.rest:
            ready, _, _ = select.select([self.process.stdout], [], [], max(0, end - time.monotonic()))
            if not ready:
                raise Failure("`%s` did not answer within %d s" % (self.side.title, PATIENCE))
            more = os.read(self.process.stdout.fileno(), 1 << 16)
            if not more:
                self.ended()
            self.rest += more
        line, _, self.rest = self.rest.partition(b"\n")
        return line.decode()

    def ended(self):
        status = self.process.wait()
        command = " ".join(self.side.command)
        raise Failure("`%s` ended with status %d; what it said is above\n  %s" % (self.side.title, status, command))

    def close(self):
        """Ends the process; a worker ends with its input."""
        self.process.stdin.close()
        self.process.stdout.close()
        try:
            self.process.wait(timeout=20)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
