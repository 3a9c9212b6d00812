"""Speaks to a server as users do by tritonclient's HTTP: `triton_http.py WHAT ADDRESS`."""

import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import tritonclient.http as http

import cases
import triton

STATUSES = {
    "invalid": "400", "not found": "404", "forbidden": "403", "no token": "401", "not ready": "503",
    "busy": "503", "too long": "413", "late": "504", "unsupported": "501", "encoding": "415",
}


def more_checks(side):
    client = side.client

    def json_tensors():
        for datatype, (model, values) in cases.CASES.items():
            for sent in (values, values[:0]):
                wanted = [http.InferRequestedOutput("y", binary_data=datatype in cases.ONLY_BINARY)]
                if datatype in cases.ONLY_BINARY:
                    continue
                tensor = side.input("x", datatype, sent, binary_data=False)
                cases.same(datatype, client.infer(model, [tensor], outputs=wanted).as_numpy("y"), sent)

    def mixed():
        a = np.arange(6, dtype=np.float32).reshape(2, 3)
        tensors = [side.input("a", "FP32", a, binary_data=False), side.input("b", "FP32", a)]
        cases.same("FP32", client.infer("add", tensors).as_numpy("sum"), a + a)
        x = side.input("x", "FP32", np.array([1, 2, 3, 4], np.float32))
        wanted = [
            http.InferRequestedOutput("half", binary_data=False),
            http.InferRequestedOutput("count", binary_data=True),
            http.InferRequestedOutput("double", binary_data=True),
        ]
        result = client.infer("several", [x], outputs=wanted)
        assert list(result.as_numpy("half")) == [0.5, 1, 1.5, 2] and result.as_numpy("count").item() == 4
        assert list(result.as_numpy("double")) == [2, 4, 6, 8]
        parts = {output["name"]: output for output in result.get_response()["outputs"]}
        assert "data" in parts["half"] and "data" not in parts["double"]

    def what_json_does_not_carry():
        tensor = side.input("x", "FP16", np.array([1], np.float16), binary_data=False)
        side.fails("invalid", lambda: client.infer("identity-f16", [tensor]), "FP16", "binary")
        for model, datatype, values in (
            ("identity-f16", "FP16", np.array([1], np.float16)),
            ("identity-f32", "FP32", np.array([np.nan], np.float32)),
            ("identity-string", "BYTES", np.array([b"\xff"], np.object_)),
        ):
            wanted = [http.InferRequestedOutput("y", binary_data=False)]
            side.fails("invalid", lambda: side.infer(model, values, datatype, outputs=wanted), "`y`", "binary")

    def compressed():
        for algorithm in ("gzip", "deflate"):
            call = lambda: side.infer("identity-f32", triton.NUMBERS, request_compression_algorithm=algorithm)
            side.fails("encoding", call, algorithm)
            # A client that takes compressed answers takes others too.
            result = side.infer("identity-f32", triton.NUMBERS, response_compression_algorithm=algorithm)
            cases.same("FP32", result.as_numpy("y"), triton.NUMBERS)

    def many_from_one_client():
        waiting = []
        for turn in range(100):
            values = np.full(turn + 1, turn, np.float32)
            tensor = side.input("x", "FP32", values)
            waiting.append((client.async_infer("identity-f32", [tensor]), values))
        for answer, values in waiting:
            cases.same("FP32", answer.get_result().as_numpy("y"), values)

    def what_there_is_not():
        for call in (
            lambda: client.get_trace_settings(),
            lambda: client.get_log_settings(),
            lambda: client.get_system_shared_memory_status(),
            lambda: client.register_cuda_shared_memory("a", b"b", 0, 1),
        ):
            side.fails("not found", call, "the protocol has no")

    return [json_tensors, mixed, what_json_does_not_carry, compressed, many_from_one_client, what_there_is_not]


def too_long(side):
    def too_long_a_body():
        fits = np.zeros(1000, np.float32)
        cases.same("FP32", side.infer("identity-f32", fits).as_numpy("y"), fits)
        side.fails("too long", lambda: side.infer("identity-f32", np.zeros(20_000, np.float32)), "--max-body")
        cases.same("FP32", side.infer("identity-f32", fits).as_numpy("y"), fits)

    return [too_long_a_body]


def late(side):
    def late_by_the_request():
        one = np.ones(1, np.float32)
        side.fails("late", lambda: side.infer("slow", one, timeout=100_000), "deadline")

    return [late_by_the_request]


def busy(side):
    """As many as can be at once and more, on a model of seconds: some are refused at once, the others are answered."""
    def refused_at_once():
        def ask(number):
            own = http.InferenceServerClient(side.address, **side.options)
            try:
                value = np.array([number + 1], np.float32)
                answer = own.infer("slow", [side.input("x", "FP32", value)])
                assert answer.as_numpy("y").item() == 4096 * (number + 1) ** 2
                return "answered"
            except triton.InferenceServerException as error:
                assert error.status() == STATUSES["busy"], error
                assert "wait for the model" in error.message(), error
                return "refused"
        with ThreadPoolExecutor(8) as pool:
            outcomes = list(pool.map(ask, range(8)))
        assert set(outcomes) == {"answered", "refused"}, outcomes

    return [refused_at_once]


def photo(side, path):
    """What is on a photo, prepared as the model wants it."""
    from PIL import Image

    def espresso():
        image = Image.open(path).convert("RGB")
        side_length = min(image.size) * 224 // 256
        left, top = ((length - side_length) // 2 for length in image.size)
        image = image.crop((left, top, left + side_length, top + side_length)).resize((224, 224), Image.BICUBIC)
        pixels = (np.asarray(image, np.float32) - 127) / 128
        about = side.client.get_model_metadata("efficientnet-lite0")
        (wanted,), (given,) = about["inputs"], about["outputs"]
        first = wanted["shape"][1] == 3
        pixels = (pixels.transpose(2, 0, 1) if first else pixels)[None]
        pixels = np.ascontiguousarray(pixels)
        for binary in (True, False):
            tensor = side.input(wanted["name"], "FP32", pixels, binary_data=binary)
            outputs = [http.InferRequestedOutput(given["name"], binary_data=binary)]
            scores = side.client.infer("efficientnet-lite0", [tensor], outputs=outputs).as_numpy(given["name"])
            assert scores.shape == (1, 1000)
            assert scores.argmax() == 967 and scores.max() > 0.8, (scores.argmax(), scores.max())

    return [espresso]


def main(what, address, *more):
    tls = {"ssl": True, "ssl_options": {"ca_certs": more[0]}} if what == "tls" else {}
    side = triton.Side(http, address, STATUSES, {}, network_timeout=300.0, concurrency=8, **tls)
    token = {"authorization": "Bearer secret"}
    if what == "protocol":
        cases.run(triton.checks(side) + more_checks(side))
    elif what == "tls":
        cases.run(triton.checks(side))
    elif what == "control":
        cases.run(triton.control(side, token, {"authorization": "Bearer other"}))
    else:
        cases.run({"too-long": too_long, "late": late, "busy": busy, "priorities": triton.priorities, "photo": photo}[what](side, *more))


main(*sys.argv[1:])
