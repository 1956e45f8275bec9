"""A release's models as its RayService configures them, and as they are asked for."""

import yaml

from serve.cluster.release import (
    Configured,
    applications,
    configured,
    read_index,
    read_running,
    states,
)
from serve.config.schema import Config
from serve.deploy.applications import deploy_config
from tests.unit.cluster.fakes import FakeConnection
from tests.unit.cluster.releases import ray_service, running


def _service():
    return ray_service(running("gateway", "digits"))


def test_models_are_configured_with_policy_and_labels_and_the_gateway_is_no_model():
    assert configured(_service()) == {"digits": Configured("digits", {"latest": 1}, {"stable": 3})}
    assert [each["name"] for each in applications(_service())] == ["gateway", "digits"]


def test_a_rayservice_without_a_configuration_asks_for_nothing():
    assert applications({"spec": {"serveConfigV2": ""}}) == []
    assert applications({}) == []


def test_a_configured_application_that_ray_does_not_know_has_not_started():
    service = ray_service(running("gateway"))
    found = states(service)
    assert {name: state.status for name, state in found.items()} == {
        "gateway": "RUNNING",
        "digits": "NOT_STARTED",
    }


def test_versions_are_asked_of_the_service_that_the_chart_names():
    service, connection = _service(), FakeConnection()
    ports = service["spec"]["serveService"]["spec"]["ports"]
    ports[:] = [{"name": "serve-redirect", "port": 80}, {"name": "serve", "port": 9000}]
    assert read_index(connection, service) == {
        "digits": [{"name": "digits", "version": "3", "state": "READY", "reason": ""}]
    }
    assert connection.calls == [("post_to_service", "strata:9000", "v2/repository/index")]


def test_a_release_that_speaks_https_is_asked_by_it():
    service, connection = _service(), FakeConnection()
    service["metadata"]["annotations"] = {"strata.io/scheme": "https"}
    read_index(connection, service)
    assert connection.calls == [("post_to_service", "https:strata:8000", "v2/repository/index")]


def test_a_rayservice_that_names_no_service_has_kuberay_s():
    service, connection = _service(), FakeConnection()
    del service["spec"]["serveService"]
    read_index(connection, service)
    assert connection.calls == [("post_to_service", "strata-serve-svc:8000", "v2/repository/index")]


def test_replicas_that_run_are_counted_apart_from_those_that_are_wanted():
    state = read_running(FakeConnection(), _service())["digits"]
    assert (state.running_replicas, state.target_replicas) == (1, 2)


def test_ray_s_token_comes_from_the_secret_that_the_release_names():
    service, connection = _service(), FakeConnection()
    service["spec"]["rayClusterConfig"]["authOptions"]["secretName"] = "own"
    read_running(connection, service)
    assert ("secret", "own") in connection.calls


def test_without_ray_s_token_no_secret_is_read():
    service = _service()
    service["spec"]["rayClusterConfig"] = {
        "headGroupSpec": {"rayStartParams": {"dashboard-port": "9265"}}
    }
    connection = FakeConnection(forbidden=["secret"])
    read_running(connection, service)
    asked = ("get_from_service", "strata-abcde-head-svc:9265", "api/serve/applications/", "")
    assert connection.calls == [asked]


def test_the_models_of_a_pool_are_configured_too():
    config = Config.model_validate(
        {"models": [{"name": "a", "pool": "p", "version_labels": {"stable": 3}}, {"name": "b"}]}
    )
    service = {"spec": {"serveConfigV2": yaml.safe_dump(deploy_config(config))}}
    found = configured(service)
    assert found["a"] == Configured("a", {"latest": 1}, {"stable": 3}, "p")
    assert found["b"].pool is None
    assert set(found) == {"a", "b"}
