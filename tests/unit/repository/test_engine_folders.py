"""What was found out about engines is kept beside the versions, and found by their content."""

import os
from dataclasses import replace

import pytest

from serve.errors import RepositoryError
from serve.repository.engine_folders import content_of
from serve.repository.manifest import FileRecord, Manifest
from serve.repository.repository import Repository
from tests.unit.repository.conftest import unprivileged

_PLACE = ("digits", "c0ffee", "cpu")


@pytest.fixture
def made(tmp_path):
    """A folder as a trial leaves it."""
    return _made(tmp_path / "made", b"{}")


def _made(folder, verdict):
    folder.mkdir()
    for name, data in (("0.xml", b"<net/>"), ("0.bin", b"\0" * 9), ("verdict.json", verdict)):
        (folder / name).write_bytes(data)
    return folder


def _files(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.name[0] != "."}


def _fetched(repository):
    model, content, hardware = _PLACE
    return repository.fetch_engines(model, 1, content, hardware)


def test_engines_are_fetched_as_they_were_put(repository, made):
    assert _fetched(repository) is None
    assert repository.engines.stamp(*_PLACE) is None
    assert ".engines" in repository.engines.put(made, *_PLACE)
    folder = _fetched(repository)
    assert _files(folder) == _files(made)
    repository.release(folder)


def test_another_verdict_takes_the_place_of_the_one_before(repository, made, tmp_path):
    repository.engines.put(made, *_PLACE)
    before, first = repository.engines.stamp(*_PLACE), _fetched(repository)
    other = _made(tmp_path / "other", b'{"other": 1}')
    os.utime(other / "verdict.json", (1, 1))
    repository.engines.put(other, *_PLACE)
    assert repository.engines.stamp(*_PLACE) != before
    assert _files(_fetched(repository))["verdict.json"] == b'{"other": 1}'
    repository.release(first)


def test_engines_of_other_content_or_hardware_are_not_found(repository, made):
    repository.engines.put(made, *_PLACE)
    assert repository.fetch_engines("digits", 1, "other", "cpu") is None
    assert repository.fetch_engines("digits", 1, "c0ffee", "gpu") is None
    assert repository.fetch_engines("other", 1, "c0ffee", "cpu") is None


def test_a_folder_without_a_verdict_is_none(local, made):
    place = local.engines.put(made, *_PLACE)
    os.unlink(os.path.join(place, "verdict.json"))
    assert _fetched(local) is None


def test_engines_are_no_version_and_no_model(repository, made):
    repository.engines.put(made, *_PLACE)
    assert repository.versions("digits") == []
    assert repository.look("digits").problems == {}
    assert repository.models() == []


def test_in_s3_engines_are_kept_beside_the_versions(s3, made, tmp_path):
    repository = Repository(s3, tmp_path / "cache")
    repository.engines.put(made, *_PLACE)
    again = Repository(s3, tmp_path / "other-cache")
    assert _files(_fetched(again)) == _files(made)
    assert again.engines.stamp(*_PLACE) is not None


def test_what_cannot_be_written_to_keeps_its_engines_in_the_cache(readable_root, made, tmp_path):
    root, cache = readable_root / "root", readable_root / "cache"
    for folder in (root / "digits", cache):
        folder.mkdir(parents=True)
    made = made.rename(readable_root / "made")
    os.chmod(cache, 0o777)
    os.chmod(root / "digits", 0o555)
    with unprivileged():
        repository = Repository(str(root), cache)
        assert repository.engines.put(made, *_PLACE).startswith(str(cache))
        assert _files(_fetched(repository)) == _files(made)
        assert repository.engines.stamp(*_PLACE) is not None
        os.chmod(cache / ".engines", 0o555)
        repository.release(_fetched(repository))
        os.chmod(cache / ".engines" / "digits", 0o555)
        with pytest.raises(RepositoryError, match=r"can be kept neither in '.*' nor in '.*'"):
            repository.engines.put(made, "digits", "more", "cpu")


def test_over_http_engines_are_kept_in_the_cache(http_root, made, tmp_path):
    _, url = http_root
    repository = Repository(url, tmp_path / "cache")
    assert _fetched(repository) is None
    assert repository.engines.put(made, *_PLACE).startswith(str(tmp_path / "cache"))
    assert _files(_fetched(repository)) == _files(made)


def test_half_a_folder_is_never_seen(local, made, monkeypatch):
    place = local.engines.put(made, *_PLACE)

    def fails(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("serve.repository.engine_folders.shutil.copytree", fails)
    with pytest.raises(RepositoryError):
        local.engines.put(made, *_PLACE)
    assert _files(_fetched(local)) == _files(made)
    assert [path for path in os.listdir(os.path.dirname(place)) if path != "cpu"] == []


def test_the_content_is_that_of_the_models_files_alone():
    def content(**changes):
        manifest = Manifest("digits", 1, "keras", "now", {"model.keras": FileRecord("ab", 1)})
        return content_of(replace(manifest, **changes), "revision")

    same = {"version": 2, "created": "later", "model": "other"}
    assert content(**same) == content()
    files = {"model.keras": FileRecord("ab", 1)}
    assert content(files={**files, "drift-baseline.json": FileRecord("cd", 1)}) == content()
    assert content(files={"model.keras": FileRecord("cd", 1)}) != content()
    assert content(files={**files, "sample.npz": FileRecord("cd", 1)}) != content()
    assert content_of(None, "revision") == "revision"
