import re

import pytest

from serve.edge.haproxy.configuration import with_edge
from serve.errors import ConfigError

RAYS = """\
global
    maxconn 100
defaults
    mode http
    errorfile 503 /somewhere
frontend prometheus
    bind :9101
    mode http
frontend http_frontend
    bind *:8000
    acl healthcheck path /-/healthz
    default_backend default_backend
backend default_backend
    http-request return status 404
listen stats
  bind *:8404
  stats enable
"""


def sections(text):
    """Return the lines of each section by its header."""
    found = {}
    for line in text.splitlines():
        if re.match(r"\w", line):
            found[line] = []
        elif not line.startswith("#"):
            found[list(found)[-1]].append(line.strip())
    return found


def test_each_line_of_ray_stays_and_ours_come_to_the_sections_that_they_belong_to():
    before, after = sections(RAYS), sections(with_edge(RAYS))
    assert list(after) == list(before)
    for header in ("global", "defaults", "frontend http_frontend", "backend default_backend"):
        rest = iter(after[header])
        assert all(line in rest for line in before[header])  # in their order
        assert len(after[header]) > len(before[header])


def test_what_ray_says_of_errors_is_overridden_and_its_paths_are_taken_after_ours():
    after = sections(with_edge(RAYS))
    errors = [line for line in after["defaults"] if "503" in line]
    assert errors[0].startswith("errorfile")
    assert errors[-1].startswith("http-error status 503")
    assert after["frontend http_frontend"][0] == "bind *:8000"
    assert after["frontend http_frontend"][-2:] == [
        "acl healthcheck path /-/healthz",
        "default_backend default_backend",
    ]


def test_the_page_of_statistics_is_for_this_machine_and_metrics_are_where_a_variable_says():
    after = sections(with_edge(RAYS))
    assert "bind 127.0.0.1:8404" in after["listen stats"]
    assert 'bind "${STRATA_HAPROXY_METRICS_HOST}:9101"' in after["frontend prometheus"]


def test_a_configuration_that_has_the_lines_stays_as_it_is():
    once = with_edge(RAYS)
    assert with_edge(once) == once


@pytest.mark.parametrize(
    ("old", "new", "what"),
    [
        ("frontend http_frontend", "frontend http", "no sections 'frontend http_frontend'"),
        ("defaults", "defaults named", "no sections 'defaults'"),
        ("    bind *:8000\n", "", "in 'frontend http_frontend'"),
        ("    bind *:8000\n", "    bind *:8000\n    bind *:8001\n", "2 lines"),
        ("  bind *:8404", "  bind 127.0.0.1:8404", "in 'listen stats'"),
        ("    bind :9101\n", "", "in 'frontend prometheus'"),
        (RAYS, "", "no sections 'global'"),
    ],
)
def test_a_template_that_ray_changed_is_told_with_what_it_lacks(old, new, what):
    with pytest.raises(ConfigError, match=re.escape(what)) as refused:
        with_edge(RAYS.replace(old, new))
    assert "install the version of Ray that Strata pins" in str(refused.value)


def test_a_template_file_that_is_missing_is_named(monkeypatch, tmp_path):
    from serve.edge.haproxy import configuration

    configuration._template.cache_clear()
    monkeypatch.setattr(configuration, "_FOLDER", tmp_path)
    with pytest.raises(ConfigError, match=r"global.cfg cannot be read; install Strata anew"):
        with_edge(RAYS)
