"""What the clients send: for each datatype of the protocol a model that gives back what it takes, and values at its limits.

Programs of this folder run checks one after the other; each prints its name, and the first that fails ends the program.
"""

import ml_dtypes
import numpy as np


def limits(dtype):
    info = np.iinfo(dtype)
    return np.array([info.min, 0, 1, info.max], dtype)


# Datatype -> (model, values that JSON carries too, if it carries the datatype).
CASES = {
    "BOOL": ("identity-bool", np.array([True, False, True])),
    "UINT8": ("identity-u8", limits(np.uint8)),
    "UINT16": ("identity-u16", limits(np.uint16)),
    "UINT32": ("identity-u32", limits(np.uint32)),
    "UINT64": ("identity-u64", limits(np.uint64)),
    "INT8": ("identity-i8", limits(np.int8)),
    "INT16": ("identity-i16", limits(np.int16)),
    "INT32": ("identity-i32", limits(np.int32)),
    "INT64": ("identity-i64", limits(np.int64)),
    "FP16": ("identity-f16", np.array([0.1, -65504, 6e-8, 0], np.float16)),
    "FP32": ("identity-f32", np.array([0.1, -3.4028235e38, 1e-45, -0.0], np.float32)),
    "FP64": ("identity-f64", np.array([0.1, -1.7976931348623157e308, 5e-324, -0.0, 0.9424502837770503], np.float64)),
    "BF16": ("identity-bf16", np.array([0.1, -3e38, 1e-38, 0], ml_dtypes.bfloat16)),
    "BYTES": ("identity-string", np.array(["", "caf\u00e9", "a\nb\"\\", "x" * 300], np.object_)),
}
# JSON has no numbers of these.
ONLY_BINARY = ("FP16", "BF16")


def same(datatype, got, expected):
    """Fails unless two tensors are the same, bit for bit."""
    assert got.shape == expected.shape, f"{datatype}: {got.shape}, not {expected.shape}"
    if datatype == "BYTES":
        texts = [[text.encode() if isinstance(text, str) else text for text in side.flatten()] for side in (got, expected)]
        assert texts[0] == texts[1], f"{datatype}: {got}"
    else:
        assert got.dtype == expected.dtype, f"{datatype}: {got.dtype}, not {expected.dtype}"
        assert got.tobytes() == expected.tobytes(), f"{datatype}: {got}, not {expected}"


def run(checks):
    assert checks
    for check in checks:
        check()
        print(check.__name__, flush=True)
    print(f"{len(checks)} checks", flush=True)
