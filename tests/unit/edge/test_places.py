"""What is left of a reason for clients: no folder, no store."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serve.edge.places import without_places

NAMES = st.text(st.characters(codec="ascii", categories=["L", "N"]), min_size=1, max_size=8)
PLACES = st.tuples(
    st.sampled_from(["/", "s3://", "gs://", "http://user:word@", "https://", "file:///"]),
    st.lists(NAMES.map(lambda name: f"secret{name}"), min_size=1, max_size=4),
    NAMES.map(lambda name: f"last{name}"),
)


@pytest.mark.parametrize(
    ("told", "left"),
    [
        ("'/srv/models/tiny/3' cannot be served: it is empty", "'3' cannot be served: it is empty"),
        ("/srv/models/tiny/3/model.onnx: ONNX Runtime cannot", "model.onnx: ONNX Runtime cannot"),
        ("'/srv/my models/tiny/3' holds", "'3' holds"),
        ("the store 's3://bucket/models' does not answer", "the store 'models' does not answer"),
        ("s3://bucket is away", "the store is away"),
        ("https://user:pass@store.example/a/b?sig=x: 403", "b: 403"),
        ("(see /tmp/x/log)", "(see log)"),
        ("moved from /a/b to /c/d.", "moved from b to d."),
        ("model 'a': /a/b, and more", "model 'a': b, and more"),
        ("\"/a/b\" and '/c/d'", "\"b\" and 'd'"),
        ("[/a/b]", "[b]"),
        ("path=/a/b/", "path=b"),
        ("at\n/a/b\nand", "at\nb\nand"),
    ],
)
def test_of_a_place_its_last_name_is_left(told, left):
    assert without_places(told) == left


@pytest.mark.parametrize(
    "text",
    [
        "",
        "/",
        "model 'tiny' has no version loaded; it is being loaded",
        "a/b and 1/2 and application/json, dense/kernel:0",
        "at 10 / 2",
        "ask /v2/models/tiny/ready or '/v1/models/tiny'",
        "it's its owner's",
        "12:30:05",
    ],
)
def test_what_is_no_place_stays(text):
    assert without_places(text) == text


@given(PLACES, st.sampled_from(["'{}'", '"{}"', "{}", "{}: no", "({})", "x {}, y", "={}", "{}."]))
def test_nothing_before_the_last_name_is_left(place, sentence):
    scheme, folders, last = place
    told = without_places(sentence.format(scheme + "/".join([*folders, last])))
    assert "secret" not in told
    assert "://" not in told
    assert last in told
