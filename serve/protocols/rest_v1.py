"""TensorFlow Serving's REST API (V1): predict in row and columnar form, status, metadata.

Called by the endpoint of a model. Source: TensorFlow Serving, "RESTful API", and its
http_rest_api_handler.cc and json_tensor.cc for what that page leaves out.
"""

import base64
import binascii
from collections.abc import Mapping
from typing import Any

import numpy as np

from serve import datatypes
from serve.errors import InvalidRequest
from serve.protocols.json_documents import dump, parse_object
from serve.protocols.tensors import as_array, to_json
from serve.types import (
    NO_TENANT,
    Array,
    InferRequest,
    InferResponse,
    Signature,
    Tensors,
    TensorSpec,
)


def decode_predict(
    body: bytes,
    signatures: Mapping[str, Signature],
    default_signature: str,
    *,
    tenant: str = NO_TENANT,
) -> tuple[InferRequest, bool]:
    """Return the request in a :predict body, and whether it came in row form ("instances").

    Datatypes are the signature's: JSON does not tell them. Raises InvalidRequest.
    """
    document = parse_object(body)
    name = document.get("signature_name", "")
    if not isinstance(name, str):
        raise InvalidRequest("'signature_name' key must be a string value.")
    signature = signatures.get(name or default_signature)
    if signature is None:
        raise InvalidRequest(f'Serving signature name: "{name}" not found in signature def')
    row_form = "instances" in document
    if row_form == ("inputs" in document):
        raise InvalidRequest(
            "Request must have exactly one of 'instances' (row form) and 'inputs' (columnar form)"
        )
    columns = (
        _columns_of_rows(document["instances"], signature)
        if row_form
        else _columns(document["inputs"], signature)
    )
    inputs = {
        spec.name: _tensor(columns[spec.name], spec)
        for spec in signature.inputs
        if spec.name in columns
    }
    unknown = [name for name in columns if name not in inputs]
    if unknown:
        known = ", ".join(spec.name for spec in signature.inputs)
        raise InvalidRequest(f"unknown inputs {unknown}; signature '{signature.name}' has: {known}")
    return InferRequest(inputs, signature=signature.name, tenant=tenant), row_form


def _columns_of_rows(instances: Any, signature: Signature) -> dict[str, Any]:
    if not isinstance(instances, list) or not instances:
        raise InvalidRequest("'instances' must be a list of at least one value")
    if not _is_named(instances[0]):
        return {_only_input(signature).name: instances}
    names = instances[0].keys()
    for index, instance in enumerate(instances):
        if not _is_named(instance) or instance.keys() != names:
            raise InvalidRequest(f"instance {index} has other keys than instance 0: {list(names)}")
    return {name: [instance[name] for instance in instances] for name in names}


def _columns(inputs: Any, signature: Signature) -> dict[str, Any]:
    return dict(inputs) if _is_named(inputs) else {_only_input(signature).name: inputs}


def _is_named(value: Any) -> bool:
    """Tell an object of named tensors from a value; {"b64": ...} is a value."""
    return isinstance(value, dict) and value.keys() != {"b64"}


def _only_input(signature: Signature) -> TensorSpec:
    if len(signature.inputs) != 1:
        names = ", ".join(spec.name for spec in signature.inputs)
        raise InvalidRequest(f"the signature has several inputs, name them: {names}")
    return signature.inputs[0]


def _tensor(data: Any, spec: TensorSpec) -> Array:
    datatype = datatypes.DATATYPES[spec.datatype]
    if datatype.itemsize is None:
        return as_array(_without_b64(data, spec.name), datatype, spec.name)
    if datatype.name in {"FP16", "BF16"}:  # V1 has no binary form, so decimals must do
        return as_array(data, datatypes.DATATYPES["FP32"], spec.name).astype(datatype.numpy)
    return as_array(data, datatype, spec.name)


def _without_b64(data: Any, name: str) -> Any:
    """Replace each {"b64": text} by the bytes that it stands for."""
    if isinstance(data, list):
        return [_without_b64(item, name) for item in data]
    if not isinstance(data, dict):
        return data
    try:
        ((key, text),) = data.items()
        if key == "b64":
            return base64.b64decode(text, validate=True)
    except (TypeError, ValueError, binascii.Error) as err:
        raise InvalidRequest(f"input '{name}': not base64 in {str(data)[:50]}") from err
    raise InvalidRequest(f"input '{name}': an object must be {{\"b64\": <base64>}}")


def encode_predict(response: InferResponse, signature: Signature, row_form: bool) -> bytes:
    """Return the body of a response in the form of its request."""
    outputs = {name: _json_value(array, name) for name, array in response.outputs.items()}
    arrays = [array for array in response.outputs.values() if not array.dtype.hasobject]
    if not row_form:
        value = next(iter(outputs.values())) if len(outputs) == 1 else outputs
        return dump({"outputs": value}, arrays)
    _check_rows(response.outputs)
    if len(outputs) == 1:
        return dump({"predictions": next(iter(outputs.values()))}, arrays)
    rows = [dict(zip(outputs, row, strict=True)) for row in zip(*outputs.values(), strict=True)]
    return dump({"predictions": rows}, arrays)


def _check_rows(outputs: Tensors) -> None:
    if len({array.shape[:1] for array in outputs.values()}) > 1 or any(
        array.ndim == 0 for array in outputs.values()
    ):
        raise InvalidRequest("the outputs have no common batch dimension; use the columnar form")


def _json_value(array: Array, name: str) -> Any:
    if array.dtype.hasobject and name.endswith("_bytes"):
        encode = np.frompyfunc(lambda item: {"b64": base64.b64encode(item).decode()}, 1, 1)
        return encode(array).tolist()
    if datatypes.from_numpy(array.dtype).name in {"FP16", "BF16"}:
        array = array.astype(np.float32)
    return to_json(array, name)


def status(name: str, states: Mapping[int, str], failures: Mapping[int, str]) -> dict[str, Any]:
    """Return the response to GET /v1/models/<name>, newest version first.

    A superset: TensorFlow Serving's field, and the two that KServe's client reads.
    """
    versions = [_version_status(number, state, "") for number, state in states.items()]
    versions += [_version_status(number, "END", why) for number, why in failures.items()]
    versions.sort(key=lambda version: -int(version["version"]))
    ready = "AVAILABLE" in states.values()
    return {"name": name, "ready": ready, "model_version_status": versions}


def _version_status(number: int, state: str, why: str) -> dict[str, Any]:
    code = "FAILED_PRECONDITION" if why else "OK"
    status = {"error_code": code, "error_message": why}
    return {"version": str(number), "state": state, "status": status}


def metadata(name: str, version: str, signatures: Mapping[str, Signature]) -> dict[str, Any]:
    """Return the response to GET /v1/models/<name>/metadata (GetModelMetadataResponse as JSON)."""
    definitions = {
        signature.name: {
            "inputs": {spec.name: _tensor_info(spec) for spec in signature.inputs},
            "outputs": {spec.name: _tensor_info(spec) for spec in signature.outputs},
            "method_name": "tensorflow/serving/predict",
        }
        for signature in signatures.values()
    }
    return {
        "model_spec": {"name": name, "signature_name": "", "version": version},
        "metadata": {"signature_def": {"signature_def": definitions}},
    }


def _tensor_info(spec: TensorSpec) -> dict[str, Any]:
    dims = [{"size": str(size), "name": ""} for size in spec.shape or ()]
    return {
        "dtype": datatypes.DATATYPES[spec.datatype].tensorflow,
        "tensor_shape": {"dim": dims, "unknown_rank": spec.shape is None},
        "name": spec.name,
    }
