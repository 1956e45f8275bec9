"""`strata up` with HTTPS and client certificates: its commands, the line it prints, a renewal."""

import os
import subprocess
import sys

import pytest
import requests
import yaml

from serve.config.file import load
from serve.deploy.ingress import Ingress, ingress_of
from serve.repository.publish import publish
from serve.repository.repository import Repository
from tests.authority import Authority
from tests.integration.strata_up import strata_up
from tests.ports import free_port

pytestmark = pytest.mark.integration

SERVERS, CLIENTS = Authority("servers"), Authority("clients")


@pytest.fixture
def config(tmp_path, graphs):
    publish(graphs / "twice", Repository(str(tmp_path / "models"), tmp_path / "cache"), "twice")
    SERVERS.pair("models.example").write(tmp_path)
    (tmp_path / "ca.crt").write_text(CLIENTS.certificate)
    files = {"certificate": "tls.crt", "key": "tls.key", "client_ca": "ca.crt"}
    tree = {
        "http": {"port": free_port(), "tls": {**files, "redirect_port": free_port()}},
        "ports": {"metrics": free_port(), "dashboard": free_port()},
        "repository": {"root": "models", "try_engines": False},
        "models": [{"name": "twice", "ray_actor_options": {"num_cpus": 0.1}}],
    }
    path = tmp_path / "strata.yaml"
    path.write_text(yaml.safe_dump(tree))
    return path


@pytest.fixture
def own(tmp_path, monkeypatch):
    """The certificate with its key that commands show."""
    pair = CLIENTS.pair("commands")
    path = tmp_path / "commands.pem"
    path.write_text(pair.certificate + pair.key)
    monkeypatch.setenv("STRATA_CLIENT_CERTIFICATE", str(path))
    return path


def strata(*arguments, **environment):
    command = [sys.executable, "-m", "serve", *map(str, arguments)]
    environment = {**os.environ, **environment}
    return subprocess.run(command, capture_output=True, text=True, check=False, env=environment)


def test_a_platform_speaks_https_to_whom_it_knows_and_takes_up_renewed_files(
    config, own, eventually
):
    refused = strata("up", "-c", config, STRATA_CLIENT_CERTIFICATE="")
    assert refused.returncode == 1
    assert "STRATA_CLIENT_CERTIFICATE" in refused.stderr
    with strata_up(config, eventually) as up:
        tree = load(config)
        (line,) = [line for line in up.said().splitlines() if "curl" in line]
        shown = line.replace("curl -s", f"curl -s --cert {own}")
        done = subprocess.run(["bash", "-c", shown], capture_output=True, check=True)
        assert b'"model_name":"twice"' in done.stdout
        assert strata("predict", "twice", "--json", '{"x": [3]}', "-c", config).returncode == 0
        assert "1/1" in strata("status", "-c", config).stdout
        plain = f"http://127.0.0.1:{tree.http.tls.redirect_port}"
        assert requests.get(f"{plain}/-/healthz", timeout=30).status_code == 200
        sent_on = requests.get(f"{plain}/v2", timeout=30, allow_redirects=False)
        assert sent_on.headers["location"] == f"https://127.0.0.1:{tree.http.port}/v2"
        SERVERS.pair("models.example").write(config.parent)
        eventually(lambda: _answers(ingress_of(tree)))


def _answers(ingress: Ingress) -> bool:
    """Tell whether the ingress shows the certificate that the config names by now."""
    try:
        return ingress.ask("GET", "/v2/health/ready", timeout_s=30).ok
    except requests.RequestException:
        return False
