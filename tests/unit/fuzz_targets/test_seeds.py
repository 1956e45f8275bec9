from contextlib import suppress
from importlib import import_module

import pytest
from fuzz_targets import seeds
from fuzz_targets.targets import TARGETS


def test_every_target_has_seeds():
    assert {target for target, *_ in seeds._CALLS} == TARGETS.keys()


@pytest.mark.parametrize(
    ("target", "module", "name", "args"),
    [
        ("v1", "rest_v1", "decode_predict", (b"{}", {}, "s")),
        ("v2", "rest_v2", "decode_request", (b"{}", 7)),
        ("v2-response", "rest_v2", "decode_response", (b"{}", None)),
        ("encoding", "content_encoding", "decompress", (b"a", "gzip", 10)),
        ("floats", "float_arrays", "read_floats", (b"[1]",)),
        ("headers", "content_encoding", "choose_encoding", ("gzip",)),
    ],
)
def test_what_a_test_gives_to_a_decoder_is_noted_as_an_input_of_the_target(
    target, module, name, args
):
    noted = {each: set() for each in TARGETS}
    module = import_module(f"serve.protocols.{module}")
    function = getattr(module, name)
    with seeds._recording(noted), suppress(Exception):
        getattr(module, name)(*args)
    assert getattr(module, name) is function
    (data,) = noted.pop(target)
    assert not any(noted.values())
    TARGETS[target](data)
