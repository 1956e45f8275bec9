import numpy as np
import pytest

from serve.protocols.npz import read_arrays


def test_arrays_come_by_name_and_strings_as_bytes(tmp_path):
    np.savez(tmp_path / "a.npz", x=np.ones((2, 3)), text=np.array(["ä", "b"]), raw=np.array([b"c"]))
    arrays = read_arrays(tmp_path / "a.npz")
    assert arrays["x"].shape == (2, 3)
    assert arrays["text"].tolist() == ["ä".encode(), b"b"]
    assert (arrays["raw"].dtype, arrays["raw"].tolist()) == (object, [b"c"])


@pytest.mark.parametrize("content", [b"", b"nothing of the kind"])
def test_a_file_that_is_none_is_named(tmp_path, content):
    (tmp_path / "a.npz").write_bytes(content)
    with pytest.raises(ValueError, match=r"a\.npz: cannot be read as \.npz"):
        read_arrays(tmp_path / "a.npz")
