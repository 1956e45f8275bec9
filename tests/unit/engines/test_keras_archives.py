"""Archives and weights that reach out of their file; a secret beside them is never read."""

import io
import stat
import zipfile

import h5py
import numpy as np
import pytest

from serve.engines import keras_archives
from serve.engines.engine import EngineOptions
from serve.engines.keras_archives import require_contained
from serve.engines.loading import load
from serve.errors import RepositoryError


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A `.keras` file as Keras writes it, with an asset, and its `.h5`."""
    import keras

    folder = tmp_path_factory.mktemp("whole")
    words = keras.layers.TextVectorization(vocabulary=["a", "b"], output_sequence_length=3)
    text = keras.Input((1,), dtype="string", name="text")
    embedded = keras.layers.Embedding(4, 2)(words(text))
    model = keras.Model(text, keras.layers.Dense(1)(keras.layers.Flatten()(embedded)))
    model.save(folder / "m.keras")
    plain = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    plain.save(folder / "m.h5")
    return folder


@pytest.fixture(params=[zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def rewritten(request, whole, tmp_path):
    """Write the whole archive anew, with other bytes for some entries and with more of them."""

    def rewritten(more=(), **changed):
        path = tmp_path / "m.keras"
        with (
            zipfile.ZipFile(whole / "m.keras") as before,
            zipfile.ZipFile(path, "w", request.param) as after,
        ):
            for name in before.namelist():
                key = name.replace(".", "_")
                after.writestr(name, changed.get(key, before.read(name)))
            for entry, content in more:
                after.writestr(entry, content)
        return path

    return rewritten


def _refusal(path):
    with pytest.raises(RepositoryError) as caught:
        load(path, EngineOptions())
    assert str(path) in str(caught.value)
    return str(caught.value)


def test_what_keras_writes_is_contained(whole, rewritten):
    for path in (whole / "m.keras", whole / "m.h5", rewritten()):
        require_contained(path)
    assert load(rewritten(), EngineOptions()).platform == "keras"


@pytest.mark.parametrize(
    "name",
    [
        "../evil",
        "assets/../../evil",
        "/etc/evil",
        "assets//evil",
        "assets/./evil",
        "..\\evil",
        "C:evil",
        "assets/evil\0.txt",
    ],
)
def test_a_name_that_leaves_the_folder_is_refused(rewritten, name):
    info = zipfile.ZipInfo("x" * len(name))
    path = rewritten([(info, b"evil")])
    path.write_bytes(path.read_bytes().replace(("x" * len(name)).encode(), name.encode()))
    assert "would be unpacked outside of its folder" in _refusal(path)


@pytest.mark.parametrize("mode", [stat.S_IFLNK, stat.S_IFCHR, stat.S_IFBLK, stat.S_IFIFO])
def test_a_link_or_a_device_is_refused(rewritten, mode):
    info = zipfile.ZipInfo("assets/link")
    info.external_attr = (mode | 0o777) << 16
    assert "'assets/link' is neither a file nor a folder" in _refusal(rewritten([(info, "/etc")]))


def test_an_entry_that_is_there_twice_is_refused(rewritten):
    with pytest.warns(UserWarning, match="Duplicate name"):
        path = rewritten([("config.json", b"{}")])
    assert "'config.json' is there twice" in _refusal(path)


def test_an_archive_that_unpacks_to_far_more_than_it_is_is_refused(rewritten, monkeypatch):
    monkeypatch.setattr(keras_archives, "_LEAST_BYTES", 2**20)
    path = rewritten()
    with zipfile.ZipFile(path, "a", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("assets/zeros", bytes(64 * 2**20))
    assert "it unpacks to 67" in _refusal(path)


def test_a_size_that_is_only_declared_counts(rewritten, monkeypatch):
    monkeypatch.setattr(keras_archives, "_LEAST_BYTES", 2**20)
    path = rewritten([("assets/small", b"x" * 1234)])
    size = (1234).to_bytes(4, "little")
    path.write_bytes(path.read_bytes().replace(size, (2**31).to_bytes(4, "little")))
    assert "times its size" in _refusal(path) or "cannot be read" in _refusal(path)


def _external_link(file, secret):
    file["layers/evil"] = h5py.ExternalLink(secret, "/")


def _external_storage(file, secret):
    file.create_dataset("evil", (8,), "u1", external=[(secret, 0, 8)])


def _virtual(file, secret):
    layout = h5py.VirtualLayout((8,), "u1")
    layout[:] = h5py.VirtualSource(secret, "x", (8,))
    file.create_virtual_dataset("deep/down/evil", layout)


def _huge(file, secret):
    file.create_dataset("evil", (2**40,), "f4", chunks=(2**20,))


_OUT = [
    (_external_link, "'/layers/evil' is a link into another file"),
    (_external_storage, "the numbers of '/evil' are in another file"),
    (_virtual, "the numbers of '/deep/down/evil' are in another file"),
    (_huge, "far more than it has"),
]


@pytest.mark.parametrize(("harm", "said"), _OUT)
def test_an_h5_that_reads_another_file_or_is_a_bomb_is_refused(whole, tmp_path, harm, said):
    secret = tmp_path / "secret"
    secret.write_bytes(b"password")
    path = tmp_path / "m.h5"
    path.write_bytes((whole / "m.h5").read_bytes())
    with h5py.File(path, "a") as file:
        harm(file, str(secret))
    assert said in _refusal(path)


@pytest.mark.parametrize(("harm", "said"), _OUT)
def test_weights_within_an_archive_are_looked_at_alike(whole, rewritten, tmp_path, harm, said):
    secret = tmp_path / "secret"
    secret.write_bytes(b"password")
    with zipfile.ZipFile(whole / "m.keras") as archive:
        weights = tmp_path / "weights.h5"
        weights.write_bytes(archive.read("model.weights.h5"))
    with h5py.File(weights, "a") as file:
        harm(file, str(secret))
    error = _refusal(rewritten(model_weights_h5=weights.read_bytes()))
    assert f"model.weights.h5: {said}" in error or said in error


def test_weights_that_cannot_be_looked_at_are_refused(rewritten):
    assert "model.weights.h5: it cannot be read" in _refusal(rewritten(model_weights_h5=b"no"))


def test_links_within_a_file_and_circles_of_them_are_walked_once(tmp_path):
    path = tmp_path / "m.h5"
    with h5py.File(path, "w") as file:
        file.create_group("a")["up"] = file["/"]
        file["soft"] = h5py.SoftLink("/a")
        file["nowhere"] = h5py.SoftLink("/not/there")
        file["a/x"] = np.ones(3)
    require_contained(path)


def test_what_is_no_archive_is_left_to_who_says_so(tmp_path):
    for name in ("m.keras", "m.h5"):
        (tmp_path / name).write_bytes(b"nothing")
        require_contained(tmp_path / name)


def test_a_window_is_the_part_of_the_file(tmp_path):
    file = io.BytesIO(b"before" + b"inside" + b"after")
    window = io.BufferedReader(keras_archives._Window(file, 6, 6))
    assert window.read() == b"inside"
    assert (window.seek(-2, io.SEEK_END), window.read(9)) == (4, b"de")
    assert (window.seek(99), window.read(1)) == (99, b"")
