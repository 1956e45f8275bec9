"""OpenAPI documents: valid, and of the paths, methods and statuses that there are."""

import inspect
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from openapi_spec_validator import OpenAPIV31SpecValidator

from serve import errors
from serve.datatypes import DATATYPES
from serve.edge import routes
from serve.edge.routes import parse_path
from serve.protocols.json_documents import encode_json
from serve.protocols.openapi import model_document, platform_document
from serve.types import Signature, TensorSpec

_SPECS = st.lists(
    st.builds(
        TensorSpec,
        st.text(min_size=1, max_size=5),
        st.sampled_from(list(DATATYPES)),
        st.none() | st.lists(st.sampled_from([-1, 0, 1, 3]), max_size=3).map(tuple),
    ),
    min_size=1,
    max_size=3,
    unique_by=lambda spec: spec.name,
).map(tuple)
_SIGNATURES = st.dictionaries(
    st.text(min_size=1, max_size=9), st.tuples(_SPECS, _SPECS), min_size=1, max_size=2
).map(lambda tree: {name: Signature(name, *specs, True) for name, specs in tree.items()})
_DIGITS = Signature(
    "serving_default",
    (TensorSpec("image", "FP32", (-1, 28, 28, 1)),),
    (TensorSpec("digit", "INT64", (-1,)),),
    True,
)


def _digits(below=""):
    signatures = {"serving_default": _DIGITS}
    return model_document("digits", below, "3", signatures, "serving_default")


def _read(document):
    """Return a document as a client has it; raises what is wrong with it."""
    sent = json.loads(encode_json(document))
    OpenAPIV31SpecValidator(sent).validate()
    return sent


@settings(max_examples=10, deadline=None)  # a validation takes a tenth of a second
@given(_SIGNATURES)
def test_a_models_document_is_valid_whatever_its_signatures_are(signatures):
    _read(model_document("m", "", "1", signatures, next(iter(signatures))))


@pytest.mark.parametrize("models", [(), tuple(f"m{n}" for n in range(100))])
def test_the_platforms_document_is_valid_and_names_each_models_own(models):
    document = _read(platform_document(models, "0.1.0"))
    assert [each["openapi"] for each in document["x-models"]] == [
        f"/v2/models/{name}/openapi.json" for name in models
    ]
    schema = document["components"]["parameters"]["model"]["schema"]
    assert schema.get("enum", []) == list(models)


def test_one_document_leaves_nothing_in_the_next():
    platform_document(["digits"], "1")
    schema = platform_document([], "1")["components"]["parameters"]["model"]["schema"]
    assert "enum" not in schema


def _operations(document):
    """Yield what the URL grammar reads in each path, and the one method that is described."""
    for path, item in document["paths"].items():
        (method,) = item.keys() - {"parameters"}
        filled = path.format(model="digits", version=3, label="stable")
        yield parse_path(filled), method.upper(), item[method]


@pytest.mark.parametrize(
    "document",
    [_digits(), _digits("/versions/3"), _digits("/labels/stable"), platform_document([], "1")],
)
def test_each_path_is_one_with_its_method(document):
    for target, method, _ in _operations(document):
        assert (target.verb is not None, target.method) == (True, method), target


@pytest.mark.parametrize("below", ["", "/versions/3", "/labels/stable"])
def test_every_verb_of_a_model_is_in_its_document_and_in_the_platforms(below):
    there = {(path, target.protocol, target.verb) for path, target in _targets(_digits(below))}
    wanted = {
        (protocol, verb)
        for protocol, verbs in (
            ("v1", ("status", "metadata", "predict")),
            ("v2", ("metadata", "ready", "infer", "openapi.json")),
        )
        for verb in verbs
    }
    assert {(protocol, verb) for _, protocol, verb in there} == wanted
    assert {verb for _, verb in wanted} == routes._METHODS.keys() - routes._UNSUPPORTED
    template = {"": "", "/versions/3": "/versions/{version}", "/labels/stable": "/labels/{label}"}
    everywhere = {
        path.replace("digits", "{model}").replace(below, template[below]) for path, *_ in there
    }
    assert everywhere <= platform_document([], "1")["paths"].keys()


def _targets(document):
    return [(path, parse_path(path)) for path in document["paths"]]


def test_every_path_of_the_platform_is_in_its_document():
    documented = {path for path in platform_document([], "1")["paths"] if "{" not in path}
    assert documented == routes._PLATFORM.keys() - {routes.EDGE_CHANGED}  # no client's


def test_every_error_that_a_client_can_receive_is_described():
    raised = {
        error("").http_status
        for error in vars(errors).values()
        if inspect.isclass(error) and issubclass(error, errors.ServeError)
    } - {412}  # of strata.yaml and of the repository, before anything is served
    for target, method, operation in _operations(_digits()):
        of_bodies = {413, 501} if method == "POST" else set()
        described = {int(status) for status in operation["responses"]}
        assert described >= (raised - {413, 501}) | of_bodies | {405, 408, 431, 502}, target


def test_overload_says_when_to_come_back_and_keys_are_optional():
    document = _digits()
    responses = document["components"]["responses"]
    for name in ("TooManyRequests", "ServiceUnavailable"):
        assert "Retry-After" in responses[name]["headers"]
    assert {} in document["security"]
    assert set(document["components"]["securitySchemes"]) == {"bearer", "apiKey"}


def test_operations_have_ids_that_differ():
    for document in (_digits(), platform_document(["digits"], "1")):
        ids = [operation["operationId"] for _, _, operation in _operations(document)]
        assert len(set(ids)) == len(ids)


def test_a_model_of_half_floats_takes_no_json_over_v2():
    half = Signature("h", (TensorSpec("x", "FP16", (-1,)),), (TensorSpec("y", "BF16", ()),), True)
    paths = _read(model_document("m", "", "1", {"h": half}, "h"))["paths"]
    infer = paths["/v2/models/m/infer"]["post"]
    assert list(infer["requestBody"]["content"]) == ["application/octet-stream"]
    assert list(infer["responses"]["200"]["content"]) == ["application/octet-stream"]
    assert list(paths["/v1/models/m:predict"]["post"]["requestBody"]["content"]) == [
        "application/json"
    ]
