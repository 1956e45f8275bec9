import hashlib
import json
import re
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serve.edge.keys import (
    MOST_KEYS,
    PATTERN,
    dump_keys,
    is_whole,
    new_key,
    new_secret,
    parse_keys,
    sha256_of,
)
from serve.errors import ConfigError

NAMES = st.from_regex(r"[A-Za-z0-9]([A-Za-z0-9._-]{0,10}[A-Za-z0-9])?", fullmatch=True)
TIMES = st.none() | st.datetimes(
    datetime(2000, 1, 1),
    datetime(2100, 1, 1),
    timezones=st.just(UTC),
)
KEYS = st.builds(
    lambda tenant, scope, models, expires: new_key(new_secret(), tenant, scope, models, expires),
    NAMES,
    st.sampled_from(["infer", "admin"]),
    st.none() | st.lists(NAMES, min_size=1, max_size=3),
    TIMES,
)


def test_a_key_is_random_and_tells_a_scanner_what_it_is():
    secrets = {new_secret() for _ in range(1000)}
    assert len(secrets) == 1000
    assert all(PATTERN.fullmatch(secret) and is_whole(secret) for secret in secrets)
    assert len({secret[7:50] for secret in secrets}) == 1000


@given(st.integers(7, 55), st.sampled_from("0aZ"))
def test_a_key_with_a_slip_in_it_is_not_whole(place, letter):
    secret = new_secret()
    wrong = secret[:place] + letter + secret[place + 1 :]
    assert is_whole(wrong) == (wrong == secret)


@pytest.mark.parametrize("text", ["", "strata_", "strata_abc", "x" * 56, "strata_" + "0" * 49])
def test_other_words_are_no_keys(text):
    assert not is_whole(text)


def test_the_file_has_no_key_but_its_hash():
    secret = new_secret()
    text = dump_keys([new_key(secret, "web")])
    assert secret not in text
    assert secret[7:20] not in text
    assert hashlib.sha256(secret.encode()).hexdigest() in text
    assert sha256_of(secret) in text


@given(st.lists(KEYS, max_size=5, unique_by=lambda key: key.id))
def test_what_is_written_is_read_again(keys):
    assert parse_keys(dump_keys(keys)) == tuple(keys)
    assert len(dump_keys(keys).splitlines()) == len(keys) + 2


@given(st.data())
def test_a_file_that_is_half_written_is_refused(data):
    text = dump_keys([new_key(new_secret(), "web"), new_key(new_secret(), "lab", models=["m"])])
    cut = data.draw(st.integers(0, len(text) - 3))
    with pytest.raises(ConfigError):
        parse_keys(text[:cut])


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"tenant": "a b"}, "tenant"),
        ({"tenant": "a|admin"}, "tenant"),
        ({"tenant": "a\nb"}, "tenant"),
        ({"models": ["m/../n"]}, "models"),
        ({"models": []}, "models"),
        ({"scope": "root"}, "scope"),
        ({"sha256": "AB"}, "sha256"),
        ({"expires": "tomorrow"}, "expires"),
        ({"expires": "2030-01-01T00:00:00"}, "expires"),  # of which time zone?
        ({"note": "x"}, "note"),
    ],
)
def test_a_key_that_is_not_as_it_must_be_is_named(change, said):
    tree = json.loads(dump_keys([new_key(new_secret(), "web")]))
    tree["keys"][0] |= change
    with pytest.raises(ConfigError, match=re.escape(f"keys.0.{said}")):
        parse_keys(json.dumps(tree))


@pytest.mark.parametrize("text", [b"", b"\xff\xfe", b"[]", b"{}", b'{"version": 2, "keys": []}'])
def test_what_is_no_file_of_keys_is_refused(text):
    with pytest.raises(ConfigError):
        parse_keys(text)


def test_a_key_that_is_there_twice_is_refused():
    key = new_key(new_secret(), "web")
    with pytest.raises(ConfigError, match="2 keys have the id"):
        dump_keys([key, key])
    with pytest.raises(ConfigError, match="2 keys have the sha256"):
        dump_keys([key, key.model_copy(update={"id": "aaaaaaaa"})])


def test_more_keys_than_anybody_has_are_refused():
    line = dump_keys([new_key(new_secret(), "web")]).splitlines()[1]
    text = f'{{"version": 1, "keys": [{",".join([line] * (MOST_KEYS + 1))}]}}'
    with pytest.raises(ConfigError, match=str(MOST_KEYS)):
        parse_keys(text)


def test_a_name_that_is_none_makes_no_key():
    with pytest.raises(ConfigError, match="tenant"):
        new_key(new_secret(), "a b")
    with pytest.raises(ConfigError, match="models"):
        new_key(new_secret(), "web", models=[""])


def test_a_key_is_over_when_its_time_has_come():
    now = datetime.now(UTC)
    key = new_key(new_secret(), "web", expires=now)
    assert key.is_over(now)
    assert not key.is_over(now - timedelta(seconds=1))
    assert not new_key(new_secret(), "web").is_over(now)
