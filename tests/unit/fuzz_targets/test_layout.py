from fuzz_targets.layout import Parts, join, split
from hypothesis import given
from hypothesis import strategies as st


@given(st.integers(0, 255), st.none() | st.integers(0, 2**24 - 2), st.binary(max_size=20))
def test_parts_come_back(choice, json_length, body):
    parts = Parts(choice, json_length, body)
    assert split(join(parts)) == parts


@given(st.binary(max_size=20))
def test_any_bytes_are_an_input(data):
    parts = split(data)
    assert parts.body == data[4:]
    assert parts.body.startswith(parts.text)
