import pytest

from serve.deploy.ingress import ask, is_refused
from tests.unit.edge.haproxy.echo import Echo


@pytest.fixture
def server():
    with Echo("ingress") as echo:
        yield f"http://127.0.0.1:{echo.server_port}"
        echo.shutdown()


def seen(server, **more):
    return ask("GET", server, timeout_s=30, **more).json()["headers"]


def test_a_key_of_the_environment_goes_with_the_request(server, monkeypatch):
    monkeypatch.setenv("STRATA_API_KEY", "key")
    headers = seen(server, headers={"X-Own": "1"})
    assert (headers["x-api-key"], headers["x-own"]) == ("key", "1")


@pytest.mark.parametrize("key", [None, ""])
def test_without_one_there_is_no_header(server, monkeypatch, key):
    monkeypatch.delenv("STRATA_API_KEY", raising=False)
    if key is not None:
        monkeypatch.setenv("STRATA_API_KEY", key)
    assert "x-api-key" not in seen(server)


@pytest.mark.parametrize(
    ("status", "refused"), [(200, False), (401, True), (403, True), (404, False)]
)
def test_a_refusal_is_told_by_its_status(server, status, refused):
    response = ask("GET", server, timeout_s=30, headers={"X-Status": str(status)})
    assert is_refused(response) == refused
