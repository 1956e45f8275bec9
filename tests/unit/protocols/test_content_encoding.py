import gzip
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serve.errors import BodyTooLarge, InvalidRequest, Unsupported
from serve.protocols.content_encoding import choose_encoding, compress, decompress


@given(st.binary(max_size=2000), st.sampled_from(["gzip", "deflate"]))
def test_what_is_compressed_comes_back(body, encoding):
    assert decompress(compress(body, encoding), encoding, 2000) == body


@pytest.mark.parametrize("encoding", ["gzip", "deflate"])
def test_a_bomb_stops_at_the_limit(encoding):
    bomb = compress(b"\0" * 10_000_000, encoding)
    with pytest.raises(BodyTooLarge, match="more than 1000 bytes"):
        decompress(bomb, encoding, 1000)


@pytest.mark.parametrize(
    ("body", "encoding"),
    [(b"no", "gzip"), (b"no", "deflate"), (gzip.compress(b"x" * 99)[:-9], "gzip")],
)
def test_a_corrupt_body_is_refused(body, encoding):
    with pytest.raises(InvalidRequest):
        decompress(body, encoding, 1000)


def test_an_unknown_encoding_is_named():
    with pytest.raises(Unsupported, match="Unsupported compression type 'br'"):
        decompress(b"", "br", 10)


def test_identity_is_no_encoding():
    assert decompress(b"as it is", "identity", 10) == b"as it is"


def test_deflate_is_a_zlib_stream():
    assert zlib.decompress(compress(b"abc", "deflate")) == b"abc"


@pytest.mark.parametrize(
    ("header", "chosen"),
    [
        ("", None),
        ("gzip, deflate", "gzip"),
        ("deflate", "deflate"),
        ("gzip;q=0, deflate;q=0.5", "deflate"),
        ("gzip;q=0.1, deflate;q=0.5", "deflate"),
        ("br", None),
        ("*", "gzip"),
        ("*;q=0", None),
        ("gzip;q=none", None),
        ("identity", None),
    ],
)
def test_the_clients_preference_decides(header, chosen):
    assert choose_encoding(header) == chosen
