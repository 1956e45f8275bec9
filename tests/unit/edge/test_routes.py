"""The URL grammar: one reading of a path, for all who ask."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serve.edge.routes import parse_path
from serve.errors import InvalidRequest, Unsupported

NAMES = st.from_regex(r"[A-Za-z0-9]([A-Za-z0-9._-]{0,20}[A-Za-z0-9])?", fullmatch=True)


@pytest.mark.parametrize(
    ("method", "path", "expected"),
    [
        ("GET", "/v1/models/m", ("m", None, None, "status")),
        ("GET", "/v1/models/m/versions/3", ("m", 3, None, "status")),
        ("GET", "/v1/models/m/labels/stable/metadata", ("m", None, "stable", "metadata")),
        ("POST", "/v1/models/m:predict", ("m", None, None, "predict")),
        ("POST", "/V1/models/m/versions/3:PREDICT", ("m", 3, None, "predict")),
        ("GET", "/v2/models/m", ("m", None, None, "metadata")),
        ("GET", "/v2/models/m/versions/3/ready", ("m", 3, None, "ready")),
        ("POST", "/v2/models/m/infer", ("m", None, None, "infer")),
        ("GET", "/v2/models/m/openapi.json", ("m", None, None, "openapi.json")),
        ("GET", "/v2/models/m/versions/3/openapi.json", ("m", 3, None, "openapi.json")),
        ("POST", "/v2/models/m/labels/stable/infer", ("m", None, "stable", "infer")),
        ("GET", "/v2", (None, None, None, "metadata")),
        ("GET", "/v2/health/ready/", (None, None, None, "ready")),
        ("POST", "/v2/repository/index", (None, None, None, "index")),
        ("GET", "/v1/models/", (None, None, None, "list")),
    ],
)
def test_a_path_says_what_it_asks_for(method, path, expected):
    target = parse_path(path)
    assert (target.model, target.version, target.label, target.verb) == expected
    assert target.protocol == path[1:3].lower()
    assert target.refusal(method) is None


def test_the_platforms_document_is_at_its_root():
    target = parse_path("/openapi.json")
    assert (target.model, target.verb, target.refusal("GET")) == (None, "openapi.json", None)


@pytest.mark.parametrize(
    "path", ["/v1/models/m", "/v1/models/m:teapot", "/v1/models/m/versions/1/labels/a:predict"]
)
def test_a_malformed_v1_path_is_refused_as_tensorflow_serving_does(path):
    with pytest.raises(InvalidRequest, match=r"^Malformed request: POST /v1/models/m"):
        parse_path(path).refusal("POST")


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE"])
def test_a_v1_verb_with_another_method_is_malformed(method):
    with pytest.raises(InvalidRequest, match=f"^Malformed request: {method} "):
        parse_path("/v1/models/m:predict").refusal(method)


@pytest.mark.parametrize("verb", ["classify", "Regress"])
def test_verbs_that_strata_lacks_are_unsupported(verb):
    with pytest.raises(Unsupported, match=f":{verb.lower()} is not supported; use :predict"):
        parse_path(f"/v1/models/m:{verb}").refusal("POST")


@pytest.mark.parametrize(
    ("method", "path", "status", "allowed"),
    [
        ("POST", "/v2/models/m/teapot", 404, None),
        ("GET", "/v2/models/m/infer/", 404, None),
        ("GET", "/V2/models/m", 404, None),
        ("GET", "/favicon.ico", 404, None),
        ("GET", "/v2/models/m/openapi-json", 404, None),
        ("GET", "/v1/models/:predict", 404, None),
        ("GET", "/v2/models/m/infer", 405, b"POST, OPTIONS"),
        ("POST", "/v2/models/m/ready", 405, b"GET, HEAD, OPTIONS"),
        ("POST", "/v2/health/live", 405, b"GET, HEAD, OPTIONS"),
        ("GET", "/v2/repository/index", 405, b"POST, OPTIONS"),
    ],
)
def test_what_is_not_there_and_what_takes_another_method_differ(method, path, status, allowed):
    response = parse_path(path).refusal(method)
    assert response.status == status
    assert dict(response.headers).get(b"allow") == allowed
    assert "error" in json.loads(response.body)


@pytest.mark.parametrize(
    "path",
    [
        "/v2/models/m/versions/١/infer",  # digits, but not ASCII's
        "/v2/models/m/versions/-1/infer",
        "/v2/models/m/versions//infer",
        f"/v2/models/m/versions/{'9' * 5000}/infer",  # more than Python makes a number of
        "/v1/models/m/versions/١:predict",
        f"/v1/models/m/versions/{'9' * 5000}:predict",
        f"/v2/models/m/versions/{2**63}/infer",
        f"/v1/models/m/versions/{2**63}:predict",
    ],
)
def test_only_decimal_numbers_are_versions(path):
    target = parse_path(path)
    assert target.model == "m"
    assert target.verb is None


@pytest.mark.parametrize(
    ("text", "version"),
    [
        ("0", 0),
        ("00000123", 123),
        ("1767225600123456789", 1767225600123456789),
        (str(2**63 - 1), 2**63 - 1),
        ("0" * 5000 + "7", 7),
    ],
)
def test_every_number_that_names_a_version_folder_names_it_in_a_path(text, version):
    for path in (f"/v2/models/m/versions/{text}/infer", f"/v1/models/m/versions/{text}:predict"):
        assert parse_path(path).version == version


@given(NAMES, NAMES, st.integers(0, 2**63 - 1), st.sampled_from(["", "/v", "/l"]))
def test_a_v1_path_means_the_same_below_the_models_own_prefix(model, label, number, chosen):
    middle = {"": "", "/v": f"/versions/{number}", "/l": f"/labels/{label}"}[chosen]
    for below in (middle, f"{middle}/metadata", f"{middle}:predict", f"{middle}/nothing"):
        target = parse_path(f"/v1/models/{model}{below}")
        assert parse_path(target.inside_model()) == target
        assert target.path == f"/v1/models/{model}{below}"


def test_a_v2_path_that_only_looks_like_v1_is_none():
    assert parse_path("/v2/models/m/v1x").protocol == "v2"
    assert parse_path("/v2/models/m/v1").protocol == "v1"


@given(st.text(max_size=60).map(lambda text: f"/{text}"))
def test_no_path_is_too_strange_to_be_read(path):
    target = parse_path(path)
    assert target.protocol in {"v1", "v2"}
    assert (target.version is None) or (target.label is None)
    assert target.route(is_served=True) is None or target.verb is not None


@pytest.mark.parametrize(
    ("path", "route"),
    [
        ("/v2/models/m", "/v2/models/m"),
        ("/v2/models/m/infer", "/v2/models/m/infer"),
        ("/v2/models/m/versions/3/infer", "/v2/models/m/versions/{version}/infer"),
        ("/v2/models/m/labels/stable/ready", "/v2/models/m/labels/{label}/ready"),
        ("/v2/models/m/versions/3/openapi.json", "/v2/models/m/versions/{version}/openapi.json"),
        ("/v1/models/m/versions/3:predict", "/v1/models/m/versions/{version}:predict"),
        ("/V1/models/m/Versions/3:PREDICT", "/v1/models/m/versions/{version}:predict"),
        ("/v2/models/m/v1/versions/3:predict", "/v1/models/m/versions/{version}:predict"),
        ("/v1/models/m/metadata", "/v1/models/m/metadata"),
        ("/v2/health/ready", "/v2/health/ready"),
        ("/v2/models/m/../../etc/passwd", None),
        ("/v2/models/m/infer/1", None),
        ("/favicon.ico", None),
    ],
)
def test_a_route_has_neither_versions_nor_labels(path, route):
    assert parse_path(path).route(is_served=True) == route


def test_a_model_that_nobody_serves_is_not_named_in_a_route():
    assert parse_path("/v2/models/m/infer").route(is_served=False) == "/v2/models/{model}/infer"


@pytest.mark.parametrize("path", ["/v2/models/m", "/v1/models/m", "/v1/models/m/metadata", "/v2"])
def test_where_get_is_answered_head_is_and_options_say_so(path):
    target = parse_path(path)
    assert target.refusal("HEAD") is None
    answer = target.refusal("OPTIONS")
    assert (answer.status, answer.headers) == (204, [(b"allow", b"GET, HEAD, OPTIONS")])


def test_options_of_what_is_posted_name_post_and_head_is_refused():
    answer = parse_path("/v1/models/m:predict").refusal("OPTIONS")
    assert (answer.status, answer.headers) == (204, [(b"allow", b"POST, OPTIONS")])
    with pytest.raises(InvalidRequest, match="Malformed request: HEAD"):
        parse_path("/v1/models/m:predict").refusal("HEAD")
    assert parse_path("/v2/nothing").refusal("OPTIONS").status == 404
