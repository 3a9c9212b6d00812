"""A model over HTTP by FastAPI, uvicorn and ONNX Runtime: a peer of `scripts/bench serve`.

`fastapi_server.py --port N NAME FILE`: `POST /NAME/INPUT/1x3x224x224` with the values of the f32 input as body answers
with the place of the largest value of the first output. One worker and one session, whose runs leave the lock of
Python, on threads of the framework's own; the engine's threads do not spin.
"""

import argparse

import fastapi
import numpy
import onnxruntime
import uvicorn
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import PlainTextResponse


def session_of(path):
    options = onnxruntime.SessionOptions()
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.add_session_config_entry("session.inter_op.allow_spinning", "0")
    return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])


def application(name, session):
    app = fastapi.FastAPI()

    def place(feed):
        return int(session.run(None, feed)[0].argmax())

    @app.post("/%s/{input_name}/{dimensions}" % name, response_class=PlainTextResponse)
    async def argmax(input_name: str, dimensions: str, request: fastapi.Request):
        shape = [int(size) for size in dimensions.split("x")]
        values = numpy.frombuffer(await request.body(), numpy.float32).reshape(shape)
        return str(await run_in_threadpool(place, {input_name: values}))

    return app


def main():
    parser = argparse.ArgumentParser(description="Serves one model.")
    parser.add_argument("--port", type=int, default=8000)
    parser.add_argument("name")
    parser.add_argument("file")
    given = parser.parse_args()
    onnxruntime.disable_telemetry_events()
    uvicorn.run(application(given.name, session_of(given.file)), host="127.0.0.1", port=given.port, access_log=False, log_level="warning")


if __name__ == "__main__":
    main()
