"""HAProxy itself is asked, through the program that Ray starts as HAProxy."""

import sys

import pytest
from ray.serve._private import haproxy as rays_haproxy
from ray.serve._private import haproxy_templates

from serve.config.schema import Http
from serve.deploy.edge_check import EdgeCheck, require_edge
from serve.deploy.environment import ray_environment
from serve.errors import ConfigError


@pytest.fixture
def environment():
    return ray_environment(Http(), 65536)


def test_what_ray_and_strata_write_is_taken(environment):
    require_edge(Http(), environment)
    require_edge(Http(host="0.0.0.0", port=80), environment)


def test_a_template_that_ray_changed_ends_with_what_to_do(environment, monkeypatch):
    changed = haproxy_templates.HAPROXY_CONFIG_TEMPLATE.replace("http_frontend", "ingress")
    monkeypatch.setattr(rays_haproxy, "HAPROXY_CONFIG_TEMPLATE", changed)
    with pytest.raises(ConfigError) as refused:
        require_edge(Http(), environment)
    assert str(refused.value) == (
        "HAProxy cannot be started as the ingress: strata-haproxy: the HAProxy configuration that "
        "Ray Serve wrote has no sections 'frontend http_frontend', so that Strata cannot add to "
        "it; install the version of Ray that Strata pins, or set http.haproxy: false"
    )


def test_a_ray_that_has_no_such_class_ends_with_what_to_do(environment, monkeypatch):
    monkeypatch.delattr(rays_haproxy, "HAProxyApi")
    with pytest.raises(ConfigError, match=r"another way .*HAProxyApi.*version that Strata pins"):
        require_edge(Http(), environment)


def test_an_haproxy_that_lacks_what_is_used_is_told_by_its_own_words(
    environment, monkeypatch, tmp_path
):
    """It has no exporter of metrics, as one that was built without it says."""
    without = haproxy_templates.HAPROXY_CONFIG_TEMPLATE.replace("prometheus-exporter", "nothing")
    monkeypatch.setattr(rays_haproxy, "HAPROXY_CONFIG_TEMPLATE", without)
    with pytest.raises(ConfigError, match=r"\[ALERT\].*'nothing'"):
        require_edge(Http(), environment)


def test_a_program_that_is_not_installed_is_named(environment, tmp_path):
    environment["RAY_SERVE_HAPROXY_BINARY_PATH"] = str(tmp_path / "strata-haproxy")
    with pytest.raises(ConfigError, match=r"strata-haproxy is missing.*install Strata anew"):
        require_edge(Http(), environment)


def test_a_program_that_says_nothing_or_cannot_be_run_is_told(environment, tmp_path):
    program = tmp_path / "strata-haproxy"
    program.write_text("#!/bin/sh\nexit 3\n")
    program.chmod(0o755)
    environment["RAY_SERVE_HAPROXY_BINARY_PATH"] = str(program)
    with pytest.raises(ConfigError, match="exit code 3"):
        require_edge(Http(), environment)
    program.write_text(f"#!{sys.executable}.none\n")
    with pytest.raises(ConfigError, match="No such file"):
        require_edge(Http(), environment)


def test_what_is_tried_in_another_process_is_told_as_it_is_here(environment, tmp_path):
    with EdgeCheck(Http(), environment) as good:
        good.require()
    environment["RAY_SERVE_HAPROXY_BINARY_PATH"] = str(tmp_path / "strata-haproxy")
    with EdgeCheck(Http(), environment) as bad, pytest.raises(ConfigError) as refused:
        bad.require()
    with pytest.raises(ConfigError) as here:
        require_edge(Http(), environment)
    assert str(refused.value) == str(here.value)


def test_a_trial_that_breaks_off_is_no_success_and_one_that_nobody_waits_for_is_ended(environment):
    with EdgeCheck(Http(), environment) as broken:
        broken._process.kill()
        with pytest.raises(ConfigError, match="could not be tried"):
            broken.require()
    with EdgeCheck(Http(), environment) as forgotten:
        pass
    assert forgotten._process.returncode is not None
