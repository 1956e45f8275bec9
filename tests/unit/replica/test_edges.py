"""The gateway's hand on HAProxys, with Ray's managers of them replaced by fakes."""

from types import SimpleNamespace

import pytest

from serve.edge.haproxy.settings import EdgeSettings, RequestQuota, read_settings
from serve.replica import edges

KEYS = EdgeSettings(keys="/a/keys.json")


@pytest.fixture
def managers(monkeypatch):
    """Managers of two nodes, and another actor; they note when they are told to update."""
    updates = []

    class Manager:
        def __init__(self, name):
            def remote():
                updates.append(name)

            self._schedule_haproxy_update = SimpleNamespace(remote=remote)

    actors = [
        {"namespace": "serve", "name": "SERVE_PROXY_ACTOR-a"},
        {"namespace": "serve", "name": "SERVE_PROXY_ACTOR-gone"},
        {"namespace": "serve", "name": "SERVE_PROXY_ACTOR-b"},
        {"namespace": "serve", "name": "SERVE_PROXY_ACTOR-fallback-a"},  # a proxy of Ray
        {"namespace": "serve", "name": "SERVE_CONTROLLER_ACTOR"},
        {"namespace": "other", "name": "SERVE_PROXY_ACTOR-c"},
    ]

    def get_actor(name, namespace):
        if name.endswith("gone"):
            raise ValueError("no such actor")
        return Manager(name)

    monkeypatch.setattr(edges.ray.util, "list_named_actors", lambda all_namespaces: actors)
    monkeypatch.setattr(edges.ray, "get_actor", get_actor)
    return updates


@pytest.fixture
def settings(tmp_path, monkeypatch):
    path = tmp_path / "edge.json"
    path.write_text(EdgeSettings(own_key="ab").to_json())
    monkeypatch.setenv("STRATA_EDGE_SETTINGS", str(path))
    return path


def tree(settings):
    import json

    return json.loads(settings.to_json())


def test_all_haproxys_are_started_anew_and_one_that_is_gone_is_left_out(managers):
    assert edges.restart_edges() == 2
    assert managers == ["SERVE_PROXY_ACTOR-a", "SERVE_PROXY_ACTOR-b"]


def test_settings_are_written_and_the_platforms_own_key_stays(managers, settings):
    edges.take_settings(tree(KEYS))
    assert read_settings().own_key == "ab"
    assert str(read_settings().keys) == "/a/keys.json"
    assert len(managers) == 2


def test_where_an_agent_looks_after_them_it_is_the_one_who_asks(managers, settings):
    edges.take_settings(tree(KEYS))
    managers.clear()
    edges.take_settings(tree(EdgeSettings(keys="/a/keys.json", tenant_header="x-who")))
    assert read_settings().tenant_header == "x-who"
    assert managers == []


def test_one_node_may_be_named(managers):
    assert edges.restart_edges("b") == 1
    assert managers == ["SERVE_PROXY_ACTOR-b"]


def test_settings_that_did_not_change_do_nothing(managers, settings):
    before = settings.stat().st_ino
    edges.take_settings(tree(EdgeSettings()))
    assert settings.stat().st_ino == before
    assert managers == []


def test_other_quotas_need_no_start(managers, settings):
    edges.take_settings(tree(EdgeSettings(quotas=(RequestQuota("web", None, 1, None),))))
    managers.clear()
    edges.take_settings(tree(EdgeSettings(quotas=(RequestQuota("web", None, 2, None),))))
    assert read_settings().quotas[0].requests_per_s == 2
    assert managers == []
