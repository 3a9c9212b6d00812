"""What a container that does the worker's job weighs, and how long it takes to start, beside a guest.

The container is as small as packages make it: Debian's Python without shell and package manager, ONNX Runtime's own
package and `benches/peers/native.py`. It is unpacked by apt, dpkg and pip as they are configured here, and started
by runc. Models are left out on both sides: they are files of the host.
"""

import glob
import gzip
import io
import json
import os
import random
import shutil
import subprocess
import tarfile

import machine
import page
import plots
import processes
import works
from calls import SEED
from settings import Failure
from stats import spread

#: What Python and its packages need, and what Debian would bring with it that this job does not use.
WANTED = ("python3-minimal", "libpython3-stdlib", "libstdc++6")
LEFT_OUT = ("debconf", "dpkg", "install-info", "mailcap", "media-types", "mime-support", "perl", "readline-common", "tar")
HELLO = 'int puts(const char *text); int main(void) { puts("hello from a container"); return 0; }\n'


def measure(places, environment, quick, say):
    for program in ("apt-cache", "apt-get", "dpkg-deb", "cc"):
        if not shutil.which(program):
            raise Failure("expected `%s` in PATH, found none" % program, "the container is made of Debian's packages: use Debian or Ubuntu")
    folder = os.path.realpath(os.path.join(places.work, "container"))
    shutil.rmtree(folder, ignore_errors=True)
    root = os.path.join(folder, "rootfs")
    say("container: getting packages")
    packages = unpack_debian(folder, root)
    system = weigh([root])
    unpack_python(folder, root)
    whole = weigh([root])
    say("container: weighing")
    sizes = guest_sizes(places, environment)
    sizes.append(("container: Debian's Python and what it needs", *system))
    sizes.append(("container: ONNX Runtime's Python package, numpy, the script", whole[0] - system[0], whole[1] - system[1]))
    sizes.append(("container, whole", *whole))
    about = machine.describe(places, environment)
    started, why = measure_starts(places, environment, folder, 5 if quick else 40, say)
    return {"about": about, "packages": packages, "sizes": sizes, "starts": started, "skipped": why}


def call(command, hint=None, **more):
    try:
        return subprocess.run(command, check=True, capture_output=True, text=True, **more).stdout
    except (OSError, subprocess.CalledProcessError) as error:
        said = (getattr(error, "stderr", None) or str(error)).strip()
        raise Failure("cannot run `%s`: %s" % (" ".join(command[:4]), said), hint) from error


def unpack_debian(folder, root):
    """Unpacks Debian's packages; their names."""
    names = needed()
    packages = os.path.join(folder, "packages")
    os.makedirs(packages)
    call(["apt-get", "download", "-q", *names], cwd=packages, hint="apt-get update, then try again")
    for name in ("bin", "sbin", "lib", "lib32", "lib64"):
        os.makedirs(os.path.join(root, "usr", name), exist_ok=True)
        os.symlink("usr/" + name, os.path.join(root, name))
    for path in sorted(glob.glob(os.path.join(packages, "*.deb"))):
        with subprocess.Popen(["dpkg-deb", "--fsys-tarfile", path], stdout=subprocess.PIPE) as source:
            call(["tar", "-x", "--keep-directory-symlink", "-C", root], stdin=source.stdout)
    for name in ("doc", "man", "locale", "lintian", "bash-completion"):
        shutil.rmtree(os.path.join(root, "usr/share", name), ignore_errors=True)
    return names


def needed():
    """The names of all packages that have to be unpacked."""
    found, open_names = set(), list(WANTED)
    while open_names:
        name = open_names.pop()
        if name in found or name in LEFT_OUT:
            continue
        found.add(name)
        for line in call(["apt-cache", "depends", "--no-recommends", "--no-suggests", name]).splitlines():
            kind, _, other = line.strip().partition(": ")
            # A virtual package is in angle brackets; of alternatives, which have a bar, the last one has none.
            if kind in ("Depends", "PreDepends") and not other.startswith("<"):
                open_names.append(other)
    return sorted(found)


def unpack_python(folder, root):
    """Adds ONNX Runtime's package and the script, and a program that only greets."""
    found = sorted(glob.glob(os.path.join(root, "usr/bin/python3.*[0-9]")))
    if not found:
        raise Failure("Debian's packages brought no Python", "look at target/bench/container/rootfs/usr/bin")
    version = os.path.basename(found[0])[len("python") :]
    with open("target/bench/venv/packages", encoding="utf-8") as file:
        wanted = file.read().split()
    target = os.path.join(root, "app/packages")
    pip = ["target/bench/venv/bin/python", "-I", "-m", "pip", "install", "--quiet", "--no-input", "--no-deps", "--no-compile"]
    only = ["--only-binary=:all:", "--python-version", version, "--implementation", "cp", "--target", target]
    call(pip + ["--disable-pip-version-check", *only, *wanted])
    shutil.copy("benches/peers/native.py", os.path.join(root, "app/native.py"))
    compile_python(root, found[0])
    link = os.path.join(root, "usr/bin/python3")
    if not os.path.lexists(link):
        os.symlink(os.path.basename(found[0]), link)
    # Not weighed: it is there to see what starting costs by itself.
    source = os.path.join(folder, "hello.c")
    with open(source, "w", encoding="utf-8") as file:
        file.write(HELLO)
    call(["cc", "-O2", "-static", "-o", os.path.join(folder, "hello"), source])


def compile_python(root, python):
    """Compiles all of its Python ahead, as Debian and pip do when they install: by the container's own Python."""
    loaders = glob.glob(os.path.join(root, "usr/lib/*/ld-linux-*.so.*")) or [""]
    libraries = os.path.dirname(loaders[0])
    folders = [os.path.dirname(python).replace("/bin", "/lib/" + os.path.basename(python)), os.path.join(root, "app")]
    command = [loaders[0], "--library-path", libraries, python, "-m", "compileall", "-q", "-s", root, "-p", "/", *folders]
    call(command, env={"PYTHONHOME": os.path.join(root, "usr")})


class Counting(io.RawIOBase):
    """A file that only counts."""

    def __init__(self):
        super().__init__()
        self.count = 0

    def writable(self):
        return True

    def write(self, data):
        self.count += len(data)
        return len(data)


def weigh(paths):
    """Bytes unpacked and bytes of a tar.gz."""
    unpacked = 0
    counting = Counting()
    with gzip.GzipFile(fileobj=counting, mode="wb", compresslevel=6, mtime=0) as packed:
        with tarfile.open(fileobj=packed, mode="w|") as tar:
            for path in paths:
                for top, _, files in os.walk(path) if os.path.isdir(path) else [("", [], [path])]:
                    for name in files:
                        status = os.lstat(os.path.join(top, name))
                        unpacked += status.st_size
                tar.add(path, arcname=os.path.basename(path))
    return unpacked, counting.count


def guest_sizes(places, environment):
    sizes = [("guest `worker`, component", *weigh([places.guest("component", "worker")]))]
    sizes.append(("guest `worker`, preview1", *weigh([places.guest("preview1", "worker")])))
    stripped = os.path.join(places.work, "infer-stripped")
    call(["strip", "-o", stripped, places.infer])
    sizes.append(("once for all guests: `infer`, stripped", *weigh([stripped])))
    library = os.path.realpath(environment["ORT_DYLIB_PATH"])
    sizes.append(("once for all guests: ONNX Runtime's library", *weigh([library])))
    return sizes


def measure_starts(places, environment, folder, runs, say):
    """Rows of starts, or why there are none."""
    if not shutil.which("runc"):
        return None, "`runc` is not in `PATH`"
    if os.geteuid() != 0:
        return None, "`runc` was not tried without root"
    work = next(work for work in works.works(places, lambda name: "") if work.name == "squeezenet")
    model = os.path.realpath(work.file)
    bundles = {
        "hello": bundle(folder, "hello", ["/hello"], [(os.path.join(folder, "hello"), "/hello")]),
        "answer": bundle(folder, "answer", PYTHON + ["squeezenet=/model.onnx"], [(model, "/model.onnx")]),
    }
    order = work.first_order()
    python = (places.python, "-I", "benches/peers/native.py", "--threads", "1", "squeezenet=" + work.file)
    infer = (places.infer, "run", places.guest("component", "worker"), "--no-tuned", "--backend", "onnxruntime")
    infer += ("--threads", "1", "--model", "squeezenet=" + work.file)
    runc = shutil.which("runc")
    all_starts = [
        ("runc-hello", "container, a static program that greets", (runc, "run", "--bundle", bundles["hello"]), None),
        ("infer-hello", "`infer run`, the guest `hello`", (places.infer, "run", places.guest("component", "hello")), None),
        ("runc-answer", "container, Python, first answer of SqueezeNet 1.0", (runc, "run", "--bundle", bundles["answer"]), order),
        ("python-answer", "process, Python, first answer of SqueezeNet 1.0", python, order),
        ("infer-answer", "`infer run`, first answer of SqueezeNet 1.0", infer, order),
    ]
    times = {name: [] for name, *_ in all_starts}
    for number in range(runs + 1):
        say("container: round %d of %d" % (number, runs))
        shuffled = list(all_starts)
        random.Random(SEED + number).shuffle(shuffled)
        for name, title, command, line in shuffled:
            if name.startswith("runc"):
                command += ("infer-bench-%d-%s-%d" % (os.getpid(), name, number),)
            start = processes.Start(name, title, "", tuple(command), name, line)
            try:
                taken, _ = processes.one(start, environment)
            except Failure as failure:
                if number or not name.startswith("runc"):
                    raise
                return None, "`runc` cannot start a container here (%s)" % str(failure).splitlines()[0]
            if number:
                times[name].append(taken)
    return [{"start": name, "title": title, "nanoseconds": spread(times[name])} for name, title, *_ in all_starts], None


PYTHON = ["/usr/bin/python3", "/app/native.py", "--threads", "1"]


def bundle(folder, name, command, files):
    """A folder as runc wants it: its own standard settings, this command, and these files of the host."""
    path = os.path.join(folder, "bundle-" + name)
    os.makedirs(path)
    call(["runc", "spec", "--bundle", path])
    config_path = os.path.join(path, "config.json")
    with open(config_path, encoding="utf-8") as file:
        config = json.load(file)
    config["process"]["terminal"] = False
    config["process"]["args"] = command
    # The engine writes into its home when it is imported.
    config["process"]["env"] = ["PYTHONPATH=/app/packages", "PATH=/usr/bin", "HOME=/dev/shm", "XDG_CACHE_HOME=/dev/shm"]
    config["root"] = {"path": os.path.join(folder, "rootfs"), "readonly": True}
    for source, target in files:
        # What is mounted upon must be there in a root that is only read.
        with open(os.path.join(folder, "rootfs", target.lstrip("/")), "ab"):
            pass
        mount = {"destination": target, "type": "bind", "source": source, "options": ["bind", "ro"]}
        config["mounts"].append(mount)
    with open(config_path, "w", encoding="utf-8") as file:
        json.dump(config, file)
    return path


PAGE = """<!-- Written by scripts/bench --containers; the figures are those of one run. -->
# Beside a container

The job is that of the guest `worker`: read an order, run a model by ONNX Runtime, answer. The container does it by
`benches/peers/native.py`. It is made as small as Debian's packages allow: Python and the libraries that it needs, no shell, no
package manager, no documentation, then the packages of ONNX Runtime and numpy. Models are left out on both sides.

{machine}

## Size
A guest is the whole of what is shipped for one program. `infer` and the engine's library are there once for all guests of a
machine, as the layers below a program can be there once for several containers.

![bytes](containers.svg)

{sizes}

Debian's packages in it: {packages}.

## Start
{starts}
"""


def written(result):
    """The page and its plot, by path below `docs`."""
    sizes = [(title, "{:,}".format(unpacked), "{:,}".format(packed)) for title, unpacked, packed in result["sizes"]]
    if result["starts"]:
        rows = [(row["title"], page.with_spread(row["nanoseconds"], page.time)) for row in result["starts"]]
        starts = "From the start of the process to its end, or to the line with its first answer.\n\n"
        starts += page.markdown(("start", "time"), rows)
    else:
        starts = "Not measured: %s." % result["skipped"]
    parts = {
        "machine": page.machine(result["about"]),
        "sizes": page.markdown(("what", "bytes unpacked", "bytes as tar.gz"), sizes),
        "packages": ", ".join(result["packages"]),
        "starts": starts,
    }
    text = PAGE
    for name, part in parts.items():
        text = text.replace("{%s}" % name, part)
    return {"performance/containers.md": text, "performance/containers.svg": plot(result)}


def plot(result):
    bars = []
    for title, _, packed in result["sizes"]:
        kind = "container" if title.startswith("container") else "infer"
        figure = {"median": packed, "p5": packed, "p95": packed}
        bars.append(plots.bar(kind, title.split(": ")[-1].replace("`", ""), figure, "%.2f MB" % (packed / 1e6)))
    return plots.svg("Bytes as tar.gz", [("Bytes as tar.gz", bars)])
