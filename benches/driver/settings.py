"""Where everything lies that is measured, and how hard to measure."""

import dataclasses
import os


class Failure(Exception):
    """What stops the benchmark: a message, and a remedy where there is one."""

    def __init__(self, message, hint=None):
        super().__init__(message)
        self.hint = hint


@dataclasses.dataclass(frozen=True)
class Places:
    """Files of this run. The current folder is the repository's root."""

    work: str = "target/bench"
    infer: str = "target/release/infer"
    native: str = "target/release/native-worker"
    instances: str = "target/release/instances"
    peer: str = "target/peers/release/wasmtime-peer"
    python: str = "target/bench/venv/bin/python"
    light: str = "target/conformance/onnx-1.22.0/light"

    def guest(self, abi, name):
        """A built guest: `component` or `preview1`."""
        target = {"component": "wasm32-wasip2", "preview1": "wasm32-wasip1"}[abi]
        return "guest-examples/target/%s/release/%s.wasm" % (target, name)

    def peer_model(self, name, file):
        """A folder as the peer wants it, named as the model, with a link to its file."""
        folder = os.path.join(self.work, "peer-models", name)
        os.makedirs(folder, exist_ok=True)
        link = os.path.join(folder, "model.onnx")
        target = os.path.realpath(file)
        if not os.path.islink(link) or os.readlink(link) != target:
            if os.path.lexists(link):
                os.remove(link)
            os.symlink(target, link)
        return folder

    def environment(self, library):
        """Variables for every child: the one engine's library, and compile caches of the benchmark's own."""
        environment = dict(os.environ)
        environment["ORT_DYLIB_PATH"] = library
        environment["XDG_CACHE_HOME"] = os.path.abspath(os.path.join(self.work, "cache"))
        return environment


@dataclasses.dataclass(frozen=True)
class Effort:
    """How often everything is measured."""

    rounds: int
    processes: int
    instances: int

    @staticmethod
    def full():
        return Effort(rounds=40, processes=40, instances=20)

    @staticmethod
    def quick():
        return Effort(rounds=4, processes=5, instances=2)
