import hashlib
import io
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from serve.errors import RepositoryError
from serve.repository.layout import BASELINE
from serve.repository.manifest import (
    FileRecord,
    Manifest,
    copy,
    parse_manifest,
    record,
    require_same,
    verify,
)
from serve.types import Signature, TensorSpec

_NAMES = st.text("abcz_/é ", min_size=1, max_size=8)
_JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.floats(-1e9, 1e9) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=8,
)
_SPECS = st.builds(
    TensorSpec,
    _NAMES,
    st.sampled_from(["FP32", "BYTES"]),
    st.none() | st.lists(st.integers(-1, 300), max_size=4).map(tuple),
)
_SIGNATURES = st.builds(
    Signature,
    _NAMES,
    st.lists(_SPECS, max_size=3).map(tuple),
    st.lists(_SPECS, max_size=3).map(tuple),
    st.booleans(),
)
_MANIFESTS = st.builds(
    Manifest,
    st.text("abc-", min_size=1),
    st.integers(1, 10**18 - 1),
    st.sampled_from(["savedmodel", "keras", "h5"]),
    st.just("2026-01-01T00:00:00+00:00"),
    st.dictionaries(
        st.sampled_from(["model.keras", "sub/model.h5", "déjà vu.png"]),
        st.builds(
            FileRecord, st.text("0123456789abcdef", min_size=64, max_size=64), st.integers(0)
        ),
    ),
    st.dictionaries(st.text(), _JSON, max_size=4),
    st.none() | _SIGNATURES,
)


@settings(max_examples=50)
@given(_MANIFESTS)
def test_a_manifest_is_read_as_it_was_written(manifest):
    assert parse_manifest(manifest.to_json()) == manifest


def _tree(**changed):
    files = {"model.keras": {"sha256": "0" * 64, "bytes": 3}}
    tree = {"model": "digits", "version": 1, "format": "keras", "created": "now", "files": files}
    return {**tree, **changed}


def _parse(tree):
    return parse_manifest(json.dumps(tree).encode())


def test_a_manifest_of_a_later_release_is_read_as_far_as_it_is_known():
    assert _parse(_tree(compression="zstd")) == _parse(_tree())


@pytest.mark.parametrize(
    ("tree", "said"),
    [
        ({"model": "digits"}, "manifest.json is broken: version: field required"),
        (_tree(format="pickle"), "manifest.json is broken: format: input should be 'savedmodel'"),
        (_tree(files={"a": {"sha256": "0"}}), r"broken: files\.a\.bytes: field required"),
        ([], "manifest.json is broken: "),
    ],
)
def test_a_broken_manifest_is_refused_with_the_key_that_is_wrong(tree, said):
    with pytest.raises(RepositoryError, match=said):
        _parse(tree)


@pytest.mark.parametrize("cut", [0, 1, 40, -3])
def test_a_manifest_that_is_cut_off_is_broken(cut):
    with pytest.raises(RepositoryError, match=r"manifest\.json is broken"):
        parse_manifest(json.dumps(_tree()).encode()[:cut])


@pytest.mark.parametrize(
    "path", ["../secret", "/etc/passwd", "a/../../secret", "a//b", "./a", "a\\b", ""]
)
def test_a_file_outside_of_the_version_is_refused(path):
    with pytest.raises(RepositoryError, match="leaves the version's folder"):
        _parse(_tree(files={path: {"sha256": "0" * 64, "bytes": 3}}))


def test_metadata_that_is_not_json_is_refused():
    manifest = Manifest("digits", 1, "keras", "now", {}, {"accuracy": object()})
    with pytest.raises(RepositoryError, match="the metadata is not JSON"):
        manifest.to_json()


def test_the_size_of_a_version_is_that_of_all_its_files():
    files = {"a": FileRecord("0" * 64, 3), "b": FileRecord("1" * 64, 4)}
    assert Manifest("digits", 1, "keras", "now", files).size_bytes == 7


@pytest.mark.parametrize("size", [0, 1, 2**20 - 1, 2**20, 2**20 + 1, 3 * 2**20 + 7])
def test_a_copy_is_exact_and_its_record_is_the_one_of_the_file(tmp_path, size):
    content = bytes(range(251)) * (size // 251 + 1)
    content = content[:size]
    with (tmp_path / "file").open("wb") as target:
        copied = copy(io.BytesIO(content), target)
    assert (tmp_path / "file").read_bytes() == content
    assert copied == record(tmp_path / "file")
    assert copied == FileRecord(hashlib.sha256(content).hexdigest(), size)


@pytest.fixture
def version(tmp_path):
    """A version folder of two files, and its manifest."""
    (tmp_path / "sub").mkdir()
    paths = ("model.keras", "sub/notes", BASELINE)
    for path in paths:
        (tmp_path / path).write_bytes(path.encode())
    files = {path: record(tmp_path / path) for path in paths}
    return tmp_path, Manifest("digits", 1, "keras", "now", files)


def test_a_version_as_it_was_published_passes(version):
    folder, manifest = version
    (folder / "stray").write_bytes(b"not in the manifest")
    verify(manifest, folder)


def test_a_changed_file_of_the_same_size_is_named(version):
    folder, manifest = version
    (folder / "sub/notes").write_bytes(b"sub/NOTES")
    with pytest.raises(RepositoryError, match=r"/sub/notes' is not the file that was published"):
        verify(manifest, folder)


def test_a_missing_file_is_an_error_of_the_disk(version):
    folder, manifest = version
    (folder / "sub/notes").unlink()
    with pytest.raises(FileNotFoundError, match="sub/notes"):
        verify(manifest, folder)


def test_a_changed_baseline_does_not_keep_a_model_from_being_served(version):
    folder, manifest = version
    (folder / BASELINE).write_bytes(b"changed")
    verify(manifest, folder)
    changed = record(folder / BASELINE)
    with pytest.raises(RepositoryError, match=changed.sha256):  # whoever reads it says so
        require_same(manifest.files[BASELINE], changed, "the baseline")
