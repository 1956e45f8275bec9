import sys
import threading

import pytest

from serve.errors import RepositoryError
from serve.repository.layout import MANIFEST
from serve.repository.publish import publish
from serve.repository.repository import Repository


def test_only_whole_versions_with_a_proper_number_are_listed(
    repository, put, saved_model, tmp_path
):
    put(repository, saved_model, "digits", 9)
    put(repository, saved_model, "digits", 10)
    for name in ("0", "01", "v1", "1.0", ".2", "3.tmp", "-4"):
        put(repository, saved_model, "digits", name)
    (saved_model / "variables/variables.index").unlink()
    put(repository, saved_model, "digits", 11)
    assert repository.versions("digits") == [9, 10]
    assert repository.incomplete("digits") == {11: "variables/variables.index is missing"}
    assert repository.models() == ["digits"]
    assert repository.versions("letters") == []


def test_a_broken_manifest_hides_its_version_and_no_other(repository, keras_file, tmp_path):
    for _ in range(2):
        publish(keras_file, repository, "digits")
    (tmp_path / "cut").write_bytes(b'{"model": "dig')
    repository.store.upload(tmp_path / "cut", f"digits/2/{MANIFEST}")
    assert repository.versions("digits") == [1]
    assert "manifest.json is broken" in repository.incomplete("digits")[2]


def test_a_manifest_cannot_reach_out_of_its_folder(repository, keras_file, tmp_path):
    publish(keras_file, repository, "digits")
    text = repository.store.read(f"digits/1/{MANIFEST}").replace(b"model.keras", b"../../secret")
    (tmp_path / "evil").write_bytes(text)
    repository.store.upload(tmp_path / "evil", f"digits/1/{MANIFEST}")
    with pytest.raises(RepositoryError, match="leaves the version's folder"):
        repository.fetch("digits", 1)


def test_a_tampered_file_is_refused_with_both_hashes(repository, keras_file, tmp_path):
    published = publish(keras_file, repository, "digits")
    altered = bytearray(keras_file.read_bytes())
    altered[100] ^= 1
    (tmp_path / "altered").write_bytes(altered)
    repository.store.upload(tmp_path / "altered", "digits/1/model.keras")
    expected = published.manifest.files["model.keras"].sha256
    with pytest.raises(
        RepositoryError, match=rf"model\.keras.*expected {expected}, found [0-9a-f]"
    ):
        repository.fetch("digits", 1)


def test_an_added_model_file_does_not_replace_the_published_one(
    local, keras_file, saved_model, put
):
    publish(keras_file, local, "digits")
    put(local, saved_model, "digits", 1)
    with pytest.raises(RepositoryError, match="another model"):
        local.fetch("digits", 1)


def test_a_fetched_copy_is_reused_and_a_spoilt_one_made_anew(keras_file, tmp_path, monkeypatch):
    repository = Repository("memory://reused", tmp_path / "cache")
    publish(keras_file, repository, "digits")
    first = repository.fetch("digits", 1)
    download = repository.store.download
    downloads = []
    monkeypatch.setattr(
        repository.store, "download", lambda *a: (downloads.append(a), download(*a))
    )
    assert repository.fetch("digits", 1) == first
    assert downloads == []
    (first / "model.keras").write_bytes(b"spoilt")
    assert (repository.fetch("digits", 1) / "model.keras").read_bytes() == keras_file.read_bytes()
    assert len(downloads) == 2


def test_replicas_that_fetch_at_once_share_one_copy(keras_file, tmp_path):
    publish(keras_file, Repository("memory://shared", tmp_path / "cache"), "digits")
    paths = []

    def fetch():
        paths.append(Repository("memory://shared", tmp_path / "cache").fetch("digits", 1))

    threads = [threading.Thread(target=fetch) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(paths) == 8
    assert len(set(paths)) == 1
    visible = [p.name for p in paths[0].parent.iterdir() if not p.name.startswith(".")]
    assert visible == [paths[0].name]


def test_an_unknown_version_names_those_there_are(repository, keras_file):
    publish(keras_file, repository, "digits", 4)
    with pytest.raises(RepositoryError, match=r"no version 7 .*\(available: 4\)"):
        repository.fetch("digits", 7)


def test_a_missing_root_is_an_error_and_a_missing_model_is_not(tmp_path):
    with pytest.raises(RepositoryError, match=r"nowhere.*no such folder"):
        Repository(str(tmp_path / "nowhere"), tmp_path).versions("digits")


def test_a_missing_library_says_what_to_install(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "gcsfs", None)
    with pytest.raises(RepositoryError, match=r"pip install 'strata-serve\[gs\]'"):
        Repository("gs://bucket", tmp_path)


def test_versions_are_read_over_http(http_root, keras_file, saved_model, put, tmp_path):
    folder, url = http_root
    publish(keras_file, Repository(str(folder), tmp_path), "digits")
    put(Repository(str(folder), tmp_path), saved_model, "digits", 2)
    repository = Repository(url, tmp_path / "cache")
    assert repository.models() == ["digits"]
    assert repository.versions("digits") == [1, 2]
    assert (repository.fetch("digits", 1) / "model.keras").read_bytes() == keras_file.read_bytes()
    fetched = repository.fetch("digits", 2) / "variables/variables.index"
    assert fetched.read_bytes() == (saved_model / "variables/variables.index").read_bytes()
    with pytest.raises(RepositoryError, match="read-only"):
        publish(keras_file, repository, "digits")


def test_a_server_that_is_away_is_an_error_that_names_the_root(tmp_path):
    with pytest.raises(RepositoryError, match=r"repository 'http://127\.0\.0\.1:9'"):
        Repository("http://127.0.0.1:9", tmp_path).versions("digits")


def test_a_version_that_was_completed_later_appears(repository, put, keras_file, make, tmp_path):
    source = tmp_path / "s"
    source.mkdir()
    (source / "m.keras").write_bytes(keras_file.read_bytes()[:500])
    put(repository, source, "digits", 1)
    assert repository.versions("digits") == []
    make.keras(source / "m.keras")
    put(repository, source, "digits", 1)
    assert repository.versions("digits") == [1]
