"""What tritonclient's HTTP and gRPC have in common: a client with the same methods, tensors in and out."""

import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from tritonclient.utils import InferenceServerException

import cases


class Side:
    """One of the two modules, a client of it, and what it makes of what the server says."""

    def __init__(self, module, address, statuses, metadata, **options):
        self.module = module
        self.address = address
        self.options = options
        self.client = module.InferenceServerClient(address, **options)
        self.statuses = statuses
        # As dictionaries, where the client has another form.
        self.metadata = metadata

    def input(self, name, datatype, values, shape=None, **how):
        tensor = self.module.InferInput(name, list(values.shape), datatype)
        tensor.set_data_from_numpy(values, **how)
        if shape is not None:
            tensor.set_shape(shape)
        return tensor

    def infer(self, model, values, datatype="FP32", **more):
        return self.client.infer(model, [self.input("x", datatype, values)], **more)

    def statistics(self, model):
        statistics = self.client.get_inference_statistics(model, **self.metadata)
        (of_model,) = statistics["model_stats"]
        assert of_model["name"] == model and of_model["version"] == "1"
        stats = of_model["inference_stats"]
        number = lambda part, field: int(stats.get(part, {}).get(field, 0))
        return {
            "inferences": int(of_model.get("inference_count", 0)),
            "success": number("success", "count"),
            "fail": number("fail", "count"),
            "ns": [number(part, "ns") for part in ("success", "compute_infer")],
        }

    def fails(self, what, call, *texts):
        """Fails unless the call does, by this status and with these texts."""
        try:
            call()
        except InferenceServerException as error:
            assert error.status() == self.statuses[what], f"{error.status()}: {error.message()}"
            for text in texts:
                assert text in error.message(), f"`{text}` in {error.message()}"
            return error
        raise AssertionError(f"expected {what} {texts}, got an answer")


NUMBERS = np.array([1.5, -2, 0.25], np.float32)


def checks(side):
    """The checks that are the same by both."""
    client, module = side.client, side.module

    def health():
        assert client.is_server_live() and client.is_server_ready()
        assert client.is_model_ready("identity-f32") and client.is_model_ready("identity-f32", "1")

    def metadata():
        about = client.get_server_metadata(**side.metadata)
        assert about["name"] == "infer" and about["version"]
        assert {"binary_tensor_data", "statistics", "model_repository"} <= set(about["extensions"])
        for datatype, (model, _) in cases.CASES.items():
            about = client.get_model_metadata(model, **side.metadata)
            assert (about["name"], about["versions"], about["platform"]) == (model, ["1"], "onnxruntime_onnx")
            for tensors, name in (("inputs", "x"), ("outputs", "y")):
                ((tensor),) = about[tensors]
                shape = [int(size) for size in tensor["shape"]]
                assert (tensor["name"], tensor["datatype"], shape) == (name, datatype, [-1]), tensor
        about = client.get_model_metadata("several", "1", **side.metadata)
        assert [tensor["name"] for tensor in about["outputs"]] == ["double", "half", "count"]

    def configuration():
        config = client.get_model_config("identity-string", **side.metadata)
        config = config.get("config", config)
        assert config["input"][0]["data_type"] == "TYPE_STRING"
        assert int(config.get("max_batch_size", 0)) == 0

    def every_datatype():
        for datatype, (model, values) in cases.CASES.items():
            for sent in (values, values[:1], values[:0]):
                result = side.infer(model, sent, datatype)
                cases.same(datatype, result.as_numpy("y"), sent)
        odd = np.array([np.inf, -np.inf, np.nan], np.float32)
        cases.same("FP32", side.infer("identity-f32", odd).as_numpy("y"), odd)
        odd = np.array([b"\xff\x00", b"\x00" * 9], np.object_)
        cases.same("BYTES", side.infer("identity-string", odd, "BYTES").as_numpy("y"), odd)

    def large():
        values = np.arange(3_000_000, dtype=np.float32)
        cases.same("FP32", side.infer("identity-f32", values).as_numpy("y"), values)

    def several_inputs_and_outputs():
        a = np.arange(6, dtype=np.float32).reshape(2, 3)
        b = a * 10
        # Names say which is which, not places.
        result = client.infer("add", [side.input("b", "FP32", b), side.input("a", "FP32", a)])
        cases.same("FP32", result.as_numpy("sum"), a + b)
        x = np.array([1, 2, 3, 4], np.float32)
        result = client.infer("several", [side.input("x", "FP32", x)])
        cases.same("FP32", result.as_numpy("double"), x * 2)
        cases.same("FP32", result.as_numpy("half"), x / 2)
        assert result.as_numpy("count").item() == 4 and result.as_numpy("count").shape == ()
        wanted = [module.InferRequestedOutput(name) for name in ("count", "double")]
        result = client.infer("several", [side.input("x", "FP32", x)], outputs=wanted)
        cases.same("FP32", result.as_numpy("double"), x * 2)
        assert result.as_numpy("half") is None
        assert result.as_numpy("count").item() == 4

    def ids():
        response = side.infer("identity-f32", NUMBERS, request_id="request 7").get_response(**side.metadata)
        assert (response["id"], response["model_name"], response["model_version"]) == ("request 7", "identity-f32", "1")
        assert not side.infer("identity-f32", NUMBERS).get_response(**side.metadata).get("id")

    def versions():
        assert side.infer("identity-f32", NUMBERS, model_version="1").as_numpy("y") is not None
        side.fails("not found", lambda: side.infer("identity-f32", NUMBERS, model_version="2"), "version `1` only")
        side.fails("not found", lambda: client.get_model_metadata("identity-f32", "2"), "version `1` only")

    def wrong_requests():
        fails, wrong = side.fails, "invalid"
        fails("not found", lambda: side.infer("nothing", NUMBERS), "`nothing`", "`identity-f32`")
        fails("not found", lambda: client.get_model_metadata("nothing"), "`nothing`")
        fails(wrong, lambda: client.infer("add", [side.input("a", "FP32", np.ones((2, 3), np.float32))]), "missing input `b`")
        other = side.input("z", "FP32", NUMBERS)
        fails(wrong, lambda: client.infer("identity-f32", [other]), "unknown input `z`", "`x`")
        twice = [side.input("x", "FP32", NUMBERS)] * 2
        fails(wrong, lambda: client.infer("identity-f32", twice), "given twice")
        fails(wrong, lambda: side.infer("identity-f32", np.array([1, 2]), "INT64"), "f32")
        fails(wrong, lambda: side.infer("identity-f32", np.ones((2, 2), np.float32)), "[2, 2]")
        for shape in ([4], [2], [-3], [1 << 62, 8], [3, 0]):
            tensor = side.input("x", "FP32", NUMBERS, shape)
            fails(wrong, lambda: client.infer("identity-f32", [tensor]), "`x`")
        wanted = [module.InferRequestedOutput("z")]
        fails(wrong, lambda: side.infer("identity-f32", NUMBERS, outputs=wanted), "unknown output `z`", "`y`")
        same = [module.InferRequestedOutput("y")] * 2
        fails(wrong, lambda: side.infer("identity-f32", NUMBERS, outputs=same), "`y` is asked for twice")
        fails(wrong, lambda: client.infer("identity-f32", []), "missing input `x`")

    def statistics_grow():
        before = side.statistics("identity-f32")
        for _ in range(5):
            side.infer("identity-f32", NUMBERS)
        side.fails("invalid", lambda: side.infer("identity-f32", np.array([1]), "INT64"))
        after = side.statistics("identity-f32")
        assert after["success"] == before["success"] + 5, (before, after)
        assert after["inferences"] == before["inferences"] + 5, (before, after)
        assert after["fail"] == before["fail"] + 1, (before, after)
        assert all(late > early for early, late in zip(before["ns"], after["ns"])), (before, after)
        everything = client.get_inference_statistics(**side.metadata)["model_stats"]
        assert len(everything) == len(cases.CASES) + 2

    def index():
        lines = client.get_model_repository_index(**side.metadata)
        lines = lines if isinstance(lines, list) else lines["models"]
        assert {line["name"] for line in lines} == {case[0] for case in cases.CASES.values()} | {"add", "several"}
        assert {(line["version"], line["state"]) for line in lines} == {("1", "READY")}

    def control_is_off():
        for change in (client.load_model, client.unload_model):
            side.fails("forbidden", lambda: change("identity-f32"), "--allow-model-control")
        assert client.is_model_ready("identity-f32")

    def many_at_once():
        def work(number):
            own = module.InferenceServerClient(side.address, **side.options)
            for turn in range(40):
                values = np.full(100 + number, number * 1000 + turn, np.float32)
                tensor = side.input("x", "FP32", values)
                cases.same("FP32", own.infer("identity-f32", [tensor]).as_numpy("y"), values)
            own.close()
        with ThreadPoolExecutor(8) as pool:
            list(pool.map(work, range(8)))

    return [
        health, metadata, configuration, every_datatype, large, several_inputs_and_outputs, ids, versions,
        wrong_requests, statistics_grow, index, control_is_off, many_at_once,
    ]


def priorities(side):
    """On a model of seconds with three levels, the middle one for calls that ask for none, two of which run at one time."""
    def the_first_level_first_and_the_last_one_last():
        ended = []

        def ask(level):
            own = side.module.InferenceServerClient(side.address, **side.options)
            answer = own.infer("slow", [side.input("x", "FP32", np.array([level + 1], np.float32))], priority=level)
            ended.append(level)
            assert answer.as_numpy("y").item() == 4096 * (level + 1) ** 2

        with ThreadPoolExecutor(8) as pool:
            asked = []
            # Two that run, then one of the last level, four that ask for none or for a level that there is not, and one of the first.
            for levels in ((0, 0), (3,), (0, 7, 0, 0), (1,)):
                asked += [pool.submit(ask, level) for level in levels]
                time.sleep(0.1)
            for one in asked:
                one.result()
        assert ended.index(1) <= 3 and ended.index(3) >= 6, ended

    return [the_first_level_first_and_the_last_one_last]


def control(side, headers, wrong_headers):
    """Loading and unloading by who carries the token, on a server of `identity-f32` and `add`."""
    client = side.client

    def only_with_the_token():
        for change in (client.load_model, client.unload_model):
            side.fails("no token", lambda: change("add"), "Bearer")
            side.fails("forbidden", lambda: change("add", headers=wrong_headers), "token")
        assert client.is_model_ready("add")

    def unload_and_load():
        client.unload_model("add", headers=headers)
        assert not client.is_model_ready("add") and client.is_model_ready("identity-f32")
        lines = client.get_model_repository_index(**side.metadata)
        lines = lines if isinstance(lines, list) else lines["models"]
        assert {line["name"]: line["state"] for line in lines} == {"identity-f32": "READY", "add": "UNAVAILABLE"}
        ones = np.ones((2, 3), np.float32)
        tensors = [side.input(name, "FP32", ones) for name in "ab"]
        side.fails("not ready", lambda: client.infer("add", tensors), "`add` is not ready")
        # A model that an operator took away does not make the server unready.
        assert client.is_server_ready()
        client.load_model("add", headers=headers)
        cases.same("FP32", client.infer("add", tensors).as_numpy("sum"), ones + ones)
        client.load_model("add", headers=headers)
        assert client.is_model_ready("add")

    def unknown_models():
        for change in (client.load_model, client.unload_model):
            side.fails("not found", lambda: change("nothing", headers=headers), "`nothing`")

    def what_a_server_does_not_take():
        load = lambda: client.load_model("add", headers=headers, config='{"backend": "tract"}')
        side.fails("unsupported", load, "config")
        assert client.is_model_ready("add")

    return [only_with_the_token, unload_and_load, unknown_models, what_a_server_does_not_take]
