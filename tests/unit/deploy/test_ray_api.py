"""What is sent to Ray Serve's REST API and made of its responses; a real server on loopback."""

import pytest

from serve.deploy.capacity import Nodes
from serve.deploy.ray_api import PlatformUnreachable, RayServeApi
from serve.errors import ConfigError
from tests.ports import free_port
from tests.unit.deploy.fakes import application


def test_a_config_is_put_as_it_is(dashboard):
    RayServeApi(f"{dashboard.url}/").deploy({"applications": [{"name": "m"}]})
    body = {"applications": [{"name": "m"}]}
    assert dashboard.asked == [("PUT", "/api/serve/applications/", None, body)]


def test_the_states_are_those_of_all_applications(dashboard):
    tree = application(running=1, target=2)
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
    dashboard.status, dashboard.document = 500, {"detail": "the controller is away"}
    with pytest.raises(PlatformUnreachable, match=r"answered 500: .*the controller is away"):
        RayServeApi(dashboard.url).states()


def test_where_nothing_listens_the_way_out_is_named(dashboard):
    with pytest.raises(PlatformUnreachable, match="start the platform with strata up"):
        RayServeApi(f"http://127.0.0.1:{free_port()}").states()


def test_nodes_that_are_not_told_are_none(dashboard):
    dashboard.document = {"data": {"result": {"result": [_NODE]}}}
    assert RayServeApi(dashboard.url).nodes() == [Nodes("10.0.0.1", {"CPU": 2.0})]
    for status, document in ((500, {}), (200, []), (200, {"data": None})):
        dashboard.status, dashboard.document = status, document
        assert RayServeApi(dashboard.url).nodes() == []
    assert RayServeApi(f"http://127.0.0.1:{free_port()}").nodes() == []


_NODE = {"node_ip": "10.0.0.1", "state": "ALIVE", "resources_total": {"CPU": 2.0}}


def test_what_failed_is_taken_away_and_put_back_as_everything_is_configured(dashboard):
    configs = {name: {"name": name, "args": {}} for name in ("digits", "parity")}
    trees = {name: {"deployed_app_config": config} for name, config in configs.items()}
    dashboard.document = {"applications": trees}
    RayServeApi(dashboard.url).restart(["parity"])
    puts = [body["applications"] for method, _, _, body in dashboard.asked if method == "PUT"]
    assert puts == [[configs["digits"]], [configs["digits"], configs["parity"]]]


def test_nothing_is_restarted_where_not_all_configurations_are_known(dashboard):
    trees = {"digits": {}, "parity": {"deployed_app_config": {"name": "parity"}}}
    dashboard.document = {"applications": trees}
    RayServeApi(dashboard.url).restart(["parity"])
    assert [method for method, *_ in dashboard.asked] == ["GET"]
