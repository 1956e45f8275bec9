"""`strata models`: every version of the repository, also those that cannot be served."""

import zipfile

import pytest

from serve.repository.publish import publish
from serve.repository.repository import Repository
from serve.selection.hardware import folder_of, hardware
from tests.unit.selection.fakes import verdict_with

_NOT_TRIED = ["ok;", "nothing", "else", "was", "tried", "yet"]


@pytest.fixture(autouse=True)
def wide(monkeypatch):
    """A terminal in which a row is a line."""
    monkeypatch.setenv("COLUMNS", "200")


@pytest.fixture
def repository(config):
    (config.parent / "models").mkdir()
    return Repository(str(config.parent / "models"), config.parent / "cache")


@pytest.fixture
def model_file(tmp_path):
    """A .keras file of 2 kB that is whole, though no model."""
    with zipfile.ZipFile(tmp_path / "model.keras", "w") as file:
        file.writestr("config.json", "{}")
        file.writestr("model.weights.h5", bytes(2000))
    return tmp_path / "model.keras"


def test_an_empty_repository_says_how_to_fill_it(strata, config, repository):
    code, printed, _ = strata("models", "-c", config)
    assert code == 0
    assert printed == f"{repository.root} holds no models; strata train digits makes one\n"


def test_models_lists_versions_with_format_size_and_time(strata, config, repository, model_file):
    created = [publish(model_file, repository, "digits").manifest.created for _ in range(2)]
    _, printed, _ = strata("models", "-c", config)
    header, _, *rows = [line.split() for line in printed.splitlines()]
    assert header == [
        *("MODEL", "VERSION", "FORMAT", "SIZE", "CREATED"),
        *("ENGINE", "SPEED", "MEMORY", "STATE"),
    ]
    days, minutes = zip(*(when[:16].split("T") for when in created), strict=True)
    assert rows == [
        ["digits", str(number), "keras", "2.2", "kB", day, minute, "-", "-", "-", *_NOT_TRIED]
        for number, day, minute in zip((1, 2), days, minutes, strict=True)
    ]


def test_a_version_that_is_not_whole_is_listed_with_what_is_missing(
    strata, config, repository, model_file
):
    folder = publish(model_file, repository, "digits").path
    (config.parent / folder / "model.keras").write_bytes(b"PK")
    _, printed, _ = strata("models", "-c", config)
    row = " ".join(printed.split())
    assert (
        "digits 1 - - - - - - model.keras is not the file that was published: it has 2 bytes" in row
    )


def test_a_version_that_was_copied_by_hand_has_no_format_and_is_served(
    strata, config, repository, model_file
):
    folder = config.parent / "models" / "digits" / "1"
    folder.mkdir(parents=True)
    model_file.rename(folder / "model.keras")
    _, printed, _ = strata("models", "-c", config)
    row = ["digits", "1", "-", "-", "-", "-", "-", "-", *_NOT_TRIED]
    assert printed.splitlines()[-1].split() == row


@pytest.mark.parametrize(
    ("chosen", "engine", "said"),
    [
        ("openvino", ["openvino", "2.0x,", "3.0x", "100.0", "MB"], "ok"),
        ("tensorflow", ["tensorflow", "1.0x,", "1.0x", "600.0", "MB"], "ok; openvino: it lies"),
    ],
)
def test_what_computes_a_version_is_listed_with_what_it_brings(
    strata, config, repository, model_file, trials, chosen, engine, said
):
    _put_verdict(repository, model_file, chosen)
    _, printed, _ = strata("models", "-c", config)
    cells = printed.splitlines()[-1].split()
    assert cells[7:] == [*engine, *said.split()]


def test_a_verdict_that_does_not_count_any_more_is_listed_with_the_reason(
    strata, config, repository, model_file
):
    _put_verdict(repository, model_file, "openvino", release="1.0")
    _, printed, _ = strata("models", "-c", config)
    said = " ".join(printed.splitlines()[-1].split())
    assert " tensorflow 1.0x, 1.0x 600.0 MB ok; it was tried with openvino 1.0, and " in said


def _put_verdict(repository, model_file, chosen, **changes):
    publish(model_file, repository, "digits")
    verdict = verdict_with(chosen=chosen, reason="openvino: it lies", **changes)
    folder = repository.cache_dir.parent / "made"
    folder.mkdir()
    (folder / "verdict.json").write_bytes(verdict.to_json())
    content = repository.content("digits", 1)
    repository.engines.put(folder, "digits", content, folder_of(hardware(0)))
