import json
import os
import stat
import threading

import pytest

from serve.deploy import key_file
from serve.deploy.key_file import KeyFile, who
from serve.edge.keys import new_key, new_secret
from serve.errors import ConfigError


def a_key(tenant="web"):
    return new_key(new_secret(), tenant)


def test_a_file_that_is_not_there_has_no_keys_and_is_made_for_its_owner_alone(tmp_path):
    file, key = KeyFile(tmp_path / "keys.json"), a_key()
    assert file.read() == ()
    file.change(lambda before: (*before, key), "create", (key.id,))
    assert file.read() == (key,)
    for path in (file.path, tmp_path / "keys.json.audit.log"):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_each_change_is_written_down(tmp_path, monkeypatch):
    monkeypatch.setenv("USER", "ada")
    monkeypatch.setenv("LOGNAME", "ada")
    file, key = KeyFile(tmp_path / "keys.json"), a_key()
    file.change(lambda before: (key,), "create", (key.id,))
    file.change(lambda before: (), "revoke", (key.id,))
    lines = (tmp_path / "keys.json.audit.log").read_text().splitlines()
    told = [json.loads(line) for line in lines]
    assert [(each["action"], each["keys"]) for each in told] == [
        ("create", [key.id]),
        ("revoke", [key.id]),
    ]
    assert all(each["who"] == "ada" and each["from"] and each["time"] for each in told)


def test_a_user_without_a_name_is_a_number(monkeypatch):
    def nobody():
        raise KeyError("getpwuid(): uid not found: 12345")

    monkeypatch.setattr("serve.deploy.key_file.getpass.getuser", nobody)
    assert who() == str(os.getuid())


def test_what_cannot_be_written_down_is_not_done(tmp_path):
    file, key = KeyFile(tmp_path / "keys.json"), a_key()
    (tmp_path / "keys.json.audit.log").mkdir()
    with pytest.raises(ConfigError, match="cannot be changed: Is a directory"):
        file.change(lambda before: (key,), "create", (key.id,))
    assert not file.path.exists()


def test_what_could_not_be_done_is_written_down_as_that(tmp_path, monkeypatch):
    file, key = KeyFile(tmp_path / "keys.json"), a_key()

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(key_file, "write_whole", full)
    with pytest.raises(ConfigError, match="cannot be changed: No space left"):
        file.change(lambda before: (key,), "create", (key.id,))
    lines = (tmp_path / "keys.json.audit.log").read_text().splitlines()
    assert [json.loads(line)["action"] for line in lines] == ["create", "create failed"]


def test_two_links_to_a_file_are_links_to_it_when_it_was_changed(tmp_path):
    keys = [a_key(), a_key()]
    (tmp_path / "real").mkdir()
    for name, key in zip(("one.json", "other.json"), keys, strict=True):
        (tmp_path / name).symlink_to(tmp_path / "real/keys.json")
        KeyFile(tmp_path / name).change(lambda before: (*before, key), "create", (key.id,))  # noqa: B023
    for name in ("one.json", "other.json"):
        assert (tmp_path / name).is_symlink()
        assert KeyFile(tmp_path / name).read() == tuple(keys)
    assert len((tmp_path / "real/keys.json.audit.log").read_text().splitlines()) == 2


def test_what_no_file_may_have_is_not_written(tmp_path):
    file, key = KeyFile(tmp_path / "keys.json"), a_key()
    file.change(lambda before: (key,), "create", (key.id,))
    twin = a_key().model_copy(update={"id": key.id})
    with pytest.raises(ConfigError, match="2 keys have the id"):
        file.change(lambda before: (*before, twin), "create", (twin.id,))
    assert file.read() == (key,)


def test_changes_of_two_at_once_are_both_there(tmp_path):
    file, keys = KeyFile(tmp_path / "keys.json"), [a_key() for _ in range(20)]

    def add(key):
        file.change(lambda before: (*before, key), "create", (key.id,))

    threads = [threading.Thread(target=add, args=[key]) for key in keys]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {key.id for key in file.read()} == {key.id for key in keys}


@pytest.mark.parametrize("text", ["", "{", '{"version": 1, "keys": [{}]}'])
def test_a_file_of_something_else_is_not_written_over(tmp_path, text):
    file = KeyFile(tmp_path / "keys.json")
    file.path.write_text(text)
    with pytest.raises(ConfigError, match=r"keys\.json is no file of keys"):
        file.change(lambda before: (a_key(),), "create", ())
    assert file.path.read_text() == text


def test_a_change_that_is_refused_changes_nothing(tmp_path):
    file, key = KeyFile(tmp_path / "keys.json"), a_key()
    file.change(lambda before: (key,), "create", (key.id,))

    def refuse(before):
        raise ConfigError("no")

    with pytest.raises(ConfigError, match="no"):
        file.change(refuse, "revoke", ("x",))
    assert file.read() == (key,)
    assert len((tmp_path / "keys.json.audit.log").read_text().splitlines()) == 1


def test_a_folder_that_is_not_there_is_told(tmp_path):
    with pytest.raises(ConfigError, match="cannot be changed: No such file or directory"):
        KeyFile(tmp_path / "none" / "keys.json").change(lambda before: (), "create", ())
