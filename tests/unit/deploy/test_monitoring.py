"""What is started beside a platform. Grafana is a stand-in: it cannot be had everywhere."""

import json
import os
import re
import socket
import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest
import yaml
from prometheus_client import generate_latest
from prometheus_client.parser import text_string_to_metric_families

from serve.config.schema import Ports
from serve.deploy import monitoring as module
from serve.deploy.monitoring import Monitoring, prometheus_config, write_provisioning
from serve.edge.haproxy.agent_metrics import AgentMetrics, exported_names
from serve.errors import ConfigError
from tests.ports import free_port

# Answers that it is ready, as Prometheus does, on the address that it is told.
PROMETHEUS = """#!{python}
import sys, http.server
options = dict(word[2:].split("=", 1) for word in sys.argv[1:] if "=" in word)
class Ready(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200); self.end_headers()
    def log_message(self, *words): pass
host, port = options["web.listen-address"].split(":")
http.server.HTTPServer((host, int(port)), Ready).serve_forever()
"""
GRAFANA = """#!{python}
import json, os, pathlib, sys, time
told = {{key: value for key, value in os.environ.items() if key.startswith("GF_")}}
pathlib.Path({told!r}).write_text(json.dumps([sys.argv[1:], told]))
time.sleep(600)
"""


@pytest.fixture
def ports():
    return Ports(prometheus=free_port(), grafana=free_port())


@pytest.fixture
def programs(tmp_path, monkeypatch):
    """A folder that alone is on PATH, and a writer of programs into it."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder))
    monkeypatch.setattr(module, "_GRAFANA_HOMES", (tmp_path / "home",))

    def write(name, text):
        (folder / name).write_text(text)
        (folder / name).chmod(0o755)

    return write


def test_without_prometheus_it_says_where_to_get_it(programs, ports):
    with pytest.raises(ConfigError, match="scripts/start --watch brings it"):
        Monitoring(ports)


def test_a_taken_port_is_told_by_its_key(programs, ports):
    programs("prometheus", "")
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", ports.prometheus))
        taken.listen()
        with pytest.raises(ConfigError, match=r"ports\.prometheus"):
            Monitoring(ports)


def test_a_prometheus_that_does_not_start_is_told_with_its_last_words(programs, ports):
    programs("prometheus", "#!/bin/sh\necho first\necho disk is full\nexit 1\n")
    with pytest.raises(ConfigError, match="Prometheus does not start: disk is full"):
        Monitoring(ports).start(None)


def test_what_was_started_is_ended_and_leaves_nothing(programs, ports):
    programs("prometheus", PROMETHEUS.format(python=sys.executable))
    with Monitoring(ports) as watch:
        watch.start(None)
        (process,) = watch._processes.values()
        folder = watch._folder
        assert folder.exists()
        assert watch.grafana_url is None
        assert watch.ended() == []
    assert process.returncode is not None
    assert not folder.exists()


def test_one_that_ends_by_itself_is_told_once(programs, ports, eventually):
    programs("prometheus", PROMETHEUS.format(python=sys.executable))
    with Monitoring(ports) as watch:
        watch.start(None)
        (process,) = watch._processes.values()
        process.kill()
        assert eventually(watch.ended) == ["Prometheus"]
        assert watch.ended() == []


def test_grafana_is_told_its_address_a_password_and_the_provisioning(
    programs, ports, tmp_path, eventually
):
    told = tmp_path / "told.json"
    (tmp_path / "home" / "conf").mkdir(parents=True)
    programs("prometheus", PROMETHEUS.format(python=sys.executable))
    programs("grafana", GRAFANA.format(python=sys.executable, told=str(told)))
    with Monitoring(ports) as watch:
        watch.start(None)
        words, settings = json.loads(eventually(lambda: told.exists() and told.read_text()))
        provisioning = Path(settings["GF_PATHS_PROVISIONING"])
        assert (provisioning / "datasources" / "strata.yaml").exists()
        assert watch.grafana_url == f"http://127.0.0.1:{ports.grafana}"
        assert settings["GF_SECURITY_ADMIN_PASSWORD"] == watch.grafana_password
    assert words == ["server", f"--homepath={tmp_path / 'home'}"]
    assert settings["GF_SERVER_HTTP_ADDR"] == "127.0.0.1"


def test_provisioning_names_the_data_source_and_the_folder(tmp_path):
    write_provisioning(tmp_path / "p", "http://127.0.0.1:9", tmp_path / "dashboards")
    source = yaml.safe_load((tmp_path / "p" / "datasources" / "strata.yaml").read_text())
    assert source["datasources"][0]["url"] == "http://127.0.0.1:9"
    provider = yaml.safe_load((tmp_path / "p" / "dashboards" / "strata.yaml").read_text())
    assert provider["providers"][0]["options"]["path"] == str(tmp_path / "dashboards")


def jobs_of(haproxy_port):
    tree = prometheus_config(9100, haproxy_port, Path("rules.yaml"), 5)
    assert os.fspath(tree["rule_files"][0]) == "rules.yaml"
    return {job["job_name"]: job for job in tree["scrape_configs"]}


def test_haproxy_and_its_agent_are_scraped_where_there_is_one():
    assert jobs_of(None).keys() == {"strata"}
    jobs = jobs_of(9101)
    targets = {name: job["static_configs"][0]["targets"] for name, job in jobs.items()}
    here = ["127.0.0.1:9101"]
    assert targets == {
        "strata": ["127.0.0.1:9100"],
        "strata-haproxy": here,
        "strata-access": here,
    }
    assert jobs["strata-access"]["metrics_path"] == "/metrics/access"


def test_of_the_agents_page_its_own_metrics_are_kept_and_no_more():
    metrics = AgentMetrics()
    metrics.keys_are_good(True)
    metrics.settings_are_good(True)
    metrics.show_keys(0, [], datetime.now(UTC))
    metrics.show_refusals(1, {"no_key|none": 1})
    metrics.certificate_is_good("server", True)
    metrics.show_certificate("server", datetime.now(UTC))
    page = text_string_to_metric_families(generate_latest(metrics.registry).decode())
    names = {sample.name for family in page for sample in family.samples}
    (rule,) = jobs_of(9101)["strata-access"]["metric_relabel_configs"]
    assert rule["action"] == "keep"
    kept = {name for name in names if re.fullmatch(rule["regex"], name)}
    assert kept == set(exported_names())
    assert names - kept == {"strata_access_refusals_created"}
