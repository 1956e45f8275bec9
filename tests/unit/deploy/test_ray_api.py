"""What is sent to Ray Serve's REST API and made of its responses; a real server on loopback."""

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from serve.deploy.ray_api import PlatformUnreachable, RayServeApi
from serve.errors import ConfigError
from tests.integration.conftest import free_port


class Dashboard(ThreadingHTTPServer):
    """Keeps what it is asked, and responds with `status` and `document`."""

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.asked, self.status, self.document = [], 200, {}
        self.url = f"http://127.0.0.1:{self.server_port}"


class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        length = int(self.headers.get("Content-Length") or 0)
        body = json.loads(self.rfile.read(length) or b"null")
        self.server.asked.append((self.command, self.path, self.headers["Authorization"], body))
        said = json.dumps(self.server.document).encode()
        self.send_response(self.server.status)
        self.send_header("Content-Length", str(len(said)))
        self.end_headers()
        self.wfile.write(said)

    do_PUT = do_GET

    def log_message(self, *_):
        pass


@pytest.fixture
def dashboard(monkeypatch, tmp_path):
    monkeypatch.delenv("RAY_AUTH_TOKEN", raising=False)
    monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", str(tmp_path / "token"))
    with Dashboard() as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        yield server
        server.shutdown()


def test_a_config_is_put_as_it_is(dashboard):
    RayServeApi(f"{dashboard.url}/").deploy({"applications": [{"name": "m"}]})
    body = {"applications": [{"name": "m"}]}
    assert dashboard.asked == [("PUT", "/api/serve/applications/", None, body)]


def test_the_states_are_those_of_all_applications(dashboard):
    running = {"state": "RUNNING"}
    deployment = {"message": "", "replicas": [running], "target_num_replicas": 2}
    tree = {"status": "RUNNING", "message": "", "deployments": {"model": deployment}}
    dashboard.document = {"applications": {"m": tree, "gateway": tree}}
    states = RayServeApi(dashboard.url).states()
    assert set(states) == {"m", "gateway"}
    assert (states["m"].running_replicas, states["m"].target_replicas) == (1, 2)


def test_before_the_first_deploy_there_are_no_applications(dashboard):
    assert RayServeApi(dashboard.url).states() == {}


def test_rays_token_is_found_where_ray_looks_for_it(dashboard, monkeypatch, tmp_path):
    (tmp_path / "token").write_text("of-the-file\n")
    RayServeApi(dashboard.url).states()
    monkeypatch.setenv("RAY_AUTH_TOKEN", "of-the-environment")
    RayServeApi(dashboard.url).states()
    assert [asked[2] for asked in dashboard.asked] == [
        "Bearer of-the-file",
        "Bearer of-the-environment",
    ]


def test_what_ray_serve_refuses_is_an_error_of_the_config_with_its_words(dashboard):
    dashboard.status, dashboard.document = 400, {"detail": "num_replicas must be positive"}
    with pytest.raises(ConfigError, match="num_replicas must be positive"):
        RayServeApi(dashboard.url).deploy({})


def test_a_dashboard_that_fails_is_unreachable(dashboard):
    dashboard.status = 500
    with pytest.raises(PlatformUnreachable, match="answered 500"):
        RayServeApi(dashboard.url).states()


def test_where_nothing_listens_the_way_out_is_named(dashboard):
    with pytest.raises(PlatformUnreachable, match="start the platform with strata up"):
        RayServeApi(f"http://127.0.0.1:{free_port()}").states()
