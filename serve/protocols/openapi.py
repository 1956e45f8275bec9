"""OpenAPI 3.1 documents: one of all that the platform serves, and one for each model's own paths.

Called by the gateway (GET /openapi.json) and by a model's endpoint (GET /v2/models/<name>[...]/
openapi.json). The platform's has any model in its paths, so that it is as short for a hundred
models as for one; a model's has that model's tensors. Source: OpenAPI Specification 3.1.0.
"""

import re
from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any

from serve.protocols import tensor_schemas
from serve.protocols.tensor_schemas import Schema
from serve.types import MAX_VERSION, Signature

Document = dict[str, Any]

_JSON = "application/json"
_OCTETS = "application/octet-stream"
# What may follow a model's name in the platform's paths.
_CHOICES = ("", "/versions/{version}", "/labels/{label}")

_ERRORS: Mapping[int, str] = {
    400: "What was sent cannot be understood, or does not fit the model; it says what was expected",
    401: "No API key, or one that nobody has, where the platform asks for keys",
    403: "The API key does not allow this",
    404: "No such model, version or label is served, or nothing is at this path",
    405: "The path takes other methods, which `Allow` names; V1 says so with a 400",
    408: "The request took too long to come",
    413: "The body is larger than the model accepts, before or after decompression",
    429: "Too many requests wait already; try again later",
    431: "The headers are too large",
    500: "The model or the platform failed at this request",
    501: "The protocol has what was asked for, and Strata does not",
    502: "A replica broke off before it answered; try again",
    503: "No replica can answer: it starts, sleeps or has failed; try again later",
    504: "There was no answer in the time that the request may take",
}
_OF_ALL = (400, 401, 403, 405, 408, 431, 500, 502, 503, 504)
_OF_MODELS = (*_OF_ALL, 404, 429)
_OF_BODIES = (413, 501)
_WITH_RETRY_AFTER = frozenset({429, 500, 502, 503})

_NOTES = (
    "Errors are `{'error': '...'}`. Bodies may be compressed (`Content-Encoding`: gzip or "
    "deflate), and responses are where `Accept-Encoding` allows it. HEAD is answered where GET is, "
    "and OPTIONS everywhere. Numbers in JSON may be the tokens NaN, Infinity and -Infinity, which "
    "JSON itself lacks; 1.0 is no integer. Data that does not fit its shape is a 400."
)


def model_document(
    name: str, below: str, version: str, signatures: Mapping[str, Signature], default: str
) -> Document:
    """Return the document of one model's paths, with the tensors of a version's signatures.

    `below` is what follows the model's name in them: nothing, /versions/<n> or /labels/<label>.
    `default` is the signature of requests that name none.
    """
    tensors = {
        "InferRequest": tensor_schemas.v2_request(signatures, default),
        "InferResponse": tensor_schemas.v2_response(name, signatures.values()),
        "PredictRequest": tensor_schemas.v1_request(signatures, default),
        "PredictResponse": tensor_schemas.v1_response(signatures.values()),
    }
    schemas = {key: schema for key, schema in tensors.items() if schema is not None}
    return _document(f"Strata: {name}", version, _model_paths(name, below, schemas), schemas)


def platform_document(models: Sequence[str], version: str) -> Document:
    """Return the document of all paths, with `{model}` in those of models; `version` is Strata's.

    Each model's own document, which has its tensors, is named under `x-models`.
    """
    paths = dict(_PLATFORM_PATHS)
    for below in _CHOICES:
        paths |= _model_paths("{model}", below, _ANY_TENSORS)
    document = _document("Strata", version, paths, _ANY_TENSORS)
    if models:
        document["components"]["parameters"]["model"]["schema"] = {"enum": list(models)}
    own = [{"name": name, "openapi": f"/v2/models/{name}/openapi.json"} for name in models]
    return {**document, "x-models": own}


def _document(
    title: str, version: str, paths: Mapping[str, Any], schemas: Mapping[str, Schema]
) -> Document:
    parameters = {name: {**parameter} for name, parameter in _PARAMETERS.items()}
    return {
        "openapi": "3.1.0",
        "info": {"title": title, "version": version, "description": _NOTES},
        "security": [{}, {"bearer": []}, {"apiKey": []}],
        "paths": {path: _item(path, operations) for path, operations in paths.items()},
        "components": {
            "schemas": {**_SCHEMAS, **schemas},
            "responses": {_key(status): _error(status) for status in _ERRORS},
            "parameters": parameters,
            "headers": _HEADERS,
            "securitySchemes": {
                "bearer": {"type": "http", "scheme": "bearer"},
                "apiKey": {"type": "apiKey", "in": "header", "name": "X-API-Key"},
            },
        },
    }


def _model_paths(name: str, below: str, schemas: Mapping[str, Schema]) -> dict[str, Any]:
    v1, v2 = (f"/{protocol}/models/{name}{below}" for protocol in ("v1", "v2"))
    return {
        v2: _get("Metadata: the tensors of a model", "ModelMetadata"),
        f"{v2}/ready": _get("Whether the model answers", "ModelReady"),
        f"{v2}/infer": _post(
            "Infer (Open Inference Protocol V2)",
            _content("InferRequest", schemas, is_binary_too=True),
            _content("InferResponse", schemas, is_binary_too=True),
            ("Inference-Header-Content-Length", "Grpc-Timeout"),
        ),
        f"{v2}/openapi.json": _get("This document, with the tensors of the model", "OpenApi"),
        v1: _get("The state of the model's versions", "ModelStatus"),
        f"{v1}/metadata": _get("Metadata: the signatures of a model", "SignatureMetadata"),
        f"{v1}:predict": _post(
            "Predict (TensorFlow Serving)",
            _content("PredictRequest", schemas),
            _content("PredictResponse", schemas),
            ("Grpc-Timeout",),
        ),
    }


def _get(summary: str, schema: str, statuses: Sequence[int] = _OF_MODELS) -> dict[str, Any]:
    answer = {_JSON: {"schema": _schema(schema)}}
    return {"get": {"summary": summary, "responses": _responses(answer, statuses)}}


def _post(
    summary: str, request: Schema, response: Schema, headers: Sequence[str]
) -> dict[str, Any]:
    responses = _responses(response, (*_OF_MODELS, *_OF_BODIES))
    told = ["Server-Timing"] + (["Inference-Header-Content-Length"] if _OCTETS in response else [])
    responses["200"]["headers"] |= {name: {"$ref": f"#/components/headers/{name}"} for name in told}
    return {
        "post": {
            "summary": summary,
            "parameters": [{"$ref": f"#/components/parameters/{name}"} for name in headers],
            "requestBody": {"required": True, "content": request},
            "responses": responses,
        }
    }


def _content(
    schema: str, schemas: Mapping[str, Schema], *, is_binary_too: bool = False
) -> dict[str, Any]:
    """Return the media types of a body: JSON, where its schema is there, and JSON before data."""
    content: dict[str, Any] = {_JSON: {"schema": _schema(schema)}} if schema in schemas else {}
    return content | ({_OCTETS: {}} if is_binary_too else {})


def _responses(content: Mapping[str, Any], statuses: Sequence[int]) -> dict[str, Any]:
    answered = {"description": "OK", "headers": {"X-Request-Id": _REQUEST_ID}, "content": content}
    errors = {
        str(status): {"$ref": f"#/components/responses/{_key(status)}"}
        for status in sorted(statuses)
    }
    return {"200": answered, **errors}


def _error(status: int) -> dict[str, Any]:
    headers = {"X-Request-Id": _REQUEST_ID}
    if status in _WITH_RETRY_AFTER:
        headers["Retry-After"] = {"$ref": "#/components/headers/Retry-After"}
    return {
        "description": _ERRORS[status],
        "headers": headers,
        "content": {_JSON: {"schema": _schema("Error")}},
    }


def _key(status: int) -> str:
    return re.sub("[^A-Za-z]", "", HTTPStatus(status).phrase)


def _schema(name: str) -> Schema:
    return {"$ref": f"#/components/schemas/{name}"}


def _item(path: str, operations: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a document has at a path: its operations with ids, and the names in it."""
    words = "_".join(re.findall(r"[\w.-]+", path))
    item = {
        method: {"operationId": f"{method}_{words}", **operation}
        for method, operation in operations.items()
    }
    names = re.findall(r"{(\w+)}", path)
    references = [{"$ref": f"#/components/parameters/{name}"} for name in names]
    return {**item, "parameters": references} if names else item


def _object(*required: str, **properties: Schema) -> Schema:
    return {"type": "object", "properties": properties, "required": list(required)}


def _list(items: Schema) -> Schema:
    return {"type": "array", "items": items}


_REQUEST_ID = {"$ref": "#/components/headers/X-Request-Id"}
_HEADERS: Mapping[str, Any] = {
    "X-Request-Id": {
        "description": "The id that the client gave the request, or its own",
        "schema": {"type": "string"},
    },
    "Retry-After": {"description": "Seconds", "schema": {"type": "integer", "minimum": 1}},
    "Server-Timing": {
        "description": "Where the request's time went",
        "schema": {"type": "string"},
    },
    "Inference-Header-Content-Length": {
        "description": "Bytes of JSON, which raw data follows",
        "schema": {"type": "integer", "minimum": 0},
    },
}
_PARAMETERS: Mapping[str, Any] = {
    "model": {
        "name": "model",
        "in": "path",
        "required": True,
        "schema": {"type": "string", "pattern": "^[^/:]+$"},
    },
    "version": {
        "name": "version",
        "in": "path",
        "required": True,
        "schema": {"type": "integer", "minimum": 0, "maximum": MAX_VERSION},
    },
    "label": {
        "name": "label",
        "in": "path",
        "required": True,
        "schema": {"type": "string", "pattern": "^[^/:]+$"},
    },
    "Inference-Header-Content-Length": {
        "name": "Inference-Header-Content-Length",
        "in": "header",
        "description": "How many bytes of the body are JSON; the raw data of tensors follows. 0 "
        "for a body that is the raw data of the model's only input",
        "schema": {"type": "integer", "minimum": 0},
    },
    "Grpc-Timeout": {
        "name": "Grpc-Timeout",
        "in": "header",
        "description": "How long the request may take: a number, and H, M, S, m (ms), u or n",
        "schema": {"type": "string", "pattern": "^[0-9]{1,8}[HMSmun]$"},
    },
}

_STRING: Schema = {"type": "string"}
_TRUTH: Schema = {"type": "boolean"}
_TENSOR = _object(
    "name", "datatype", "shape", name=_STRING, datatype=_STRING, shape=_list({"type": "integer"})
)
_SCHEMAS: Mapping[str, Schema] = {
    "Error": _object("error", error=_STRING),
    "Alive": _object("status", status={"const": "alive"}),
    "Live": _object("live", live=_TRUTH),
    "Ready": _object("ready", ready=_TRUTH),
    "ServerMetadata": _object(
        "name", "version", "extensions", name=_STRING, version=_STRING, extensions=_list(_STRING)
    ),
    "Models": _object("models", models=_list(_STRING)),
    "Index": _list(
        _object(
            "name",
            "state",
            name=_STRING,
            version=_STRING,
            state={"enum": ["READY", "LOADING", "UNAVAILABLE"]},
            reason=_STRING,
            rows=_STRING,
            rows_reason=_STRING,
            engine=_STRING,
            engine_reason=_STRING,
        )
    ),
    "OpenApi": _object("openapi", "info", "paths", openapi=_STRING),
    "ModelReady": _object("name", "ready", name=_STRING, ready=_TRUTH),
    "ModelMetadata": _object(
        "name",
        "versions",
        "platform",
        "inputs",
        "outputs",
        name=_STRING,
        versions=_list(_STRING),
        platform=_STRING,
        inputs=_list(_TENSOR),
        outputs=_list(_TENSOR),
        properties={"type": "object", "additionalProperties": _STRING},
    ),
    "ModelStatus": _object(
        "model_version_status",
        name=_STRING,
        ready=_TRUTH,
        model_version_status=_list(
            _object(
                "version",
                "state",
                version=_STRING,
                state={"enum": ["LOADING", "AVAILABLE", "END"]},
                status=_object(error_code=_STRING, error_message=_STRING),
            )
        ),
    ),
    "SignatureMetadata": _object(
        "model_spec",
        "metadata",
        model_spec=_object("name", "version", name=_STRING, version=_STRING),
        metadata=_object("signature_def", signature_def=_object("signature_def")),
    ),
}
# Of whatever model it is.
_ANY_TENSORS: Mapping[str, Schema] = {
    "InferRequest": _object(
        "inputs",
        id=_STRING,
        parameters=_object(),
        inputs=_list(_TENSOR),
        outputs=_list(_object("name", name=_STRING)),
    ),
    "InferResponse": _object(
        "model_name",
        "model_version",
        "outputs",
        id=_STRING,
        model_name=_STRING,
        model_version=_STRING,
        outputs=_list(_TENSOR),
    ),
    "PredictRequest": _object(signature_name=_STRING)
    | {"oneOf": [{"required": ["instances"]}, {"required": ["inputs"]}]},
    "PredictResponse": _object()
    | {"oneOf": [{"required": ["predictions"]}, {"required": ["outputs"]}]},
}

_PLATFORM_PATHS: Mapping[str, Any] = {
    "/": _get("Whether the platform answers (TensorFlow Serving)", "Alive", _OF_ALL),
    "/v1/models": _get("The names of the models", "Models", _OF_ALL),
    "/v2": _get("Metadata: the platform's release", "ServerMetadata", _OF_ALL),
    "/v2/models": _get("The names of the models", "Models", _OF_ALL),
    "/v2/health/live": _get("Whether the platform answers", "Live", _OF_ALL),
    "/v2/health/ready": _get("Whether all models answer, a 503 if not", "Ready", _OF_ALL),
    "/v2/repository/index": {
        "post": {
            "summary": "Every version, and why one is not served",
            "requestBody": {"required": False, "content": {_JSON: {"schema": _object()}}},
            "responses": _responses({_JSON: {"schema": _schema("Index")}}, (*_OF_ALL, *_OF_BODIES)),
        }
    },
    "/openapi.json": _get("This document", "OpenApi", _OF_ALL),
}
_PLATFORM_PATHS["/v2/health/ready"]["get"]["responses"]["503"] = {
    "description": _ERRORS[503],
    "content": {_JSON: {"schema": {"anyOf": [_schema("Ready"), _schema("Error")]}}},
}
