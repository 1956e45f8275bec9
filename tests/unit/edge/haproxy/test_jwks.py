import json
from functools import cache

import pytest
from cryptography.hazmat.primitives.serialization import load_pem_public_key
from hypothesis import given
from hypothesis import strategies as st

from serve.edge.haproxy.jwks import MOST_BYTES, MOST_KEYS, parse_jwks
from serve.errors import ConfigError
from tests.issuer import SigningKey, jwks, number

RSA, EC = SigningKey(), SigningKey("ES256", kid="ec")


@cache
def weak():
    return SigningKey(kid="weak", bits=1024)


def parsed(*keys, algorithm="RS256"):
    return parse_jwks(json.dumps({"keys": list(keys)}).encode(), algorithm)


@pytest.mark.parametrize("algorithm", ["RS256", "PS512", "ES256", "ES384", "ES512"])
def test_the_keys_of_the_algorithm_are_taken_as_they_are(algorithm):
    key = SigningKey(algorithm)
    (found,) = parse_jwks(jwks(key, SigningKey("RS384", "x"), EC), key.algorithm)[:1]
    public = load_pem_public_key(found.pem.encode())
    assert found.kid == "one"
    assert public.public_numbers() == key.private.public_key().public_numbers()


def test_a_key_without_an_algorithm_of_its_own_is_of_any_that_fits():
    bare = RSA.jwk(alg=..., use=..., kid=...)
    assert parsed(bare, algorithm="PS384")[0].kid is None
    assert parsed(RSA.jwk(key_ops=["verify"]))[0].kid == "one"


PASSED_OVER = {
    "another use": {"use": "enc"},
    "another algorithm": {"alg": "RS512"},
    "a secret's type": {"kty": "oct", "k": "c2VjcmV0"},
    "a curve's type": {"kty": "EC"},
    "the type in other letters": {"kty": "rsa"},
    "no type": {"kty": ...},
    "a number as type": {"kty": 1},
    "another operation": {"key_ops": ["sign"]},
    "operations as text": {"key_ops": "verify"},
    "its private part": {"d": "AQAB"},
    "no modulus": {"n": ...},
    "a modulus that is a number": {"n": 5},
    "a modulus of blanks": {"n": "   "},
    "an empty modulus": {"n": ""},
    "a modulus with padding": {"n": RSA.jwk()["n"] + "=="},
    "a modulus that is even": {"n": number(2**2047)},
    "a large modulus": {"n": number(2**8192 + 1)},
    "an even exponent": {"e": number(4)},
    "the exponent 1": {"e": number(1)},
    "a large exponent": {"e": number(2**32 + 1)},
    "an id that is a number": {"kid": 5},
    "ids": {"kid": ["one"]},
    "half a character as id": {"kid": "\ud800"},
    "a long id": {"kid": "x" * 2000},
}


@pytest.mark.parametrize("name", PASSED_OVER)
def test_what_cannot_be_used_is_passed_over(name):
    other = SigningKey(kid="other").jwk()
    assert [key.kid for key in parsed(RSA.jwk(**PASSED_OVER[name]), other)] == ["other"]
    with pytest.raises(ConfigError, match="no key that verifies RS256"):
        parsed(RSA.jwk(**PASSED_OVER[name]))


def test_a_weak_key_is_passed_over():
    with pytest.raises(ConfigError, match="no key"):
        parsed(weak().jwk())


@pytest.mark.parametrize(
    "changed",
    [{"crv": "P-384"}, {"crv": ...}, {"x": number(5)}, {"x": number(5, 32)}, {"y": ...}],
)
def test_a_point_that_is_not_on_the_curve_is_passed_over(changed):
    with pytest.raises(ConfigError, match="no key that verifies ES256"):
        parsed(EC.jwk(**changed), algorithm="ES256")


def test_two_keys_of_one_id_are_refused_and_two_without_are_not():
    with pytest.raises(ConfigError, match=r'2 keys with the id \(kid\) "one"'):
        parse_jwks(jwks(RSA, SigningKey()), "RS256")
    nameless = [SigningKey(kid=None).jwk() for _ in range(2)]
    assert len(parsed(*nameless)) == 2
    # Of another algorithm it is another key.
    assert len(parse_jwks(jwks(RSA, SigningKey("ES256")), "RS256")) == 1


@pytest.mark.parametrize(
    "text",
    [
        *(b"", b"<html>", b"{", b"[]", b"null", b'{"keys":{}}', b'{"keys":null}', b"\xff", b"{}"),
        b'{"keys":[]}',
        b'{"keys":[1,null,"x",[]]}',
        b"[" * 100_000,
        b" " * MOST_BYTES + b'{"keys":[]}',
        json.dumps({"keys": [{}] * (MOST_KEYS + 1)}).encode(),
    ],
)
def test_what_is_no_set_is_refused(text):
    with pytest.raises(ConfigError):
        parse_jwks(text, "RS256")


_ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=5,
)


@given(changed=st.dictionaries(st.sampled_from([*RSA.jwk(), "d", "key_ops"]), _ANYTHING))
def test_no_member_of_a_key_is_anything_but_taken_or_passed_over(changed):
    own = RSA.private.public_key().public_numbers()
    try:
        (found,) = parsed(RSA.jwk(**changed))
    except ConfigError:
        return
    assert load_pem_public_key(found.pem.encode()).public_numbers().n == own.n


@given(text=st.binary())
def test_no_bytes_are_anything_but_refused(text):
    with pytest.raises(ConfigError):
        parse_jwks(text, "RS256")
