"""ONNX Runtime driven from Python without wasm, as one side of `scripts/bench`: `native.py --threads N NAME=FILE...`

It reads the orders of the guest `worker` from standard input and answers as that guest does; see
`guest-examples/tests/worker`. A session is made once, its input is read where it lies, and its output is written
into memory that is there already. Options are those of infer's backend.
"""

import argparse
import sys
import time

import numpy
import onnxruntime


def session_of(path, threads):
    options = onnxruntime.SessionOptions()
    if threads:
        options.intra_op_num_threads = threads
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.add_session_config_entry("session.inter_op.allow_spinning", "0")
    return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])


def bound(session, name, values):
    """A binding of the input and of memory for every output, whose shapes one run tells; the first output."""
    binding = session.io_binding()
    binding.bind_cpu_input(name, values)
    outputs = [numpy.empty_like(output) for output in session.run(None, {name: values})]
    for description, output in zip(session.get_outputs(), outputs):
        binding.bind_output(
            description.name, "cpu", 0, output.dtype.type, list(output.shape), output.ctypes.data
        )
    # The binding knows addresses only.
    return binding, values, outputs


def checksum(output):
    """The sum of `(2 x place + 1) x word` over the output's words of 32 bits, in 64 bits."""
    words = output.reshape(-1).view(numpy.uint32).astype(numpy.uint64)
    factors = 2 * numpy.arange(words.size, dtype=numpy.uint64) + 1
    return int((words * factors).sum(dtype=numpy.uint64))


def measure(session, order):
    _, name, dimensions, output_bytes, samples, calls = order
    shape = [int(size) for size in dimensions.split("x")]
    places = numpy.arange(numpy.prod(shape)) % 251
    values = (places.astype(numpy.float32) / numpy.float32(125) - numpy.float32(1)).reshape(shape)
    binding, _, outputs = bound(session, name, values)
    run, clock = session.run_with_iobinding, time.perf_counter_ns
    # The first run of a binding is not timed on any side.
    run(binding)
    taken = []
    for _ in range(int(samples)):
        start = clock()
        for _ in range(int(calls)):
            run(binding)
        taken.append((clock() - start) // int(calls))
    if outputs[0].nbytes != int(output_bytes):
        sys.exit("error: expected %s bytes of output, got %d" % (output_bytes, outputs[0].nbytes))
    return "%016x %s" % (checksum(outputs[0]), " ".join(map(str, taken)))


def main():
    parser = argparse.ArgumentParser(description="Runs models as often as standard input says.")
    parser.add_argument("--threads", type=int, help="threads of one run (default: the engine's own choice)")
    parser.add_argument("models", nargs="*", metavar="NAME=FILE", help="a model and its file")
    arguments = parser.parse_args()
    onnxruntime.disable_telemetry_events()
    files = dict(model.split("=", 1) for model in arguments.models)
    sessions = {}
    for line in sys.stdin:
        order = line.split()
        if order[0] not in sessions:
            sessions[order[0]] = session_of(files[order[0]], arguments.threads)
        print(measure(sessions[order[0]], order), flush=True)


if __name__ == "__main__":
    main()
