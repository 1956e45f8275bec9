from datetime import UTC, datetime, timedelta

import pytest

from serve.edge.keys import is_whole, parse_keys, sha256_of


@pytest.fixture
def keys(tmp_path, strata):
    """Run a command of `strata keys` on a file of its own; return what it prints."""
    config = tmp_path / "strata.yaml"
    config.write_text("access: {keys: secrets/keys.json}\n")
    (tmp_path / "secrets").mkdir()

    def run(*arguments):
        code, out, err = strata("keys", *arguments, "--config", config)
        assert code == 0, err
        return out

    run.file = tmp_path / "secrets" / "keys.json"
    run.config = config
    return run


def stored(keys):
    return parse_keys(keys.file.read_bytes())


def test_a_key_is_printed_alone_and_its_hash_is_kept(keys):
    secret = keys("create", "--tenant", "web").strip()
    assert is_whole(secret)
    (key,) = stored(keys)
    assert (key.sha256, key.tenant, key.scope) == (sha256_of(secret), "web", "infer")
    assert key.models is None
    assert key.expires is None
    assert secret not in keys.file.read_text()


def test_what_it_opens_and_until_when_is_said_when_it_is_made(keys):
    keys("create", "--tenant", "lab", "--models", "a, b", "--scope", "admin", "--expires", "90d")
    (key,) = stored(keys)
    assert (key.models, key.scope) == (("a", "b"), "admin")
    assert abs(key.expires - datetime.now(UTC) - timedelta(days=90)) < timedelta(hours=1)


def test_several_of_a_tenant_are_listed_and_one_is_revoked(keys):
    assert "has no keys" in keys("list")
    for _ in range(2):
        keys("create", "--tenant", "web")
    first, second = stored(keys)
    listed = keys("list")
    assert first.id in listed
    assert second.id in listed
    assert keys("revoke", first.id) == f"revoked {first.id}\n"
    assert stored(keys) == (second,)


def test_a_key_is_rotated_and_the_old_one_is_good_for_a_while(keys):
    keys("create", "--tenant", "lab", "--models", "a", "--expires", "30d")
    (old,) = stored(keys)
    secret = keys("rotate", old.id, "--grace", "2h").strip()
    ending, new = stored(keys)
    assert ending.id == old.id
    assert ending.expires < datetime.now(UTC) + timedelta(hours=3)
    assert (new.sha256, new.tenant, new.models) == (sha256_of(secret), "lab", ("a",))
    assert new.expires > datetime.now(UTC) + timedelta(days=29)


def test_one_that_is_over_sooner_than_the_grace_is_not_made_to_last(keys):
    keys("create", "--tenant", "web", "--expires", "1h")
    (old,) = stored(keys)
    keys("rotate", old.id, "--grace", "5d")
    assert stored(keys)[0].expires == old.expires


def test_one_that_has_expired_says_so(keys):
    keys("create", "--tenant", "web", "--expires", "1m")
    text = keys.file.read_text()
    (key,) = stored(keys)
    past = key.model_copy(update={"expires": datetime(2020, 1, 1, tzinfo=UTC)})
    keys.file.write_text(text.replace(key.model_dump_json(), past.model_dump_json()))
    keys.file.write_text(text.replace(f"{key.expires:%Y-%m-%d}T", "2020-01-01T"))
    assert "expired" in keys("list")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("revoke", "nobody"), "has no key 'nobody'"),
        (("rotate", "nobody"), "has no key 'nobody'"),
        (("create", "--tenant", "a b"), "tenant"),
        (("create", "--tenant", "web", "--models", ""), "models"),
        (("create", "--tenant", "web", "--expires", "tomorrow"), "'tomorrow' is no time to come"),
        (("create", "--tenant", "web", "--expires", "0d"), "'0d' is no time to come"),
        (("list", "--release", "x"), "give its --namespace too"),
    ],
)
def test_what_cannot_be_done_is_said(keys, refused, arguments, said):
    assert said in refused("keys", *arguments, "--config", keys.config)


def test_without_a_word_on_keys_in_the_file_there_is_none_to_make(tmp_path, refused):
    config = tmp_path / "strata.yaml"
    config.write_text("models: []\n")
    said = refused("keys", "create", "--tenant", "web", "--config", config)
    assert "add `access: {keys: keys.json}`" in said
