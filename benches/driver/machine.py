"""What was measured on: the machine, and the versions of everything."""

import datetime
import json
import os
import platform
import re
import subprocess

from settings import Failure


def said(*command, environment=None):
    """What a command prints."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    except (OSError, subprocess.CalledProcessError) as error:
        raise Failure("cannot run `%s`: %s" % (" ".join(command), error)) from error
    return done.stdout.strip()


def describe(places, environment):
    """What was measured, with the Python twin, which must have the same release of the engine."""
    found, twin = about(places, environment), said(places.python, "-I", "-c", PYTHON)
    if "%s," % found["engine"].replace("ONNX Runtime", "onnxruntime") not in twin:
        raise Failure("expected the Python twin to have %s, got %s" % (found["engine"], twin), "scripts/bench names its packages")
    return dict(found, python=twin)


def about(places, environment):
    """Everything that every page says of what was measured."""
    return {
        "date": datetime.datetime.now(datetime.timezone.utc).date().isoformat(),
        "commit": commit(),
        "processor": processor(),
        "processors": os.cpu_count(),
        "memory": memory(),
        "kernel": "%s %s" % (platform.system(), platform.release()),
        "load": os.getloadavg()[0],
        "infer": said(places.infer, "--version", environment=environment),
        "engine": "ONNX Runtime %s" % onnxruntime(places, environment)["version"],
        "wasmtime": peer(),
        "rust": said("rustc", "--version"),
    }


PYTHON = (
    "import platform, numpy, onnxruntime;"
    "print('Python %s, onnxruntime %s, numpy %s' % (platform.python_version(), onnxruntime.__version__, numpy.__version__))"
)


def commit():
    """The commit, and whether files differ from it, but for the pages that are written here."""
    changed = said("git", "status", "--porcelain", "--untracked-files=no", "--", ".", ":!docs")
    return said("git", "rev-parse", "--short=10", "HEAD") + (" with changes" if changed else "")


def processor():
    with open("/proc/cpuinfo", encoding="utf-8") as lines:
        for line in lines:
            if line.startswith("model name"):
                return re.sub(r"\s+", " ", line.split(":", 1)[1]).strip()
    return platform.machine()


def memory():
    """In bytes."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def onnxruntime(places, environment=None):
    """What `infer devices` says of the engine."""
    devices = json.loads(said(places.infer, "devices", "--json", environment=environment))
    for backend in devices:
        if backend["backend"] == "onnxruntime" and backend.get("version"):
            return backend
    raise Failure("`infer devices` finds no onnxruntime", "infer engines install onnxruntime")


def library(places):
    """The file of the engine's library that `infer` finds, so that every side uses the same one."""
    return onnxruntime(places)["location"].rsplit(" (", 1)[0]


def model_file(places, environment, name):
    """Where an installed model lies."""
    command = (places.infer, "inspect", name, "--no-tuned", "--backend", "onnxruntime", "--json")
    return json.loads(said(*command, environment=environment))["files"][0]


def peer():
    """The versions that the peer's lock file holds."""
    with open("benches/peers/wasmtime/Cargo.lock", encoding="utf-8") as file:
        lock = file.read()
    versions = dict(re.findall(r'name = "([^"]+)"\nversion = "([^"]+)"', lock))
    return "wasmtime %s with wasmtime-wasi-nn %s" % (versions["wasmtime"], versions["wasmtime-wasi-nn"])
