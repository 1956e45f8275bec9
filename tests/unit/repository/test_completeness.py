import pytest

from serve.repository.completeness import examine
from serve.repository.store import Store


def _problem(folder):
    store = Store(str(folder.parent))
    return examine(store, folder.name, store.walk(folder.name)).problem


def _cuts(folder):
    """Yield the folder with each file missing, and cut off at twelve lengths."""
    for file in [path for path in folder.rglob("*") if path.is_file()]:
        whole = file.read_bytes()
        file.unlink()
        yield f"no {file.name}"
        for twelfth in range(12):
            file.write_bytes(whole[: len(whole) * twelfth // 12])
            yield f"{twelfth}/12 of {file.name}"
        file.write_bytes(whole)


@pytest.mark.parametrize(
    ("kind", "name"), [("saved_model", "model.savedmodel"), ("keras", "m.keras"), ("h5", "m.h5")]
)
def test_no_cut_of_a_hand_copied_model_passes_for_whole(tmp_path, make, kind, name):
    folder = tmp_path / "1"
    folder.mkdir()
    getattr(make, kind)(folder / name)
    assert _problem(folder) is None
    assert [what for what in _cuts(folder) if _problem(folder) is None] == []
    assert _problem(folder) is None


def test_a_saved_model_at_the_top_of_the_version_is_whole(saved_model):
    assert _problem(saved_model) is None


def test_variables_that_are_not_there_yet_are_missed(saved_model):
    for path in (saved_model / "variables").iterdir():
        path.unlink()
    assert _problem(saved_model) == "variables/variables.index is missing"
    (saved_model / "variables").rmdir()
    assert _problem(saved_model) == "variables/variables.index is missing"


def test_weights_alone_are_no_model(tmp_path, make):
    make.h5(tmp_path / "model.weights.h5")
    assert "no model" in _problem(tmp_path)
