"""A model over HTTP by LitServe and ONNX Runtime: a peer of `scripts/bench serve`.

`litserve_server.py --port N NAME FILE INPUT DIMENSIONS`: `POST /NAME/INPUT/DIMENSIONS` with the values of the f32 input
as body answers with the place of the largest value of the first output. One worker, as LitServe does it by itself; the
engine's threads do not spin.
"""

import argparse
import typing

import fastapi
import litserve
import numpy
import onnxruntime


class Argmax(litserve.LitAPI):
    def __init__(self, given):
        super().__init__(api_path="/%s/%s/%s" % (given.name, given.input, given.dimensions))
        self.file, self.input = given.file, given.input
        self.shape = [int(size) for size in given.dimensions.split("x")]
        self.session = None

    def setup(self, device):
        onnxruntime.disable_telemetry_events()
        options = onnxruntime.SessionOptions()
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        options.add_session_config_entry("session.inter_op.allow_spinning", "0")
        self.session = onnxruntime.InferenceSession(self.file, options, providers=["CPUExecutionProvider"])

    def decode_request(self, request: typing.Annotated[bytes, fastapi.Body()]):
        return request

    def predict(self, body):
        values = numpy.frombuffer(body, numpy.float32).reshape(self.shape)
        return int(self.session.run(None, {self.input: values})[0].argmax())

    def encode_response(self, place) -> int:
        return place


def main():
    parser = argparse.ArgumentParser(description="Serves one model.")
    parser.add_argument("--port", type=int, default=8000)
    for name in ("name", "file", "input", "dimensions"):
        parser.add_argument(name)
    given = parser.parse_args()
    server = litserve.LitServer(Argmax(given), accelerator="cpu", workers_per_device=1, timeout=False)
    server.run(host="127.0.0.1", port=given.port, log_level="warning", generate_client_file=False)


if __name__ == "__main__":
    main()
