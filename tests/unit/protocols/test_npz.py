import io
import zipfile

import numpy as np
import pytest

from serve.protocols.npz import read_arrays


def test_arrays_come_by_name_and_strings_as_bytes(tmp_path):
    np.savez(tmp_path / "a.npz", x=np.ones((2, 3)), text=np.array(["ä", "b"]), raw=np.array([b"c"]))
    arrays = read_arrays(tmp_path / "a.npz")
    assert arrays["x"].shape == (2, 3)
    assert arrays["text"].tolist() == ["ä".encode(), b"b"]
    assert (arrays["raw"].dtype, arrays["raw"].tolist()) == (object, [b"c"])


def _written(write, *args, **arrays):
    file = io.BytesIO()
    write(file, *args, **arrays)
    return file.getvalue()


def _zip_of(content, flags=0):
    """Return a zip with one entry x.npy, which is marked with flags such as 1, encrypted."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("x.npy", content)
    zipped = bytearray(file.getvalue())
    for signature, offset in ((b"PK\3\4", 6), (b"PK\1\2", 8)):
        zipped[zipped.index(signature) + offset] |= flags
    return bytes(zipped)


_NPZ = _written(np.savez_compressed, x=np.arange(1000))
_NPY = _written(np.save, np.arange(3))


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"nothing of the kind",
        b"PK\3\4",
        _NPZ[:-1],
        _NPZ[: len(_NPZ) // 2],
        _NPZ[:60] + b"\xff" * 50 + _NPZ[110:],
        _NPY,
        _zip_of(_NPY, flags=1),
        _zip_of(_NPY[:-1]),
        _zip_of(_NPY.replace(b"'<i8'", b"'|O8'")),
        _zip_of(_NPY.replace(b"(3,)", b"(3,(")),
        _zip_of(_NPY.replace(b"(3,), }           ", b"(10000000000000,}  ")),
        _zip_of(_NPY.replace(b"(3,), }            ", b"(10000000000000,), }")),
    ],
)
def test_a_file_that_is_none_is_named(tmp_path, content):
    (tmp_path / "a.npz").write_bytes(content)
    with pytest.raises(ValueError, match=r"a\.npz: cannot be read as \.npz"):
        read_arrays(tmp_path / "a.npz")
