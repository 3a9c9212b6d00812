"""Holds a server's answers against the protocol's own description: MLServer's package brings it as OpenAPI.

Reads a JSON list of {"method", "path" (as the description has it), "status", "body"}; writes a list of what is wrong with each,
`null` for one that is as it is described.
"""

import json
import sys
from pathlib import Path

import jsonschema

FOLDER = Path(__file__).parents[3] / "target/observers/protocol.d/mlserver/rest/openapi"
FILES = ("dataplane.json", "model_repository.json")


def description():
    """Both files as one. Its `bytes` is no type of JSON; the field may be an array, which is what JSON has."""
    paths, components = {}, {"schemas": {}, "enums": {}}
    for name in FILES:
        part = json.loads((FOLDER / name).read_text(encoding="utf-8"))
        paths.update(part["paths"])
        for kind in components:
            components[kind].update(part["components"].get(kind, {}))
    data = components["schemas"]["TensorData"]
    data["oneOf"] = [one for one in data["oneOf"] if one["type"] != "bytes"]
    return paths, components


def fault(exchange, paths, components):
    operation = paths.get(exchange["path"], {}).get(exchange["method"].lower())
    if operation is None:
        return "no such operation"
    response = operation["responses"].get(str(exchange["status"]))
    if response is None:
        return "status %s is not described" % exchange["status"]
    content = response.get("content")
    if content is None:
        return None
    schema = {**content["application/json"]["schema"], "components": components}
    try:
        jsonschema.Draft4Validator(schema).validate(json.loads(exchange["body"]))
    except (ValueError, jsonschema.ValidationError) as error:
        return str(error).splitlines()[0]
    return None


described = description()
print(json.dumps([fault(exchange, *described) for exchange in json.load(sys.stdin)]))
