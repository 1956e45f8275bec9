"""Open Inference Protocol V2 over HTTP, with the binary tensor extension.

Called by endpoint (requests in, responses out) and by the CLI (the other way round).
Sources: Open Inference Protocol, "Inference Request/Response JSON Object" and
"Binary Tensor Data Extension". One parameter is ours: the request parameter `signature_name`
chooses one of a SavedModel's signatures.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

from serve import datatypes
from serve.datatypes import Datatype
from serve.errors import InvalidRequest, ServeError, Unsupported
from serve.protocols.float_arrays import cut_array, read_floats
from serve.protocols.json_documents import dump, parse_object
from serve.protocols.tensors import (
    check_shape,
    element_count,
    from_bytes,
    from_json,
    to_bytes,
    to_json,
)
from serve.types import NO_TENANT, InferRequest, InferResponse, Signature, Tensors

# Longer descriptions than that are not kept to be read once only.
_SAME_AGAIN_BYTES = 2048
_FLOATS = frozenset({"FP32", "FP64"})


@dataclass(frozen=True, slots=True)
class _Tensor:
    """A tensor as JSON describes it: `data` is its values, None where `size` bytes follow."""

    name: str
    datatype: Datatype
    shape: tuple[int, ...]
    size: int | None
    data: Any


@dataclass(frozen=True, slots=True)
class _Described:
    """The JSON of a request or a response, checked as far as it goes without the raw data."""

    document: Mapping[str, Any]
    tensors: tuple[_Tensor, ...]
    parameters: Mapping[str, Any]
    signature: str | None
    outputs: tuple[str, ...] | None
    id: str | None
    timeout_s: float | None
    form: "OutputFormat"


@dataclass(frozen=True, slots=True)
class OutputFormat:
    """Which outputs go back as raw bytes: all or none by default, and exceptions by name."""

    binary: bool = False
    by_name: Mapping[str, bool] = field(default_factory=dict)

    def is_binary(self, name: str) -> bool:
        return self.by_name.get(name, self.binary)


def decode_request(
    body: bytes,
    json_length: int | None,
    raw_signature: Signature | None = None,
    *,
    tenant: str = NO_TENANT,
) -> tuple[InferRequest, OutputFormat]:
    """Return the request in a body and how its outputs are wanted. Raises InvalidRequest.

    `json_length` is the header Inference-Header-Content-Length: None for a body that is all
    JSON, 0 for one that is all data of the one input of `raw_signature`.
    """
    if json_length == 0:
        inputs = _decode_raw(body, raw_signature)
        return InferRequest(inputs, tenant=tenant), OutputFormat(binary=True)
    described, inputs = _decode_body(body, json_length, "inputs")
    request = InferRequest(
        inputs=inputs,
        signature=described.signature,
        outputs=described.outputs,
        id=described.id,
        timeout_s=described.timeout_s,
        tenant=tenant,
        parameters=described.parameters,
    )
    return request, described.form


def encode_response(response: InferResponse, form: OutputFormat) -> tuple[bytes, int | None]:
    """Return the body, and the length of its JSON part if raw data follows it."""
    if response.id is None and all(map(form.is_binary, response.outputs)):
        raw = [to_bytes(array) for array in response.outputs.values()]
        described = tuple(
            (name, array.dtype, array.shape, len(data))
            for (name, array), data in zip(response.outputs.items(), raw, strict=True)
        )
        header = _raw_header(response.model, response.version, described)
        return b"".join([header, *raw]), len(header)
    document = _response_document(response.model, response.version)
    if response.id is not None:
        document["id"] = response.id
    return _encode(document, "outputs", response.outputs, form)


def _response_document(model: str, version: int) -> dict[str, Any]:
    return {"model_name": model, "model_version": str(version)}


@lru_cache(maxsize=512)  # the responses of a version differ in their raw data alone
def _raw_header(
    model: str, version: int, described: tuple[tuple[str, Any, tuple[int, ...], int], ...]
) -> bytes:
    """Return the JSON of a response whose outputs, as described, all follow as raw data."""
    document = _response_document(model, version)
    document["outputs"] = [
        _entry(name, dtype, shape) | _raw_data(size) for name, dtype, shape, size in described
    ]
    return dump(document)


def encode_request(request: InferRequest, *, binary: bool) -> tuple[bytes, int | None]:
    """Return the body of a request as a client sends it, and the length of its JSON part."""
    document: dict[str, Any] = {"parameters": {"binary_data_output": binary}}
    if request.id is not None:
        document["id"] = request.id
    if request.signature is not None:
        document["parameters"]["signature_name"] = request.signature
    if request.outputs is not None:
        document["outputs"] = [{"name": name} for name in request.outputs]
    return _encode(document, "inputs", request.inputs, OutputFormat(binary=binary))


def decode_response(body: bytes, json_length: int | None) -> InferResponse:
    """Return the response in a body as a client receives it. Raises InvalidRequest."""
    described, outputs = _decode_body(body, json_length, "outputs")
    version = str(described.document.get("model_version", ""))
    return InferResponse(
        model=str(described.document.get("model_name", "")),
        version=int(version) if version.isdigit() else 0,
        outputs=outputs,
        id=described.id,
    )


def _decode_body(body: bytes, json_length: int | None, key: str) -> tuple[_Described, Tensors]:
    """Return what a body says of its tensors, and them. Raises InvalidRequest."""
    if json_length is None:
        return _decode_floats(body, key) or _decode_parts(_described(body, key), memoryview(b""))
    if json_length > len(body):
        raise InvalidRequest(
            f"Inference-Header-Content-Length is {json_length}, the body has {len(body)} bytes"
        )
    described = _described_before(body[:json_length], key)
    return _decode_parts(described, memoryview(body)[json_length:])


def _decode_parts(described: _Described, data: memoryview) -> tuple[_Described, Tensors]:
    return described, _decode_tensors(described.tensors, data)


def _decode_floats(body: bytes, key: str) -> tuple[_Described, Tensors] | None:
    """Return the same of a body of one tensor whose floats can be read in one go, else None."""
    cut = cut_array(body, "data")
    if cut is None:
        return None
    text, array = cut
    try:
        described = _described_before(text, key)
    except ServeError:  # which may quote an offset, or the array: those of the whole body are right
        return None
    tensor = described.tensors[0] if len(described.tensors) == 1 else None
    if tensor is None or tensor.data != [] or tensor.datatype.name not in _FLOATS:
        return None
    floats = read_floats(array)
    if floats is None:
        return None
    return described, {tensor.name: from_json(floats, tensor.datatype, tensor.shape, tensor.name)}


def _described(text: bytes, key: str) -> _Described:
    return _describe(parse_object(text), key)


def _described_before(text: bytes, key: str) -> _Described:
    """Return what a text without the numbers describes, as it was found out before if it was."""
    return (_kept_described if len(text) <= _SAME_AGAIN_BYTES else _described)(text, key)


# A client describes the numbers of all its requests with the same bytes, unless each has an id.
_kept_described = lru_cache(maxsize=512)(_described)


def _describe(document: dict[str, Any], key: str) -> _Described:
    """Return what a document says of the tensors under a key and of how to compute them."""
    tensors = [_tensor(each) for each in _list_of_objects(document, key, required=True)]
    _check_names(tensors)
    parameters = _object(document, "parameters")
    outputs = _list_of_objects(document, "outputs") if key == "inputs" else []
    return _Described(
        document=document,
        tensors=tuple(tensors),
        parameters=parameters,
        signature=_signature_name(parameters),
        outputs=tuple(_name(output) for output in outputs) or None,
        id=_identifier(document),
        timeout_s=_timeout_s(parameters),
        form=_output_format(parameters, outputs),
    )


def _check_names(tensors: Sequence[_Tensor]) -> None:
    names = set()
    for tensor in tensors:
        if tensor.name in names:
            raise InvalidRequest(f"tensor '{tensor.name}' is given twice")
        names.add(tensor.name)


def _tensor(described: dict[str, Any]) -> _Tensor:
    name = _name(described)
    size = _binary_size(described, name)
    datatype = datatypes.DATATYPES.get(str(described.get("datatype")))
    if datatype is None:
        known = ", ".join(datatypes.DATATYPES)
        raise InvalidRequest(
            f"tensor '{name}' has datatype {str(described.get('datatype'))[:50]!r}; known: {known}"
        )
    shape = check_shape(described.get("shape"), name)
    if element_count([size or 1 for size in shape]) > 2**40:  # numpy minds it beside a 0, too
        raise InvalidRequest(f"tensor '{name}' has too many elements: shape {list(shape)}")
    return _Tensor(name, datatype, shape, size, described.get("data"))


def _binary_size(described: dict[str, Any], name: str) -> int | None:
    """Return the bytes of raw data of a tensor, None if it brings JSON data."""
    size = _object(described, "parameters").get("binary_data_size")
    if (size is None) == ("data" not in described):
        raise InvalidRequest(f"tensor '{name}' needs either data or binary_data_size")
    if size is not None and (type(size) is not int or size < 0):
        raise InvalidRequest(f"tensor '{name}': binary_data_size must be a number of bytes")
    return size


def _decode_tensors(tensors: Sequence[_Tensor], data: memoryview) -> Tensors:
    decoded: Tensors = {}
    position = 0
    for tensor in tensors:
        if tensor.size is None:
            decoded[tensor.name] = from_json(
                tensor.data, tensor.datatype, tensor.shape, tensor.name
            )
            continue
        end = position + tensor.size
        if end > len(data):
            raise InvalidRequest(
                f"tensor '{tensor.name}' claims {tensor.size} bytes, {len(data) - position} are "
                "left in the body"
            )
        decoded[tensor.name] = from_bytes(
            data[position:end], tensor.datatype, tensor.shape, tensor.name
        )
        position = end
    if position != len(data):
        raise InvalidRequest(f"{len(data) - position} bytes of the body belong to no tensor")
    return decoded


def _decode_raw(body: bytes, signature: Signature | None) -> Tensors:
    """Decode a body that is nothing but one input's data: batch of one ("Raw Binary Request")."""
    if signature is None or len(signature.inputs) != 1:
        raise InvalidRequest("a raw binary request needs a model with exactly one input")
    spec = signature.inputs[0]
    datatype = datatypes.DATATYPES[spec.datatype]
    if spec.shape is None:
        raise InvalidRequest(f"a raw binary request needs a known shape; '{spec.name}' has none")
    if datatype.itemsize is None:
        array = from_bytes(_prefixed(body), datatype, (1,) * len(spec.shape), spec.name)
        return {spec.name: array}
    inner = [1 if signature.batched else spec.shape[0], *spec.shape[1:]] if spec.shape else []
    unknown = [index for index, size in enumerate(inner) if size < 0]
    if len(unknown) > 1:
        raise InvalidRequest(
            f"a raw binary request needs at most one unknown dimension in '{spec.name}'"
        )
    if unknown:
        known = -element_count(inner) * datatype.itemsize
        inner[unknown[0]] = len(body) // known if known else 0
    return {spec.name: from_bytes(memoryview(body), datatype, tuple(inner), spec.name)}


def _prefixed(body: bytes) -> memoryview:
    return memoryview(len(body).to_bytes(4, "little") + body)


def _encode(
    document: dict[str, Any], key: str, tensors: Tensors, form: OutputFormat
) -> tuple[bytes, int | None]:
    described, raw = [], []
    for name, array in tensors.items():
        entry = _entry(name, array.dtype, array.shape)
        if form.is_binary(name):
            data = to_bytes(array)
            entry |= _raw_data(len(data))
            raw.append(data)
        else:
            entry["data"] = to_json(array.reshape(-1), name)
        described.append(entry)
    document[key] = described
    header = dump(document)
    return (b"".join([header, *raw]), len(header)) if raw else (header, None)


def _entry(name: str, dtype: Any, shape: Sequence[int]) -> dict[str, Any]:
    """Return the JSON of a tensor without its data."""
    return {"name": name, "datatype": datatypes.from_numpy(dtype).name, "shape": list(shape)}


def _raw_data(size: int) -> dict[str, Any]:
    return {"parameters": {"binary_data_size": size}}


def _list_of_objects(
    document: dict[str, Any], key: str, *, required: bool = False
) -> list[dict[str, Any]]:
    value = document.get(key)
    if value is None and not required:
        return []
    if not isinstance(value, list) or not all(isinstance(item, dict) for item in value):
        raise InvalidRequest(f"'{key}' must be a list of tensors (JSON objects)")
    return value


def _object(document: dict[str, Any], key: str) -> dict[str, Any]:
    value = document.get(key)
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise InvalidRequest(f"'{key}' must be a JSON object")
    return value


def _name(tensor: dict[str, Any]) -> str:
    name = tensor.get("name")
    if not isinstance(name, str):
        raise InvalidRequest("every tensor needs a 'name' that is a string")
    return name


def _identifier(document: dict[str, Any]) -> str | None:
    identifier = document.get("id")
    if identifier is not None and not isinstance(identifier, str):
        raise InvalidRequest("'id' must be a string")
    return identifier


def _signature_name(parameters: dict[str, Any]) -> str | None:
    name = parameters.get("signature_name")
    if name is not None and not isinstance(name, str):
        raise InvalidRequest("the parameter 'signature_name' must be a string")
    return name


def _timeout_s(parameters: dict[str, Any]) -> float | None:
    timeout = parameters.get("timeout")
    if timeout is None:
        return None
    if type(timeout) is not int or not 0 <= timeout < 2**63:
        raise InvalidRequest("the parameter 'timeout' must be a number of microseconds")
    return timeout / 1e6 or None


def _output_format(parameters: dict[str, Any], outputs: list[dict[str, Any]]) -> OutputFormat:
    by_name = {}
    for output in outputs:
        own = _object(output, "parameters")
        if own.get("classification"):
            raise Unsupported("the classification extension is not supported; ask for the tensor")
        if "binary_data" in own:
            by_name[_name(output)] = _flag(own["binary_data"], "binary_data")
    default = _flag(parameters.get("binary_data_output", False), "binary_data_output")
    return OutputFormat(default, by_name)


def _flag(value: Any, key: str) -> bool:
    if not isinstance(value, bool):
        raise InvalidRequest(f"the parameter '{key}' must be true or false")
    return value
