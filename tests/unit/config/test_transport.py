"""What `http.tls` and `http.cors` take."""

import pytest
import yaml

from serve.config.file import load
from serve.errors import ConfigError

PAIR = "certificate: a.crt, key: a.key"
# Those of values of the chart, too.
ORIGINS = [
    "*",
    "http://localhost:5173",
    "https://app.example.com",
    "https://[::1]:8443",
    "http://a:443",
]
WRONG_ORIGINS = [
    "",
    "null",
    "app.example.com",
    "https://app.example.com/",
    "https://app.example.com/x",
    "https://App.example.com",
    "https://*.example.com",
    "https://app.example.com:443",
    "http://app.example.com:80",
    "ftp://a",
    "http://a b",
    "http://a\n",
    "http://a if TRUE",
    "http://a'",
    'http://a"',
    "http://${HOME}",
    "http://a#",
    "http://u@a",
]


def read(folder, text):
    path = folder / "strata.yaml"
    path.write_text(text)
    return load(path)


def test_files_are_relative_to_the_config_and_clients_are_required_to_show_theirs(tmp_path):
    text = "http: {tls: {certificate: tls/a.crt, key: /etc/a.key, client_ca: ../ca.crt}}"
    tls = read(tmp_path, text).http.tls
    assert tls.certificate == f"{tmp_path}/tls/a.crt"
    assert tls.key == "/etc/a.key"
    assert tls.client_ca == f"{tmp_path.parent}/ca.crt"
    assert tls.client_certificates == "required"
    assert read(tmp_path, f"http: {{tls: {{{PAIR}}}}}").http.tls.client_ca is None
    assert read(tmp_path, "{}").http.tls is None


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("http: {tls: {certificate: a.crt}}", "http.tls.key: field required"),
        ("http: {tls: {certificate: '', key: a}}", "http.tls.certificate: string should have"),
        (f"http: {{tls: {{{PAIR}, client_certificates: optional}}}}", "needs client_ca"),
        (f"http: {{tls: {{{PAIR}, public_port: 443}}}}", "needs redirect_port"),
        (f"http: {{tls: {{{PAIR}, redirect_port: 8000}}}}", "http.tls.redirect_port and those"),
        (f"http: {{haproxy: false, tls: {{{PAIR}}}}}", "leave out http.tls and http.cors"),
        ("http: {haproxy: false, cors: {origins: [http://a]}}", "leave out http.tls and http.cors"),
        ("http: {cors: {}}", "http.cors.origins: field required"),
        ("http: {cors: {origins: []}}", "http.cors.origins: tuple should have at least 1"),
        ("http: {cors: {origins: ['*', http://a]}}", "http.cors.origins: * is any origin"),
    ],
)
def test_what_makes_no_sense_is_told(tmp_path, text, said):
    with pytest.raises(ConfigError) as refused:
        read(tmp_path, text)
    assert said in str(refused.value)


@pytest.mark.parametrize("origin", ORIGINS)
def test_an_origin_is_as_browsers_write_it(tmp_path, origin):
    text = yaml.safe_dump({"http": {"cors": {"origins": [origin]}}})
    assert read(tmp_path, text).http.cors.origins == (origin,)


@pytest.mark.parametrize("origin", WRONG_ORIGINS)
def test_what_is_no_origin_is_refused(tmp_path, origin):
    text = yaml.safe_dump({"http": {"cors": {"origins": [origin]}}})
    with pytest.raises(ConfigError, match=r"http\.cors\.origins\[0\]"):
        read(tmp_path, text)
