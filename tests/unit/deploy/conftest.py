import pytest

from tests.loopback import serving
from tests.unit.deploy.fakes import Dashboard


@pytest.fixture
def dashboard(monkeypatch, tmp_path):
    """A dashboard, and no token of Ray's but one that a test puts into `tmp_path / "token"`."""
    monkeypatch.delenv("RAY_AUTH_TOKEN", raising=False)
    monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", str(tmp_path / "token"))
    site = Dashboard()
    with serving(site.respond) as site.port:
        site.url = f"http://127.0.0.1:{site.port}"
        yield site
