"""Which files are certificates, keys and CAs that HAProxy may have."""

from datetime import UTC, datetime
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)

from serve.edge.haproxy.certificates import expires, names_in, read_certificate, read_client_ca
from serve.edge.haproxy.settings import Tls
from serve.errors import ConfigError
from tests.authority import DAY, Authority

NOW = datetime.now(UTC)
AUTHORITY = Authority()
PAIR = AUTHORITY.pair("localhost", "127.0.0.1", "*.models.example")


def tls(folder, certificate=PAIR.certificate, key=PAIR.key, ca=None):
    paths = {"certificate": certificate, "key": key, "client_ca": ca}
    for name, text in paths.items():
        if text is not None:
            (folder / name).write_bytes(text if isinstance(text, bytes) else text.encode())
    return Tls(folder / "certificate", folder / "key", ca and folder / "client_ca")


def test_certificate_chain_and_key_become_one_text_without_what_is_beside_them(tmp_path):
    chain = f"subject=/CN=x\n\n{PAIR.certificate}\n\n# and\n{AUTHORITY.certificate}"
    text = read_certificate(tls(tmp_path, chain, f"\n{PAIR.key}\n"), NOW)
    assert text == PAIR.certificate + AUTHORITY.certificate + PAIR.key
    assert NOW < expires(text) < NOW + 31 * DAY


def test_both_may_be_in_one_file(tmp_path):
    both = PAIR.key + PAIR.certificate
    assert read_certificate(tls(tmp_path, both, both), NOW) == PAIR.certificate + PAIR.key


@pytest.mark.parametrize("form", [PrivateFormat.PKCS8, PrivateFormat.TraditionalOpenSSL])
def test_each_form_of_a_key_is_read(tmp_path, form):
    key = load_pem_private_key(PAIR.key.encode(), None)
    text = key.private_bytes(Encoding.PEM, form, NoEncryption())
    assert read_certificate(tls(tmp_path, key=text), NOW).endswith(PAIR.key)


def encrypted():
    key = load_pem_private_key(PAIR.key.encode(), None)
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"x"))


def rsa_key():
    key = rsa.generate_private_key(65537, 2048)
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


CHAIN = PAIR.certificate + AUTHORITY.certificate


@pytest.mark.parametrize(
    ("files", "said"),
    [
        ({"key": AUTHORITY.pair("localhost").key}, "http.tls.key: {key} is not the key of the"),
        ({"key": rsa_key()}, "http.tls.key: {key} is not the key of the certificate in {cert}"),
        ({"key": encrypted()}, "http.tls.key: {key} needs a password"),
        ({"key": ""}, "http.tls.key: {key} is no PEM file of a key"),
        ({"key": PAIR.certificate}, "http.tls.key: {key} is no PEM file of a key"),
        ({"key": PAIR.key[:-40]}, "http.tls.key: {key} is no PEM file of a key, or only a part"),
        ({"certificate": ""}, "http.tls.certificate: {cert} is no PEM file of certificates"),
        ({"certificate": PAIR.key}, "http.tls.certificate: {cert} is no PEM file of certificates"),
        ({"certificate": b"\xff\x00"}, "http.tls.certificate: {cert} is no PEM file"),
        ({"certificate": CHAIN[:-60]}, "http.tls.certificate: {cert} is no PEM file of certif"),
        ({"certificate": CHAIN[:-400]}, "http.tls.certificate: {cert} is no PEM file of certif"),
        ({"certificate": AUTHORITY.certificate}, "http.tls.key: {key} is not the key of"),
    ],
)
def test_what_is_no_pair_is_told_with_the_file_and_the_key_of_the_config(tmp_path, files, said):
    where = tls(tmp_path, **files)
    with pytest.raises(ConfigError) as refused:
        read_certificate(where, NOW)
    assert said.format(key=where.key, cert=where.certificate) in str(refused.value)


@pytest.mark.parametrize("size", range(0, len(CHAIN), 97))
def test_no_part_of_a_chain_passes_for_the_whole_one_unless_it_ends_between_two(tmp_path, size):
    with pytest.raises(ConfigError):
        read_certificate(tls(tmp_path, CHAIN[:size]), NOW)


def test_a_file_that_is_missing_or_cannot_be_read_is_named(tmp_path):
    where = tls(tmp_path)
    where.key.unlink()
    with pytest.raises(ConfigError, match=r"http\.tls\.key: there is no .*/key"):
        read_certificate(where, NOW)
    where.certificate.unlink()
    where.certificate.mkdir()
    with pytest.raises(ConfigError, match=r"http\.tls\.certificate: .* cannot be read: Is a dir"):
        read_certificate(where, NOW)


def test_a_certificate_counts_from_its_beginning_to_its_end(tmp_path):
    pair = AUTHORITY.pair("localhost", begins=NOW - DAY, ends=NOW + DAY)
    where = tls(tmp_path, pair.certificate, pair.key)
    assert read_certificate(where, NOW)
    with pytest.raises(ConfigError, match=r"http\.tls\.certificate: .* expired at 20.*; renew it"):
        read_certificate(where, NOW + DAY)
    with pytest.raises(ConfigError, match=r"is valid from 20.* on only"):
        read_certificate(where, NOW - 2 * DAY)


def test_of_the_clients_cas_those_count_that_are_valid(tmp_path):
    good, over = Authority("good"), Authority("over", ends=NOW - DAY)
    where = tls(tmp_path, ca=over.certificate + good.certificate)
    assert read_client_ca(where, NOW) == good.certificate
    where = tls(tmp_path, ca=over.certificate)
    with pytest.raises(ConfigError, match=r"http\.tls\.client_ca: .*/client_ca expired at"):
        read_client_ca(where, NOW)
    with pytest.raises(ConfigError, match=r"http\.tls\.client_ca: there is no /none"):
        read_client_ca(Tls(Path(), Path(), Path("/none")), NOW)


def test_names_are_those_of_the_certificate(tmp_path):
    where = tls(tmp_path)
    assert names_in(where.certificate) == ["localhost", "*.models.example", "127.0.0.1"]
    where.certificate.write_text(AUTHORITY.certificate)
    assert names_in(where.certificate) == []
