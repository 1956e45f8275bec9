"""Tokens of an issuer on a real platform: an issuer comes, has other keys, and goes."""

import time

import pytest
import requests

from tests.issuer import AUDIENCE, ISSUER, SigningKey, claims, jwks

pytestmark = pytest.mark.integration

OLD, NEW = SigningKey("ES256", kid="old"), SigningKey("ES256", kid="new")
BODY = {"inputs": [{"name": "text", "datatype": "BYTES", "shape": [1], "data": ["a"]}]}
INFER = "/v2/models/text/infer"


@pytest.fixture
def ask(served, eventually):
    """Return a function that asks the platform with tokens, which count until the test's end."""
    file = served.config_path.with_name("jwks.json")
    file.write_bytes(jwks(OLD))
    jwt = {"issuer": ISSUER, "jwks": file.name, "audience": AUDIENCE, "algorithm": "ES256"}
    jwt |= {"models_claim": "models", "admin_scope": "strata:admin"}

    def status(token=None, path=INFER, session=requests):
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        body = BODY if path == INFER else None
        return session.post(served.url + path, json=body, headers=headers, timeout=60).status_code

    served.apply(lambda tree: tree.update(access={"jwt": jwt}))
    eventually(lambda: status() == 401, 120)
    yield status
    served.apply(lambda tree: tree.pop("access"))
    eventually(lambda: status() == 200, 120)


def token(key, **changed):
    return key.token(claims(exp=int(time.time()) + 3600, models=["text"], **changed))


def test_an_issuer_counts_and_its_keys_are_followed_without_a_dropped_connection(
    served, ask, eventually
):
    eventually(lambda: ask(token(OLD)) == 200, 120)
    assert ask(token(NEW)) == 401
    assert ask(OLD.token(claims(models=[]))) == 403
    assert ask(token(OLD, tenant=...)) == 401
    index = "/v2/repository/index"
    assert ask(token(OLD), index) == 403
    assert ask(token(OLD, scope="openid strata:admin"), index) == 200
    file = served.config_path.with_name("jwks.json")
    with requests.Session() as kept:
        assert ask(token(OLD), session=kept) == 200
        file.write_bytes(jwks(OLD, NEW))
        seen = []

        def is_new():
            seen.append(ask(token(OLD), session=kept))
            return ask(token(NEW)) == 200

        eventually(is_new, 120)
        assert set(seen) == {200}
    file.write_bytes(jwks(NEW))
    eventually(lambda: ask(token(OLD)) == 401, 120)
    assert ask(token(NEW)) == 200
