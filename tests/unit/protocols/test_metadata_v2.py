"""Metadata: whoever builds a request by it is understood."""

import json

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from serve.datatypes import DATATYPES
from serve.protocols.json_documents import encode_json
from serve.protocols.metadata_v2 import model_metadata, server_metadata
from serve.protocols.signature_check import check
from serve.types import Signature, TensorSpec

_ENGINE = ("openvino", "twice as fast")
_SPECS = st.builds(
    TensorSpec,
    st.text(min_size=1, max_size=5),
    st.sampled_from(list(DATATYPES)),
    st.none() | st.lists(st.sampled_from([-1, 1, 3]), max_size=3).map(tuple),
)


@given(st.lists(_SPECS, min_size=1, max_size=3, unique_by=lambda spec: spec.name))
def test_a_request_that_is_built_by_the_metadata_fits_the_model(specs):
    signature = Signature("s", tuple(specs), (), False)
    document = json.loads(encode_json(model_metadata("m", ["1"], "keras", signature, _ENGINE)))
    built = {
        tensor["name"]: np.zeros(
            [2 if size == -1 else size for size in tensor["shape"]],
            DATATYPES[tensor["datatype"]].numpy,
        )
        for tensor in document["inputs"]
    }
    assert list(check(built, signature, "m")) == [spec.name for spec in specs]


def test_a_model_is_described_as_the_protocol_has_it():
    """Open Inference Protocol, "Model Metadata Response JSON Object"."""
    signature = Signature(
        "s",
        (TensorSpec("image", "FP32", (-1, 28, 28, 1)),),
        (TensorSpec("class", "INT64", (-1,)), TensorSpec("any", "BYTES", None)),
        True,
        "set by batching.rows: independent",
    )
    assert model_metadata("digits", ("1", "3"), "keras", signature, _ENGINE) == {
        "name": "digits",
        "versions": ["1", "3"],
        "platform": "keras",
        "inputs": [{"name": "image", "datatype": "FP32", "shape": [-1, 28, 28, 1]}],
        "outputs": [
            {"name": "class", "datatype": "INT64", "shape": [-1]},
            {"name": "any", "datatype": "BYTES", "shape": [-1]},
        ],
        "properties": {
            "rows": "independent",
            "rows_reason": "set by batching.rows: independent",
            "engine": "openvino",
            "engine_reason": "twice as fast",
        },
    }


def test_a_server_lists_the_extensions_that_clients_may_use():
    metadata = json.loads(encode_json(server_metadata("strata", "0.1.0")))
    assert (metadata["name"], metadata["version"]) == ("strata", "0.1.0")
    assert "binary_tensor_data" in metadata["extensions"]
    assert "classification" not in metadata["extensions"], "refused by protocols.rest_v2"
