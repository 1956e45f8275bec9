"""TensorFlow Serving's REST API (V1): predict in row and columnar form, status, metadata.

Called by the endpoint of a model. Source: TensorFlow Serving, "RESTful API", and its
http_rest_api_handler.cc and json_tensor.cc for what that page leaves out.
"""

import base64
import binascii
from collections.abc import Mapping
from functools import partial
from typing import Any

import numpy as np

from serve import datatypes
from serve.errors import InvalidRequest
from serve.protocols.float_arrays import cut_array, read_floats
from serve.protocols.json_documents import dump, parse_object, rows_of_numbers
from serve.protocols.tensors import (
    as_bytes,
    as_numbers,
    as_strings,
    bytes_of,
    each,
    in_decimals,
    to_json,
)
from serve.types import (
    NO_TENANT,
    Array,
    InferRequest,
    InferResponse,
    Signature,
    Tensors,
    TensorSpec,
)

_FLOATS = frozenset({"FP16", "BF16", "FP32", "FP64"})


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
    document = _parse(body, signatures)
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


def _parse(body: bytes, signatures: Mapping[str, Signature]) -> dict[str, Any]:
    """Return the document of a body; a single input of a model of floats may be an array."""
    if all(spec.datatype in _FLOATS for each in signatures.values() for spec in each.inputs):
        for key in ("instances", "inputs"):
            document = _parse_floats(body, key)
            if document is not None:
                return document
    return parse_object(body)


def _parse_floats(body: bytes, key: str) -> dict[str, Any] | None:
    """Return the document of a body with an array under a key, None if it is not one of floats."""
    cut = cut_array(body, key)
    if cut is None:
        return None
    text, array = cut
    try:
        document = parse_object(text)
    except InvalidRequest:  # which may quote an offset: that of the whole body is right
        return None
    floats = read_floats(array) if document.get(key) == [] else None
    return None if floats is None else document | {key: floats}


def _columns_of_rows(instances: Any, signature: Signature) -> dict[str, Any]:
    if isinstance(instances, np.ndarray):
        return {_only_input(signature).name: instances}
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
        array = as_strings(data, spec.name, partial(_text_or_b64, name=spec.name))
    else:  # half floats too: V1 has no binary form, so decimals must do
        array = as_numbers(data, datatype, spec.name)
    return array if array.size else _with_hidden_sizes(array, spec)


def _with_hidden_sizes(empty: Array, spec: TensorSpec) -> Array:
    """Give an empty tensor the dimensions behind its first size of 0, which no nesting shows."""
    hidden = (spec.shape or ())[empty.ndim :]
    return empty.reshape(*empty.shape, *(max(0, size) for size in hidden))


def _text_or_b64(item: Any, name: str) -> bytes | None:
    """Return the bytes of a string or of {"b64": text}, None for what is neither."""
    if not isinstance(item, dict):
        return as_bytes(item)
    if item.keys() != {"b64"}:
        raise InvalidRequest(f"input '{name}': an object must be {{\"b64\": <base64>}}")
    try:
        return base64.b64decode(item["b64"], validate=True)
    except (TypeError, ValueError, binascii.Error) as err:
        raise InvalidRequest(f"input '{name}': not base64 in {str(item)[:50]}") from err


def encode_predict(response: InferResponse, signature: Signature, row_form: bool) -> bytes:
    """Return the body of a response in the form of its request.

    Raises InvalidRequest for outputs of `signature` that have no rows, where rows are asked for.
    """
    outputs = response.outputs
    if row_form:
        _check_rows(outputs, signature)
    if len(outputs) == 1:
        ((name, array),) = outputs.items()
        return dump({"predictions" if row_form else "outputs": _json_value(array, name)})
    if not row_form:
        return dump({"outputs": {name: _json_value(a, name) for name, a in outputs.items()}})
    columns = [_json_rows(array, name) for name, array in outputs.items()]
    return dump(
        {
            "predictions": [
                dict(zip(outputs, row, strict=True)) for row in zip(*columns, strict=True)
            ]
        }
    )


def _check_rows(outputs: Tensors, signature: Signature) -> None:
    single = [name for name, array in outputs.items() if array.ndim == 0]
    if single:
        raise InvalidRequest(
            f"output '{single[0]}' of signature '{signature.name}' is a single value, which has no "
            "rows; use the columnar form: send 'inputs' instead of 'instances'"
        )
    if len({len(array) for array in outputs.values()}) > 1:
        raise InvalidRequest(
            f"the outputs of signature '{signature.name}' have no common batch dimension; use the "
            "columnar form: send 'inputs' instead of 'instances'"
        )


def _json_value(array: Array, name: str) -> Any:
    if _is_binary(array, name):
        return each(array, lambda item: {"b64": base64.b64encode(bytes_of(item)).decode()})
    return to_json(in_decimals(array), name)


def _json_rows(array: Array, name: str) -> list[Any]:
    if datatypes.from_numpy(array.dtype).itemsize is not None:
        return rows_of_numbers(in_decimals(array))
    rows: list[Any] = _json_value(array, name)
    return rows


def _is_binary(array: Array, name: str) -> bool:
    """Tell whether an output goes out as base64: strings under a name that says so."""
    is_string = datatypes.from_numpy(array.dtype).itemsize is None
    return is_string and name.endswith("_bytes")


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
