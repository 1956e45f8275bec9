"""JSON Schema of what the protocols' bodies hold for a signature: requests and responses.

Called by openapi, which puts them into a document. A schema cannot say all that is checked: that
data has as many elements as its shape says, that `1.0` is no integer, and that NaN and the
infinities are tokens (docs/protocols.md). Source: JSON Schema 2020-12, as OpenAPI 3.1 takes it.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import ml_dtypes
import numpy as np

from serve.datatypes import DATATYPES, is_float
from serve.protocols.tensors import NOT_IN_JSON, element_count
from serve.types import MAX_VERSION, Signature, TensorSpec

Schema = dict[str, Any]
OfElement = Callable[[TensorSpec], Schema]

_SIZE: Schema = {"type": "integer", "minimum": 0}
_TEXT: Schema = {"type": "string"}
_B64: Schema = {
    "type": "object",
    "properties": {"b64": {"type": "string", "contentEncoding": "base64"}},
    "required": ["b64"],
    "additionalProperties": False,
}


def v2_request(signatures: Mapping[str, Signature], default: str) -> Schema | None:
    """Return the schema of an infer request that is all JSON, None where no signature takes JSON.

    FP16 and BF16 do not go as JSON.
    """
    return _any_of(
        _v2_request_of(signature, is_default=name == default)
        for name, signature in signatures.items()
        if not any(map(_is_never_json, signature.inputs))
    )


def _v2_request_of(signature: Signature, *, is_default: bool) -> Schema:
    parameters = _object(
        {
            "signature_name": {"const": signature.name},
            "timeout": {"type": "integer", "minimum": 0, "maximum": MAX_VERSION},
            "binary_data_output": {"type": "boolean"},
        },
        required=() if is_default else ("signature_name",),
    )
    parameters["properties"]["timeout"]["description"] = "microseconds; 0 is none of its own"
    output = _object(
        {
            "name": {"enum": [spec.name for spec in signature.outputs]},
            "parameters": _object({"binary_data": {"type": "boolean"}}),
        },
        required=("name",),
    )
    request = _object(
        {
            "id": _TEXT,
            "parameters": parameters,
            "inputs": _all_of_them([_v2_tensor(spec, _v2_data(spec)) for spec in signature.inputs]),
            "outputs": {"type": "array", "items": output},
        },
        required=("inputs",) if is_default else ("inputs", "parameters"),
    )
    return {"title": signature.name, **request}


def v2_response(name: str, signatures: Iterable[Signature]) -> Schema | None:
    """Return the schema of an infer response that is all JSON, None where none can be."""
    return _any_of(
        {"title": signature.name, **_v2_response_of(name, outputs)}
        for signature in signatures
        if (outputs := [spec for spec in signature.outputs if not _is_never_json(spec)])
    )


def _v2_response_of(name: str, outputs: Sequence[TensorSpec]) -> Schema:
    tensors = [_v2_tensor(spec, _flat(spec, _written)) for spec in outputs]
    return _object(
        {
            "model_name": {"const": name},
            "model_version": {"type": "string", "pattern": "^[0-9]+$"},
            "id": _TEXT,
            "outputs": {"type": "array", "items": _any_of(tensors), "minItems": 1},
        },
        required=("model_name", "model_version", "outputs"),
    )


def v1_request(signatures: Mapping[str, Signature], default: str) -> Schema | None:
    """Return the schema of a :predict request, in row form (instances) or in columns (inputs)."""
    return _any_of(
        form
        for name, signature in signatures.items()
        for form in _v1_request_forms(signature, is_default=name == default)
    )


def _v1_request_forms(signature: Signature, *, is_default: bool) -> list[Schema]:
    names: Schema = {"enum": [signature.name, ""]} if is_default else {"const": signature.name}
    required = () if is_default else ("signature_name",)
    inputs = signature.inputs
    columns = _any_of(_bare_and_named(inputs, lambda spec: _nested(spec, _v1_element))) or {}
    forms = {"inputs": (columns, "instances")}
    if all(spec.shape != () for spec in inputs):
        count = _row_count(inputs)
        rows = [
            {"minItems": 1, **_list_of(row, count)}
            for row in _bare_and_named(inputs, lambda spec: _row(spec, _v1_element))
        ]
        forms["instances"] = (_any_of(rows) or {}, "inputs")
    return [
        {
            "title": f"{signature.name}, {key}",
            **_object({"signature_name": names, key: values}, required=(key, *required)),
            "not": {"required": [other]},
        }
        for key, (values, other) in forms.items()
    ]


def v1_response(signatures: Iterable[Signature]) -> Schema | None:
    """Return the schema of a :predict response, in the form of its request."""
    return _any_of(
        form for signature in signatures for form in _v1_response_forms(signature.outputs)
    )


def _v1_response_forms(outputs: Sequence[TensorSpec]) -> list[Schema]:
    columns = _bare_or_named(outputs, lambda spec: _nested(spec, _v1_written))
    forms = [_object({"outputs": columns}, required=("outputs",))]
    if all(spec.shape != () for spec in outputs):
        rows = _list_of(_bare_or_named(outputs, lambda spec: _row(spec, _v1_written)), -1)
        forms.append(_object({"predictions": rows}, required=("predictions",)))
    return forms


def _bare_and_named(specs: Sequence[TensorSpec], value: OfElement) -> list[Schema]:
    """Return the schema of tensors by name, and that of a single one without."""
    named = _named(specs, value)
    return [value(specs[0]), named] if len(specs) == 1 else [named]


def _bare_or_named(specs: Sequence[TensorSpec], value: OfElement) -> Schema:
    return value(specs[0]) if len(specs) == 1 else _named(specs, value)


def _named(specs: Sequence[TensorSpec], value: OfElement) -> Schema:
    by_name = {spec.name: value(spec) for spec in specs}
    return {**_object(by_name, required=by_name), "additionalProperties": False}


def _row_count(specs: Sequence[TensorSpec]) -> int:
    """Return how many rows the inputs have, -1 where that is free."""
    known = [spec.shape[0] for spec in specs if spec.shape and spec.shape[0] >= 0]
    return known[0] if known else -1


def _row(spec: TensorSpec, element: OfElement) -> Schema:
    inner = None if spec.shape is None else spec.shape[1:]
    return _nested(TensorSpec(spec.name, spec.datatype, inner), element)


def _v2_tensor(spec: TensorSpec, data: Schema) -> Schema:
    shape: Schema = {"type": "array", "items": _SIZE, "maxItems": 32}
    if spec.shape is not None:
        sizes = [_SIZE if size < 0 else {"const": size} for size in spec.shape]
        shape = {"type": "array", "minItems": len(sizes), "maxItems": len(sizes)}
        shape |= {"prefixItems": sizes} if sizes else {}
    return _object(
        {
            "name": {"const": spec.name},
            "datatype": {"const": spec.datatype},
            "shape": shape,
            "parameters": {"type": "object"},
            "data": data,
        },
        required=("name", "datatype", "shape", "data"),
    )


def _v2_data(spec: TensorSpec) -> Schema:
    """Return the schema of data that is flat or nested like its shape."""
    flat = _flat(spec, _element)
    is_nested = spec.shape is None or len(spec.shape) != 1
    return {"anyOf": [flat, _nested(spec, _element)]} if is_nested else flat


def _flat(spec: TensorSpec, element: OfElement) -> Schema:
    is_known = spec.shape is not None and min(spec.shape, default=0) >= 0
    return _list_of(element(spec), element_count(spec.shape or ()) if is_known else -1)


def _nested(spec: TensorSpec, element: OfElement) -> Schema:
    """Return the schema of lists that are nested as a shape says."""
    nested = element(spec)
    if spec.shape is None:
        return {"anyOf": [nested, {"type": "array"}]}
    for size in reversed(spec.shape):
        nested = _list_of(nested, size)
    return nested


def _list_of(items: Schema, size: int) -> Schema:
    bounds = {} if size < 0 else {"minItems": size, "maxItems": size}
    return {"type": "array", "items": items, **bounds}


def _element(spec: TensorSpec) -> Schema:
    """Return the schema of one element of a tensor that is read."""
    datatype = DATATYPES[spec.datatype]
    if datatype.itemsize is None:
        return _TEXT
    if datatype.numpy.kind == "b":
        return {"type": "boolean"}
    if is_float(datatype.numpy):
        most = float(ml_dtypes.finfo(datatype.numpy).max)
        return {"type": "number", "minimum": -most, "maximum": most}
    info = np.iinfo(np.dtype(datatype.numpy).name)
    return {"type": "integer", "minimum": int(info.min), "maximum": int(info.max)}


def _written(spec: TensorSpec) -> Schema:
    """Return that of one that is written: the digits of a float may be rounded up."""
    is_number = is_float(DATATYPES[spec.datatype].numpy)
    return {"type": "number"} if is_number else _element(spec)


def _v1_element(spec: TensorSpec) -> Schema:
    return {"anyOf": [_TEXT, _B64]} if spec.datatype == "BYTES" else _element(spec)


def _v1_written(spec: TensorSpec) -> Schema:
    is_base64 = spec.datatype == "BYTES" and spec.name.endswith("_bytes")
    return _B64 if is_base64 else _written(spec)


def _all_of_them(tensors: list[Schema]) -> Schema:
    """Return the schema of a list that has each of some tensors once, in any order."""
    named = [
        {"contains": {"properties": {"name": tensor["properties"]["name"]}, "required": ["name"]}}
        for tensor in tensors
    ]
    every = {"allOf": named} if len(named) > 1 else {}
    return {**_list_of(_any_of(tensors) or {}, len(tensors)), **every}


def _is_never_json(spec: TensorSpec) -> bool:
    return spec.datatype in NOT_IN_JSON


def _object(properties: Mapping[str, Schema], required: Iterable[str] = ()) -> Schema:
    needed = list(required)
    needs = {"required": needed} if needed else {}
    return {"type": "object", "properties": dict(properties), **needs}


def _any_of(schemas: Iterable[Schema]) -> Schema | None:
    """Return the schema of what fits one of several, None for none."""
    alternatives = list(schemas)
    if len(alternatives) > 1:
        return {"anyOf": alternatives}
    return alternatives[0] if alternatives else None
