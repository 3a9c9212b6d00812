"""Speaks to a server as users do by KServe's own clients, REST and gRPC: `kserve_client.py HTTP GRPC`.

What comes by REST is held against KServe's own models of the protocol's messages.
"""

import asyncio
import logging
import sys

import grpc
import httpx
import numpy as np
from kserve import InferenceGRPCClient, InferenceRESTClient, InferInput, InferRequest, RESTConfig
from kserve.protocol.infer_type import RequestedOutput
from kserve.protocol.rest import v2_datamodels as described

import cases

# Failures that are meant to happen.
logging.disable(logging.CRITICAL)

# Those that KServe's clients know.
KNOWN = [datatype for datatype in cases.CASES if datatype != "BF16"]


def request(model, values, datatype, binary, parameters=None):
    tensor = InferInput("x", list(values.shape), datatype)
    tensor.set_data_from_numpy(values, binary_data=binary)
    wanted = [RequestedOutput("y", {"binary_data": binary})]
    return InferRequest(model, [tensor], request_id="7", request_outputs=wanted, parameters=parameters)


def check(response, model, datatype, values):
    assert (response.id, response.model_name) == ("7", model), response
    (output,) = response.outputs
    assert (output.name, output.datatype, list(output.shape)) == ("y", datatype, list(values.shape)), output
    cases.same(datatype, output.as_numpy(), values)


async def rest(address):
    base = f"http://{address}"
    async with InferenceRESTClient(RESTConfig(protocol="v2", timeout=120)) as client:
        assert await client.is_server_live(base) is True
        assert await client.is_server_ready(base) is True
        assert await client.is_model_ready(base, "identity-f32") is True
        assert await client.is_model_ready(base, "nothing") is False
        for datatype in KNOWN:
            model, values = cases.CASES[datatype]
            for binary in (True, False):
                if not binary and datatype in cases.ONLY_BINARY:
                    continue
                answer = await client.infer(base, request(model, values, datatype, binary), model_name=model)
                check(answer, model, datatype, values)
        for model, status, text in (
            ("nothing", 404, "`nothing`"),
            ("identity-i64", 400, "f32"),
        ):
            try:
                await client.infer(base, request(model, np.ones(1, np.float32), "FP32", True), model_name=model)
            except httpx.HTTPStatusError as error:
                assert error.response.status_code == status and text in str(error), error
                assert set(error.response.json()) == {"error"}
            else:
                raise AssertionError(f"expected {status}")
    print("rest", flush=True)


async def over_grpc(address):
    async with InferenceGRPCClient(address, timeout=120) as client:
        assert await client.is_server_live() is True
        assert await client.is_server_ready() is True
        assert await client.is_model_ready("identity-f32") is True
        for datatype in KNOWN:
            model, values = cases.CASES[datatype]
            answer = await client.infer(request(model, values, datatype, True))
            check(answer, model, datatype, values)
            if datatype in cases.ONLY_BINARY:
                continue
            # Typed contents.
            answer = await client.infer(request(model, values, datatype, False))
            check(answer, model, datatype, values)
        try:
            await client.infer(request("nothing", np.ones(1, np.float32), "FP32", True))
        except grpc.RpcError as error:
            assert error.code() == grpc.StatusCode.NOT_FOUND, error
        else:
            raise AssertionError("expected an error")
    print("grpc", flush=True)


def messages(address):
    """REST's messages are those that KServe describes."""
    def get(path, model):
        response = httpx.get(f"http://{address}{path}")
        assert (response.status_code, response.headers["content-type"]) == (200, "application/json"), path
        return model.model_validate(response.json(), strict=True)

    assert get("/v2/health/live", described.ServerLiveResponse).live
    assert get("/v2/health/ready", described.ServerReadyResponse).ready
    for path in ("/v2", "/v2/"):
        assert get(path, described.ServerMetadataResponse).name == "infer"
    for version in ("", "/versions/1"):
        about = get(f"/v2/models/several{version}", described.ModelMetadataResponse)
        assert [tensor.shape for tensor in about.inputs + about.outputs] == [[4], [4], [4], []]
        assert get(f"/v2/models/several{version}/ready", described.ModelReadyResponse).ready
        asked = {"id": "7", "inputs": [{"name": "x", "shape": [4], "datatype": "FP32", "data": [1, 2, 3, 4]}]}
        response = httpx.post(f"http://{address}/v2/models/several{version}/infer", json=asked)
        answer = described.InferenceResponse.model_validate(response.json(), strict=True)
        assert (answer.model_name, answer.model_version, answer.id) == ("several", "1", "7")
        assert [output.data for output in answer.outputs] == [[2, 4, 6, 8], [0.5, 1, 1.5, 2], [4]]
    print("messages", flush=True)


def main(http, grpc_address):
    messages(http)
    asyncio.run(rest(http))
    asyncio.run(over_grpc(grpc_address))
    print("3 checks", flush=True)


main(*sys.argv[1:])
