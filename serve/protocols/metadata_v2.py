"""Metadata of the server and of models in Open Inference Protocol V2 ("Model Metadata")."""

from collections.abc import Sequence
from typing import Any

from serve.types import Signature, TensorSpec

# Why a model is not ready in the repository index when nothing is wrong.
RESTING = "unloaded to make room in its pool: the next request loads it"
ASLEEP = "asleep: no replica runs, and the next request starts one"
AWAITED = "waits for its first version; publish one"  # the model's name stands before it
# Only what is implemented: clients call what is listed here.
EXTENSIONS = ["binary_tensor_data", "parameters"]


def server_metadata(name: str, version: str) -> dict[str, Any]:
    """Return the document of GET /v2."""
    return {"name": name, "version": version, "extensions": EXTENSIONS}


def model_metadata(
    name: str,
    versions: Sequence[str],
    platform: str,
    signature: Signature,
    engine: tuple[str, str],
) -> dict[str, Any]:
    """Return the document of GET /v2/models/<name>; shapes have -1 for unknown sizes.

    `engine` is the library that computes, and why it is that one.
    """
    return {
        "name": name,
        "versions": list(versions),
        "platform": platform,
        "inputs": [_tensor(spec) for spec in signature.inputs],
        "outputs": [_tensor(spec) for spec in signature.outputs],
        # The protocol's gRPC message has these; here they say how requests share a call,
        # and what computes them.
        "properties": {
            "rows": "independent" if signature.batched else "together",
            "rows_reason": signature.batched_reason,
            "engine": engine[0],
            "engine_reason": engine[1],
        },
    }


def _tensor(spec: TensorSpec) -> dict[str, Any]:
    # The protocol has no word for an unknown rank; one unknown dimension comes closest.
    shape = [-1] if spec.shape is None else list(spec.shape)
    return {"name": spec.name, "datatype": spec.datatype, "shape": shape}
