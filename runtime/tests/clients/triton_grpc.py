"""Speaks to a server as users do by tritonclient's gRPC: `triton_grpc.py WHAT ADDRESS`."""

import sys
from concurrent.futures import ThreadPoolExecutor

import grpc
import numpy as np
import tritonclient.grpc as triton_grpc
from tritonclient.grpc import service_pb2 as messages
from tritonclient.grpc import service_pb2_grpc as services

import cases
import triton

STATUSES = {
    name: f"StatusCode.{code}"
    for name, code in {
        "invalid": "INVALID_ARGUMENT", "not found": "NOT_FOUND", "forbidden": "PERMISSION_DENIED",
        "no token": "UNAUTHENTICATED", "not ready": "UNAVAILABLE", "busy": "RESOURCE_EXHAUSTED",
        "too long": "OUT_OF_RANGE", "late": "DEADLINE_EXCEEDED", "unsupported": "UNIMPLEMENTED",
    }.items()
}
FIELDS = {
    "BOOL": "bool_contents", "UINT8": "uint_contents", "UINT16": "uint_contents", "UINT32": "uint_contents",
    "UINT64": "uint64_contents", "INT8": "int_contents", "INT16": "int_contents", "INT32": "int_contents",
    "INT64": "int64_contents", "FP32": "fp32_contents", "FP64": "fp64_contents", "BYTES": "bytes_contents",
}


def request(model, *tensors, raw=()):
    """A message as it is: tensors as name, datatype, shape and typed contents."""
    message = messages.ModelInferRequest(model_name=model, raw_input_contents=raw)
    for name, datatype, shape, contents in tensors:
        tensor = message.inputs.add(name=name, datatype=datatype, shape=shape)
        if contents is not None:
            field = FIELDS.get(datatype, "fp32_contents")
            getattr(tensor.contents, field).extend(contents)
    return message


def more_checks(side):
    client = side.client
    stub = services.GRPCInferenceServiceStub(grpc.insecure_channel(side.address))

    def fails(code, message, *texts):
        try:
            stub.ModelInfer(message)
        except grpc.RpcError as error:
            assert f"{error.code()}" == STATUSES[code], error
            for text in texts:
                assert text in error.details(), f"`{text}` in {error.details()}"
            return
        raise AssertionError(f"expected {code} {texts}")

    def typed_contents():
        for datatype, (model, values) in cases.CASES.items():
            if datatype in cases.ONLY_BINARY:
                fails("invalid", request(model, ("x", datatype, [1], [1])), datatype, "raw")
                continue
            contents = [text.encode() for text in values] if datatype == "BYTES" else values.tolist()
            answer = stub.ModelInfer(request(model, ("x", datatype, list(values.shape), contents)))
            assert answer.outputs[0].datatype == datatype and list(answer.outputs[0].shape) == list(values.shape)
            cases.same(datatype, triton_grpc.InferResult(answer).as_numpy("y"), values)

    def wrong_messages():
        floats = lambda *values: ("x", "FP32", [len(values)], values)
        fails("invalid", request("identity-u8", ("x", "UINT8", [1], [256])), "UINT8")
        fails("invalid", request("identity-i8", ("x", "INT8", [1], [-129])), "INT8")
        fails("invalid", request("identity-f32", ("x", "FP32", [2], [1])), "`x`")
        fails("invalid", request("identity-f32", ("x", "float", [1], [1])), "float", "FP32")
        fails("invalid", request("identity-f32", ("x", "FP32", [-1], [1])), "`x`")
        fails("invalid", request("identity-f32", ("x", "FP32", [1 << 62, 1 << 62], [1])), "`x`")
        fails("invalid", request("identity-f32", ("x", "FP32", [1] * 1000, [1])), "dimensions")
        fails("invalid", request("identity-f32", floats(1), raw=[b"\0" * 4]), "both")
        fails("invalid", request("identity-f32", ("x", "FP32", [1], None), raw=[b"\0" * 4] * 2), "got 2")
        fails("invalid", request("identity-f32", ("x", "FP32", [1], None), raw=[b"\0" * 3]), "`x`")
        fails("invalid", request("identity-f32", ("x", "FP32", [1], None)), "`x`")
        fails("invalid", request("identity-string", ("x", "BYTES", [1], None), raw=[b"\xff\xff\xff\xff"]), "`x`")
        fails("invalid", request("identity-bool", ("x", "BOOL", [1], None), raw=[b"\x02"]), "`x`")
        # Contents of another type than the datatype says are none.
        other = messages.ModelInferRequest(model_name="identity-f32")
        other.inputs.add(name="x", datatype="FP32", shape=[1]).contents.int_contents.append(1)
        fails("invalid", other, "`x`")
        several = request("identity-f32", ("x", "FP32", [1], [1.0]))
        several.inputs[0].contents.fp64_contents.append(2)
        fails("invalid", several, "several fields")
        fails("not found", request("", floats(1)), "no model is named ``")
        shared = request("identity-f32", ("x", "FP32", [1], None))
        shared.inputs[0].parameters["shared_memory_region"].string_param = "region"
        fails("unsupported", shared, "shared memory")
        timed = request("identity-f32", floats(1))
        timed.parameters["timeout"].string_param = "soon"
        fails("invalid", timed, "timeout")
        many = request("identity-f32", *[(f"i{number}", "FP32", [0], None) for number in range(100_000)])
        fails("invalid", many, "at most 1024")

    def what_there_is_not():
        for call in (
            lambda: client.get_trace_settings(),
            lambda: client.get_system_shared_memory_status(),
            lambda: client.register_system_shared_memory("a", "b", 1),
            lambda: client.unregister_cuda_shared_memory(),
        ):
            side.fails("unsupported", call, "this server has no")
        side.fails("unsupported", lambda: client.get_log_settings())
        answers = []
        client.start_stream(lambda result, error: answers.append((result, error)))
        try:
            client.async_stream_infer("identity-f32", [side.input("x", "FP32", triton.NUMBERS)])
        except triton.InferenceServerException:
            # The stream may have been refused before.
            pass
        client.stop_stream()
        ((result, error),) = answers
        assert result is None and error.status() == STATUSES["unsupported"] and "streams" in error.message(), error

    def compressed():
        # gRPC has a way to agree on it; a server that cannot says what it can.
        for algorithm in ("gzip", "deflate"):
            call = lambda: side.infer("identity-f32", triton.NUMBERS, compression_algorithm=algorithm)
            side.fails("unsupported", call)

    return [typed_contents, wrong_messages, what_there_is_not, compressed]


def too_long(side):
    def too_long_a_message():
        fits = np.zeros(1000, np.float32)
        cases.same("FP32", side.infer("identity-f32", fits).as_numpy("y"), fits)
        side.fails("too long", lambda: side.infer("identity-f32", np.zeros(1 << 19, np.float32)))
        cases.same("FP32", side.infer("identity-f32", fits).as_numpy("y"), fits)

    return [too_long_a_message]


def late(side):
    one = np.ones(1, np.float32)

    def late_by_the_request():
        side.fails("late", lambda: side.infer("slow", one, timeout=100_000), "deadline")

    def late_by_the_call():
        side.fails("late", lambda: side.infer("slow", one, client_timeout=0.1))

    return [late_by_the_request, late_by_the_call]


def busy(side):
    def refused_at_once():
        def ask(number):
            value = np.array([number + 1], np.float32)
            try:
                answer = side.client.infer("slow", [side.input("x", "FP32", value)])
                assert answer.as_numpy("y").item() == 4096 * (number + 1) ** 2
                return "answered"
            except triton.InferenceServerException as error:
                assert error.status() == STATUSES["busy"], error
                return "refused"
        with ThreadPoolExecutor(8) as pool:
            outcomes = list(pool.map(ask, range(8)))
        assert set(outcomes) == {"answered", "refused"}, outcomes

    return [refused_at_once]


def main(what, address, *more):
    tls = {"ssl": True, "root_certificates": more[0]} if what == "tls" else {}
    side = triton.Side(triton_grpc, address, STATUSES, {"as_json": True}, **tls)
    token = {"authorization": "Bearer secret"}
    if what == "protocol":
        cases.run(triton.checks(side) + more_checks(side))
    elif what == "tls":
        cases.run(triton.checks(side))
    elif what == "control":
        cases.run(triton.control(side, token, {"authorization": "Bearer other"}))
    else:
        cases.run({"too-long": too_long, "late": late, "busy": busy, "priorities": triton.priorities}[what](side))


main(*sys.argv[1:])
