"""Signed versions: what is refused, in which words, and that openssl's keys and signatures do."""

import base64
import shutil
import subprocess

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)
from hypothesis import given
from hypothesis import strategies as st

from serve.errors import RepositoryError
from serve.repository.layout import MANIFEST, SIGNATURE
from serve.repository.manifest import Manifest
from serve.repository.publish import publish
from serve.repository.repository import Repository
from serve.repository.trust import Signer, Trust, require_signed, require_signer

_KEY = ed25519.Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
_OTHER = ed25519.Ed25519PrivateKey.from_private_bytes(bytes(32))


def _pem(key=_KEY):
    return key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()


def _write_private(path, key=_KEY, encryption=None):
    how = encryption or NoEncryption()
    path.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, how))
    return path


def _der(key=_KEY):
    data = key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return base64.b64encode(data).decode()


def _raw(key=_KEY):
    data = key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
    return base64.b64encode(data).decode()


@pytest.fixture
def signed(repository, keras_file, tmp_path):
    """A repository of which versions have to be signed, and its signed version 1 of `digits`."""
    trust = Trust(require_signed=True, public_keys=(_pem(),))
    found = Repository(repository.root, tmp_path / "cache", trust=trust)
    publish(keras_file, found, "digits", signer=Signer(_KEY))
    return found


def _put(repository, path, data, tmp_path):
    (tmp_path / "put").write_bytes(data)
    if repository.is_local:
        repository.store.local_path(path).parent.mkdir(parents=True, exist_ok=True)
    repository.store.upload(tmp_path / "put", path)


def _refusal(repository, version=1, model="digits"):
    with pytest.raises(RepositoryError) as caught, repository.reading(model, version):
        pytest.fail("it is loaded")
    with pytest.raises(RepositoryError):  # so `strata models` shows it
        repository.manifest(model, version)
    return str(caught.value)


def test_a_signed_version_is_loaded_and_is_whole_without_its_signature_too(signed):
    with signed.reading("digits", 1) as fetched:
        assert (fetched.path / MANIFEST).is_file()
    assert signed.versions("digits") == [1]


def test_an_unsigned_version_is_refused_with_the_way_out(signed, tmp_path):
    signed.store.remove(f"digits/1/{SIGNATURE}")
    error = _refusal(signed)
    assert f"{signed.store.url('digits/1')}' cannot be served: it is not signed" in error
    assert "--sign KEYFILE" in error


def test_a_version_without_a_manifest_is_refused(signed, put, saved_model):
    put(signed, saved_model, "digits", 2)
    assert "it has no manifest.json, so nobody can have signed it" in _refusal(signed, 2)


@pytest.mark.parametrize("length", [0, 1, 63, 65, 1000])
def test_a_signature_that_is_cut_off_or_too_long_is_refused(signed, tmp_path, length):
    whole = signed.store.read(f"digits/1/{SIGNATURE}")
    _put(signed, f"digits/1/{SIGNATURE}", (whole * 20)[:length], tmp_path)
    assert f"{SIGNATURE} is broken: it has {min(length, 65)} bytes instead of 64" in _refusal(
        signed
    )


@pytest.mark.parametrize("place", [0, 31, 32, 63])
def test_a_signature_with_one_other_bit_is_refused(signed, tmp_path, place):
    data = bytearray(signed.store.read(f"digits/1/{SIGNATURE}"))
    data[place] ^= 1
    _put(signed, f"digits/1/{SIGNATURE}", bytes(data), tmp_path)
    assert "is by none of repository.public_keys, or of another manifest" in _refusal(signed)


def test_a_signature_by_an_unknown_key_is_refused(signed, tmp_path):
    data = signed.store.read(f"digits/1/{MANIFEST}")
    _put(signed, f"digits/1/{SIGNATURE}", _OTHER.sign(data), tmp_path)
    assert "is by none of repository.public_keys" in _refusal(signed)


def test_a_manifest_that_was_altered_is_refused(signed, tmp_path):
    data = signed.store.read(f"digits/1/{MANIFEST}")
    _put(signed, f"digits/1/{MANIFEST}", data + b" ", tmp_path)
    assert "or of another manifest" in _refusal(signed)


@pytest.mark.parametrize("place", ["digits/2", "letters/1"])
def test_a_signed_version_that_was_copied_to_another_place_is_refused(signed, tmp_path, place):
    for name in (MANIFEST, SIGNATURE, "model.keras"):
        _put(signed, f"{place}/{name}", signed.store.read(f"digits/1/{name}"), tmp_path)
    model, version = place.split("/")
    error = _refusal(signed, int(version), model)
    assert f"it is signed as model 'digits' version 1, not as '{model}' version {version}" in error


@pytest.mark.parametrize("place", ["digits/2", "letters/1"])
def test_the_signature_of_another_version_or_model_is_refused(signed, tmp_path, keras_file, place):
    model, version = place.split("/")
    publish(keras_file, signed, model, int(version), signer=Signer(_KEY))
    borrowed = signed.store.read(f"digits/1/{SIGNATURE}")
    _put(signed, f"{place}/{SIGNATURE}", borrowed, tmp_path)
    assert "or of another manifest" in _refusal(signed, int(version), model)


def test_a_file_that_was_altered_is_refused_though_the_manifest_is_signed(
    signed, tmp_path, keras_file
):
    data = bytearray(keras_file.read_bytes())
    data[100] ^= 1
    _put(signed, "digits/1/model.keras", bytes(data), tmp_path)
    with pytest.raises(RepositoryError, match="is not the file that was published"):
        signed.fetch("digits", 1)


def test_without_require_signed_nothing_is_asked_for(signed, tmp_path):
    _put(signed, f"digits/1/{SIGNATURE}", b"none", tmp_path)
    anybody = Repository(signed.root, tmp_path / "cache", trust=Trust(public_keys=("nowhere",)))
    assert anybody.fetch("digits", 1)


def test_a_signature_that_is_added_later_is_another_revision(signed, tmp_path):
    signature = signed.store.read(f"digits/1/{SIGNATURE}")
    signed.store.remove(f"digits/1/{SIGNATURE}")
    before = signed.look("digits").revisions[1]
    _put(signed, f"digits/1/{SIGNATURE}", signature, tmp_path)
    assert signed.look("digits").revisions[1] != before  # so it is tried again at once


def test_engines_that_lie_in_the_repository_do_not_count_where_versions_are_signed(
    signed, tmp_path
):
    (tmp_path / "made").mkdir()
    (tmp_path / "made/verdict.json").write_text("{}")
    Repository(signed.root, tmp_path / "elsewhere").engines.put(
        tmp_path / "made", "digits", "abc", "cpu"
    )
    assert signed.fetch_engines("digits", 1, "abc", "cpu") is None
    assert signed.engines.stamp("digits", "abc", "cpu") is None
    assert signed.engines.put(tmp_path / "made", "digits", "abc", "cpu").startswith(
        str(tmp_path / "cache")
    )
    assert signed.fetch_engines("digits", 1, "abc", "cpu") is not None


def _manifest(name="m", version=1):
    return Manifest(name, version, "keras", "now", {})


@pytest.mark.parametrize("text", [_pem, _der, _raw])
@pytest.mark.parametrize("where", ["inline", "file"])
def test_keys_are_taken_in_every_form(text, where, tmp_path):
    key = text()
    if where == "file":
        (tmp_path / "key").write_text(f"{key}\n")
        key = str(tmp_path / "key")
    trust = Trust(True, (_pem(_OTHER), key))
    data = _manifest().to_json()
    require_signed(trust, _manifest(), data, _KEY.sign(data), ("m", 1))


@pytest.mark.parametrize(
    ("key", "said"),
    [
        ("/nowhere.pub", "neither an ed25519 public key .* nor a file that can be read: No such"),
        ("-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----", "holds no public key"),
        ("A" * 59 + "=", "holds no public key"),
    ],
)
def test_what_is_no_key_is_told_by_name(key, said):
    data = _manifest().to_json()
    with pytest.raises(RepositoryError, match=said):
        require_signed(Trust(True, (key,)), _manifest(), data, _KEY.sign(data), ("m", 1))


def test_keys_of_another_kind_and_encrypted_ones_are_refused(tmp_path):
    curve = ec.generate_private_key(ec.SECP256R1())
    data = _manifest().to_json()
    with pytest.raises(RepositoryError, match="is no ed25519 key"):
        require_signed(Trust(True, (_pem(curve),)), _manifest(), data, bytes(64), ("m", 1))
    with pytest.raises(RepositoryError, match="is no ed25519 key; make one with: openssl genpkey"):
        Signer.read(_write_private(tmp_path / "curve", curve))
    with pytest.raises(RepositoryError, match="is encrypted; decrypt it"):
        Signer.read(_write_private(tmp_path / "locked", encryption=BestAvailableEncryption(b"x")))
    (tmp_path / "text").write_text("no key")
    with pytest.raises(RepositoryError, match="no private key in PEM; make one"):
        Signer.read(tmp_path / "text")
    with pytest.raises(RepositoryError, match="cannot be read: No such file"):
        Signer.read(tmp_path / "nowhere")


def test_what_no_replica_would_load_is_not_published(signed, keras_file):
    with pytest.raises(RepositoryError, match="give the private key"):
        publish(keras_file, signed, "digits")
    with pytest.raises(RepositoryError, match=r"none of repository\.public_keys"):
        publish(keras_file, signed, "digits", signer=Signer(_OTHER))
    assert signed.versions("digits") == [1]
    require_signer(Trust(), Signer(_OTHER))  # where nothing is required, any key may sign


@given(st.binary(max_size=200), st.text("ab"), st.integers(0, 3))
def test_only_the_signature_of_these_very_bytes_passes(data, name, version):
    manifest = _manifest(name, version)
    trust = Trust(True, (_pem(),))
    require_signed(trust, manifest, data, _KEY.sign(data), (name, version))
    with pytest.raises(RepositoryError):
        require_signed(trust, manifest, data + b"x", _KEY.sign(data), (name, version))
    with pytest.raises(RepositoryError):
        require_signed(trust, manifest, data, _KEY.sign(data), (name, version + 1))


@pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl is not installed")
def test_openssl_makes_the_keys_and_signs_what_was_published_before(
    repository, keras_file, tmp_path
):
    def openssl(*arguments):
        subprocess.run(["openssl", *map(str, arguments)], check=True, capture_output=True)

    key, public = tmp_path / "strata.key", tmp_path / "strata.pub"
    openssl("genpkey", "-algorithm", "ed25519", "-out", key)
    openssl("pkey", "-in", key, "-pubout", "-out", public)
    publish(keras_file, repository, "digits")
    (tmp_path / MANIFEST).write_bytes(repository.store.read(f"digits/1/{MANIFEST}"))
    signature = tmp_path / SIGNATURE
    openssl(
        *("pkeyutl", "-sign", "-rawin", "-inkey", key),
        *("-in", tmp_path / MANIFEST, "-out", signature),
    )
    _put(repository, f"digits/1/{SIGNATURE}", signature.read_bytes(), tmp_path)
    trust = Trust(True, (str(public),))
    found = Repository(repository.root, tmp_path / "cache", trust=trust)
    assert found.fetch("digits", 1)
    assert publish(keras_file, found, "digits", signer=Signer.read(key)).manifest.version == 2
    assert found.fetch("digits", 2)
