import pytest

from serve.errors import RepositoryError
from serve.repository.folders import absence, look, top_level
from serve.repository.layout import NO_NUMBER
from tests.unit.repository.conftest import unprivileged


def test_versions_are_found_under_their_number_with_the_path_of_their_folder(
    repository, put, saved_model
):
    for name in ("1", "00000123", "v1"):
        put(repository, saved_model, "digits", name)
    found = look(repository.store, "digits")
    paths = {number: version.path for number, version in found.versions.items()}
    assert paths == {1: "digits/1", 123: "digits/00000123"}
    assert found.others == {"v1": NO_NUMBER}
    assert found.exists
    assert "variables/variables.index" in found.versions[123].listing.files
    assert found.versions[1].listing.folders >= {"variables"}


def test_a_look_into_an_object_store_is_one_listing_however_many_versions_there_are(
    repository, put, keras_file, monkeypatch, tmp_path
):
    if repository.is_local:
        pytest.skip("a disk is walked")
    (tmp_path / "one").mkdir()
    keras_file.rename(tmp_path / "one/model.keras")
    for number in range(1, 8):
        put(repository, tmp_path / "one", "digits", number)
    find, asked = repository.store._fs.find, []
    monkeypatch.setattr(
        repository.store._fs, "find", lambda *a, **k: (asked.append(a), find(*a, **k))[1]
    )
    assert len(look(repository.store, "digits").versions) == 7
    assert len(asked) == 1


def test_a_model_without_a_folder_is_told_from_an_empty_one(local):
    (local.store.local_path("empty")).mkdir()
    assert look(local.store, "empty").exists
    assert not look(local.store, "digits").exists


def test_a_model_outside_of_a_version_folder_is_named(repository, put, saved_model):
    if repository.is_local:
        repository.store.local_path("digits").mkdir()
    repository.store.upload(saved_model / "saved_model.pb", "digits/saved_model.pb")
    assert look(repository.store, "digits").misplaced == "saved_model.pb"


def test_a_version_folder_that_cannot_be_entered_is_a_version_with_a_reason(readable_root, make):
    from serve.repository.store import Store

    for name in ("1", "2"):
        (readable_root / "m" / name).mkdir(parents=True)
        make.keras(readable_root / "m" / name / "model.keras")
    (readable_root / "m/3").symlink_to("/nowhere")
    (readable_root / "m/2").chmod(0)
    with unprivileged():
        found = look(Store(str(readable_root)), "m").versions
    assert set(found[1].listing.files) == {"model.keras"}
    assert found[2].listing.problems == {"": "permission denied"}
    assert found[3].listing.problems == {"": "it is a link to '/nowhere', which is not there"}
    (readable_root / "m/2").chmod(0o755)


def test_a_misspelt_model_is_told_with_the_names_that_there_are(local):
    for name in ("digits", "letters", "lost+found", ".snapshot", "my model"):
        (local.store.local_path(name)).mkdir()
    assert absence(local.store, "digts") == (
        f"'{local.root}' has no folder 'digts' (there are: digits, letters); did you mean 'digits'?"
    )
    assert absence(local.store, "zzz").endswith("(there are: digits, letters)")
    names = {"digits": None, "letters": None, "my model": "its name cannot name a model"}
    assert top_level(local.store) == names


def test_a_root_that_is_not_there_is_an_error(local):
    local.store.local_path("").rmdir()
    with pytest.raises(RepositoryError, match="no such folder"):
        look(local.store, "digits")
