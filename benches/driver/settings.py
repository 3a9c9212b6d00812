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
    infer: str = "target/dist/infer"
    native: str = "target/dist/native-worker"
    native_server: str = "target/dist/native-server"
    load: str = "target/dist/load"
    peer: str = "target/peers/dist/wasmtime-peer"
    python: str = "target/bench/venv/bin/python"
    light: str = "target/conformance/onnx-1.22.0/light"

    def guest(self, abi, name):
        """A built guest: `component` or `preview1`."""
        target = {"component": "wasm32-wasip2", "preview1": "wasm32-wasip1"}[abi]
        return "guest-examples/target/%s/release/%s.wasm" % (target, name)

    def serve_python(self, packages):
        """The Python that has the packages of a server."""
        return os.path.join(self.work, "serve-venvs", packages, "bin/python")

    def peer_model(self, name):
        """A folder as the peer wants it: named as the model, with `model.onnx` in it."""
        return os.path.join(self.work, "peer-models", name)

    def link_peer_model(self, name, file):
        """Puts a link to the model's file there."""
        folder = self.peer_model(name)
        os.makedirs(folder, exist_ok=True)
        link = os.path.join(folder, "model.onnx")
        if os.path.lexists(link):
            os.remove(link)
        os.symlink(os.path.realpath(file), link)

    def environment(self, library):
        """Variables for every child: the one engine's library, and compile caches and settings of the benchmark's own."""
        environment = dict(os.environ)
        environment["ORT_DYLIB_PATH"] = library
        environment["XDG_CACHE_HOME"] = os.path.abspath(os.path.join(self.work, "cache"))
        environment["XDG_CONFIG_HOME"] = os.path.abspath(os.path.join(self.work, "config"))
        return environment


@dataclasses.dataclass(frozen=True)
class Effort:
    """How often everything is measured."""

    rounds: int
    processes: int

    @staticmethod
    def full():
        return Effort(rounds=40, processes=40)

    @staticmethod
    def quick():
        return Effort(rounds=3, processes=3)
