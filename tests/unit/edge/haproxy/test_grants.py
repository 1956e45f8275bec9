from datetime import UTC, datetime

from serve.edge.haproxy.grants import of_keys, of_quotas
from serve.edge.haproxy.settings import RequestQuota
from serve.edge.keys import new_key, new_secret, sha256_of


def test_a_key_is_found_by_its_hash_as_haproxy_writes_one():
    secret = new_secret()
    key = new_key(secret, "web", expires=datetime(2030, 1, 1, tzinfo=UTC))
    assert of_keys([key]) == {sha256_of(secret).upper(): "web|infer|all|1893456000"}


def test_a_key_of_some_models_has_an_entry_for_each():
    secret = new_secret()
    key = new_key(secret, "lab", "admin", ["m", "n"])
    hashed = sha256_of(secret).upper()
    wanted = {hashed: "lab|admin|some|", f"{hashed}/m": "1", f"{hashed}/n": "1"}
    assert of_keys([key]) == wanted


def test_the_platforms_own_key_opens_everything():
    assert of_keys((), sha256_of("own")) == {sha256_of("own").upper(): "none|own|all|"}


def test_quotas_are_found_by_tenant_and_model():
    quotas = [RequestQuota("web", None, 5, None), RequestQuota("*", "m", None, 0)]
    assert of_quotas(quotas) == {"web": "5|", "*/m": "|0"}
