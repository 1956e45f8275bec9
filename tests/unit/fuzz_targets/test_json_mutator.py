import json

import pytest
from fuzz_targets.json_mutator import mutate
from fuzz_targets.layout import Parts, join, split
from hypothesis import given
from hypothesis import strategies as st

_DOCUMENT = {"inputs": [{"name": "x", "shape": [2], "data": [1, 2]}], "id": "7"}
_TEXT = json.dumps(_DOCUMENT).encode()


def _otherwise(data):
    return b"otherwise"


@given(st.integers(0, 2**32 - 1), st.booleans())
def test_what_was_json_stays_json_and_data_behind_it_stays(seed, is_followed):
    parts = Parts(3, len(_TEXT), _TEXT + b"\xff") if is_followed else Parts(3, None, _TEXT)
    changed = mutate(join(parts), seed, _otherwise)
    assert changed == mutate(join(parts), seed, _otherwise)
    if changed != b"otherwise":
        again = split(changed)
        json.loads(again.text)
        assert again.choice == 3
        assert again.body[len(again.text) :] == (b"\xff" if is_followed else b"")


@pytest.mark.parametrize("body", [b"", b"{", b"[" * 100_000, b"\xff"])
def test_what_is_no_json_is_changed_otherwise(body):
    assert mutate(join(Parts(0, None, body)), 1, _otherwise) == b"otherwise"


def test_every_kind_of_change_is_made():
    changed = {mutate(join(Parts(0, None, _TEXT)), seed, _otherwise) for seed in range(3000)}
    documents = [json.loads(split(each).text) for each in changed - {b"otherwise"}]
    assert len(documents) > 1000
    objects = [each for each in documents if isinstance(each, dict)]
    assert any("inputs" not in each for each in objects)
    assert any(len(each) > 2 for each in objects)
    assert any(isinstance(each, list) for each in documents)
    assert any(isinstance(each.get("inputs"), list) and len(each["inputs"]) > 1 for each in objects)


def test_changes_of_changes_do_not_fill_the_memory():
    data = join(Parts(0, None, _TEXT))
    for seed in range(400):
        changed = mutate(data, seed, lambda other: other)
        assert len(changed) < 10_000_000
        data = changed if len(changed) < 16_000 else data
