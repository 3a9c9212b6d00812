"""A model by MLServer, over REST and gRPC, and ONNX Runtime: a peer of `scripts/bench serve`.

`mlserver_server.py --port N --grpc-port N NAME FILE`: the Open Inference Protocol. MLServer brings no runtime for ONNX, so
here is one. It runs in the server's own process, which is faster for one model than MLServer's worker processes; the
engine's threads do not spin.
"""

import argparse
import asyncio

import onnxruntime
from mlserver import MLModel, MLServer, ModelSettings, Settings
from mlserver.codecs import NumpyCodec
from mlserver.settings import ModelParameters
from mlserver.types import InferenceResponse


class Onnx(MLModel):
    async def load(self):
        onnxruntime.disable_telemetry_events()
        options = onnxruntime.SessionOptions()
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        options.add_session_config_entry("session.inter_op.allow_spinning", "0")
        file = self.settings.parameters.uri
        self.session = onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])
        return True

    async def predict(self, payload):
        feed = {given.name: NumpyCodec.decode_input(given) for given in payload.inputs}
        outputs = zip(self.session.get_outputs(), self.session.run(None, feed))
        encoded = [NumpyCodec.encode_output(output.name, values) for output, values in outputs]
        return InferenceResponse(model_name=self.name, outputs=encoded)


def main():
    parser = argparse.ArgumentParser(description="Serves one model.")
    parser.add_argument("--port", type=int, default=8000)
    parser.add_argument("--grpc-port", type=int, default=8001)
    parser.add_argument("name")
    parser.add_argument("file")
    given = parser.parse_args()
    settings = Settings(
        debug=False, host="127.0.0.1", http_port=given.port, grpc_port=given.grpc_port, metrics_endpoint=None, parallel_workers=0,
    )  # fmt: skip
    model = ModelSettings(name=given.name, implementation=Onnx, parameters=ModelParameters(uri=given.file))
    asyncio.run(MLServer(settings).start([model]))


if __name__ == "__main__":
    main()
