import gzip
import time
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serve.errors import BodyTooLarge, InvalidRequest, Unsupported
from serve.protocols.content_encoding import choose_encoding, compress, decompress


@given(st.binary(max_size=2000), st.sampled_from(["gzip", "deflate"]))
def test_what_is_compressed_comes_back(body, encoding):
    assert decompress(compress(body, encoding), encoding, 2000) == body


@given(st.lists(st.binary(max_size=50), min_size=1, max_size=5), st.integers(0, 9))
def test_all_members_of_a_gzip_body_are_read_and_count(members, padding):
    body = b"".join(map(gzip.compress, members)) + b"\0" * padding
    plain = b"".join(members)
    assert decompress(body, "gzip", len(plain)) == plain
    if plain:
        with pytest.raises(BodyTooLarge):
            decompress(body, "gzip", len(plain) - 1)


@pytest.mark.parametrize("encoding", ["gzip", "deflate"])
def test_a_bomb_stops_at_the_limit(encoding):
    bomb = compress(b"\0" * 10_000_000, encoding)
    with pytest.raises(BodyTooLarge, match="more than 1000 bytes"):
        decompress(bomb, encoding, 1000)


@pytest.mark.parametrize(
    ("body", "encoding"),
    [
        (b"no", "gzip"),
        (b"no", "deflate"),
        (compress(b"x" * 99, "gzip")[:-9], "gzip"),
        (zlib.compress(b"x" * 99)[:-5], "deflate"),
        (compress(b"x", "gzip") + b"behind it", "gzip"),
        (zlib.compress(b"x") + b"behind it", "deflate"),
        (compress(b"x", "gzip") + compress(b"y", "gzip")[:-3], "gzip"),
        (compress(b"x" * 99, "gzip")[:-1] + b"?", "gzip"),
    ],
)
def test_a_corrupt_body_is_refused(body, encoding):
    with pytest.raises(InvalidRequest):
        decompress(body, encoding, 1000)


def test_many_small_members_are_read_in_time_that_grows_with_them():
    one = gzip.compress(b"")
    seconds = []
    for count in (5_000, 50_000):
        body = one * count
        started = time.process_time()
        assert decompress(body, "gzip", 10) == b""
        seconds.append(time.process_time() - started)
    assert seconds[1] < 40 * seconds[0]


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
