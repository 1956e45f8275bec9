import threading

import pytest

from tests.unit.deploy.fakes import Dashboard


@pytest.fixture
def dashboard(monkeypatch, tmp_path):
    """A dashboard, and no token of Ray's but one that a test puts into `tmp_path / "token"`."""
    monkeypatch.delenv("RAY_AUTH_TOKEN", raising=False)
    monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", str(tmp_path / "token"))
    with Dashboard() as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        yield server
        server.shutdown()
