import numpy as np
import pytest

from serve.errors import ConfigError
from serve.evaluation.dataset import held_out, read_npz


def test_an_npz_holds_inputs_by_name_and_labels(tmp_path):
    path = tmp_path / "data.npz"
    np.savez(path, text=np.array(["für", "a"]), x=np.ones((2, 3)), label=np.array([[1], [0]]))
    data = read_npz(path)
    assert data.inputs["text"].tolist() == ["für".encode(), b"a"]
    assert data.labels.tolist() == [1, 0]
    assert data.rows(np.array([1])).inputs["x"].shape == (1, 3)


def test_a_row_may_have_several_labels(tmp_path):
    path = tmp_path / "data.npz"
    np.savez(path, x=np.ones((2, 3)), label=np.array([[1, 0], [1, 1]]))
    assert read_npz(path).labels.tolist() == [[1, 0], [1, 1]]


@pytest.mark.parametrize(
    ("arrays", "said"),
    [
        ({"x": np.ones(0), "label": np.ones(0)}, "'label' needs a number or a text for each row"),
        ({"x": np.ones(1), "label": np.ones(1, complex)}, "'label' needs a number or a text"),
        ({"x": np.ones(2), "label": np.int64(3)}, "every array needs rows"),
        ({"x": np.ones(2)}, "needs 'label' and an array for each input"),
        ({"label": np.ones(2)}, "needs 'label' and an array for each input"),
        ({"x": np.ones(3), "label": np.ones(2)}, "the arrays differ in rows: x 3, label 2"),
        ({"x": np.array([{}], object), "label": np.ones(1)}, "cannot be read as .npz"),
    ],
)
def test_data_that_cannot_be_used_is_refused_by_name(tmp_path, arrays, said):
    path = tmp_path / "data.npz"
    np.savez(path, **arrays)
    with pytest.raises(ConfigError, match=said):
        read_npz(path)


def test_what_is_no_npz_is_refused(tmp_path):
    path = tmp_path / "data.npz"
    path.write_text("label")
    with pytest.raises(ConfigError, match=r"data\.npz: cannot be read"):
        read_npz(path)
    with pytest.raises(ConfigError, match=r"none\.npz"):
        read_npz(tmp_path / "none.npz")


def test_held_out_data_comes_with_reference_models_alone():
    data = held_out({"data": "digits"}, "digits")
    assert data.inputs["image"].shape == (1000, 28, 28, 1)
    phrases = held_out({"data": "language"}, "language")
    assert set(phrases.labels) <= {b"de", b"en", b"es", b"fr", b"it", b"nl", b"pt", b"ru"}
    with pytest.raises(ConfigError, match="'mine' does not say what data"):
        held_out({}, "mine")
