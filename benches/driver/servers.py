"""Who answers: server processes that are started once, and only the one that is measured may run."""

import dataclasses
import os
import signal
import socket
import subprocess
import time

from settings import Failure

#: What a server may take to answer its first request, and to end, in seconds.
PATIENCE, FAREWELL = 90, 20

#: glibc gives large freed buffers back to the kernel each time, unless it is told to keep them; 32 MiB is the most that it takes.
KEEP = {"MALLOC_TRIM_THRESHOLD_": str(256 << 20), "MALLOC_MMAP_THRESHOLD_": str(32 << 20)}


@dataclasses.dataclass(frozen=True)
class Side:
    """A protocol of a server."""

    name: str
    title: str
    protocol: str
    #: The side that it is held against.
    reference: str
    #: Whether requests come to the server's second port.
    second: bool = False


@dataclasses.dataclass(frozen=True)
class Server:
    """A program that serves one model."""

    name: str
    sides: tuple
    #: The command, of a model and two free ports.
    command: object
    #: Variables of its own.
    variables: dict = dataclasses.field(default_factory=dict)
    #: The folder of its Python packages, where it has some.
    packages: str = None


def argmax(name, title):
    return Side(name, title, "raw", "native")


def by_infer(places, guest):
    """`infer serve` of a guest."""

    def command(model, ports):
        listen = ("--http", address(ports[0]), "--grpc", address(ports[1]), "--metrics", address(free_port()))
        one = ("--no-tuned", "--backend", "onnxruntime", "--threads", "1", "--model", "%s=%s" % (model.name, model.file))
        return (places.infer, "serve", places.guest("component", guest), *one, *listen)

    return command


def photo_server(places):
    """A guest that decodes a photo, scales it, runs the model and names the classes."""
    return Server("infer-photo", (Side("infer-photo", "infer, a guest that takes a photo", "photo", "infer"),),
                  by_infer(places, "classify-http"))  # fmt: skip


def servers(places):
    """All of them, the reference first."""

    def python(name, *options):
        return (places.serve_python(name), "-I", "benches/serve/%s_server.py" % name, *options)

    def by_native(model, ports):
        listen = ("--http", address(ports[0]))
        return (places.native_server, model.name, model.file, "--threads", "1", "--sessions", "2", *listen)

    def by_wasmtime(*options):
        def command(model, ports):
            graph = "nn-graph=onnx::" + places.peer_model(model.name)
            common = ("-S", "cli", "-S", "nn", "-S", graph, "--addr", address(ports[0]))
            return (places.peer, "serve", *common, *options, places.guest("component", "argmax"))

        return command

    def one_port(model, ports):
        return ("--port", str(ports[0]), model.name, model.file)

    def by_fastapi(model, ports):
        return python("fastapi", *one_port(model, ports))

    def by_litserve(model, ports):
        # It has one path, and the work that it was started for.
        return python("litserve", *one_port(model, ports), model.input, model.dimensions)

    def by_mlserver(model, ports):
        return python("mlserver", "--grpc-port", str(ports[1]), *one_port(model, ports))

    return [
        Server("native", (argmax("native", "native, Rust"), Side("native-rest", "native, Rust", "rest", "native-rest")),
               by_native, KEEP),
        Server(
            "infer",
            (
                argmax("infer", "infer, a guest"),
                Side("infer-rest", "infer", "rest", "native-rest"),
                Side("infer-grpc", "infer, gRPC", "grpc", "native-rest", second=True),
            ),
            by_infer(places, "argmax"),
        ),
        Server("wasmtime", (argmax("wasmtime", "wasmtime serve"),), by_wasmtime()),
        Server("wasmtime-reuse", (argmax("wasmtime-reuse", "wasmtime serve, instances used again"),),
               by_wasmtime("--max-instance-reuse-count", "1000000")),
        Server("fastapi", (argmax("fastapi", "FastAPI"),), by_fastapi, packages="fastapi"),
        Server("litserve", (argmax("litserve", "LitServe"),), by_litserve, packages="litserve"),
        Server(
            "mlserver",
            (
                Side("mlserver-json", "MLServer, JSON", "json", "native-rest"),
                Side("mlserver-grpc", "MLServer, gRPC", "grpc", "native-rest", second=True),
            ),
            by_mlserver,
            packages="mlserver",
        ),
    ]  # fmt: skip


def address(port):
    return "127.0.0.1:%d" % port


def free_port():
    """A port that nothing has. Another program could take it before the server does, which then fails to start."""
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        return held.getsockname()[1]


class Running:
    """A server's process, stopped unless it is measured."""

    def __init__(self, server, model, places, environment):
        self.server, self.ports = server, (free_port(), free_port())
        self.log = os.path.join(places.work, "serve", "%s-%s.log" % (server.name, model.name))
        command = server.command(model, self.ports)
        os.makedirs(os.path.dirname(self.log), exist_ok=True)
        try:
            with open(self.log, "wb") as log:
                self.process = subprocess.Popen(
                    command, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                    env={**environment, **server.variables}, start_new_session=True,
                )  # fmt: skip
        except OSError as error:
            raise Failure("cannot start `%s`: %s" % (command[0], error)) from error

    def port(self, side):
        return self.ports[1 if side.second else 0]

    def wait(self):
        """Waits until all of its ports are open."""
        end = time.monotonic() + PATIENCE
        wanted = {self.port(side) for side in self.server.sides}
        while wanted:
            port = min(wanted)
            if self.process.poll() is not None:
                raise Failure("`%s` ended with status %d: %s" % (self.server.name, self.process.returncode, self.said()))
            if time.monotonic() > end:
                raise Failure("`%s` did not listen within %d s: %s" % (self.server.name, PATIENCE, self.said()))
            try:
                socket.create_connection(("127.0.0.1", port), timeout=1).close()
                wanted.remove(port)
            except OSError:
                time.sleep(0.05)

    def said(self):
        """The last line of its log."""
        with open(self.log, encoding="utf-8", errors="replace") as log:
            lines = [line.strip() for line in log if line.strip()]
        return lines[-1] if lines else "it said nothing"

    def rest(self):
        os.killpg(self.process.pid, signal.SIGSTOP)

    def go_on(self):
        os.killpg(self.process.pid, signal.SIGCONT)

    def resident(self):
        """Bytes of the process and all below it."""
        return sum(resident(pid) for pid in tree(self.process.pid))

    def close(self):
        if self.process.poll() is None:
            self.go_on()
            os.killpg(self.process.pid, signal.SIGTERM)
        try:
            self.process.wait(timeout=FAREWELL)
        except subprocess.TimeoutExpired:
            pass
        # What a server started may outlive it.
        try:
            os.killpg(self.process.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        self.process.wait()


def tree(root):
    """A process and all below it."""
    children = {}
    for name in os.listdir("/proc"):
        if name.isdigit():
            try:
                with open("/proc/%s/stat" % name, encoding="utf-8", errors="replace") as file:
                    parent = int(file.read().rpartition(")")[2].split()[1])
            except OSError:
                continue
            children.setdefault(parent, []).append(int(name))
    found, left = [], [root]
    while left:
        pid = left.pop()
        found.append(pid)
        left.extend(children.get(pid, []))
    return found


def resident(pid):
    try:
        with open("/proc/%d/statm" % pid, encoding="ascii") as file:
            return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        return 0
