"""A release is read through kubectl; here that is a script which answers what a file says."""

import json
import os
import subprocess

import pytest
from reliability.release import Release, names
from reliability.release_faults import release_faults

from serve.errors import ServeError


def pod(name, kind, *, ready=True, ip="10.0.0.1", leaving=False):
    metadata = {"name": name, "labels": {"ray.io/node-type": kind}}
    if leaving:
        metadata["deletionTimestamp"] = "2026-01-01T00:00:00Z"
    conditions = [{"type": "Ready", "status": "True" if ready else "False"}]
    return {"metadata": metadata, "status": {"podIP": ip, "conditions": conditions}}


def replica(actor, state="RUNNING"):
    return {"actor_id": actor, "state": state, "pid": 7, "node_ip": "10.0.0.2"}


class Kubectl:
    """Programs `kubectl` and `helm` on PATH: what they were asked, and what they answer."""

    def __init__(self, folder):
        self._folder = folder
        self.answers = {
            "get service": {"spec": {"ports": [{"nodePort": 30080}]}},
            "get nodes": {
                "items": [
                    {"status": {"addresses": [{"type": "InternalIP", "address": "10.1.0.1"}]}}
                ]
            },
            "get pods": {"items": []},
            "exec": {},
        }
        program = (
            "#!/usr/bin/env python3\nimport json, sys, pathlib\n"
            f"folder = pathlib.Path({str(folder)!r})\n"
            "said = ' '.join(sys.argv[1:])\n"
            "with (folder / 'asked').open('a') as log: log.write(said + '\\n')\n"
            "answers = json.loads((folder / 'answers').read_text())\n"
            "found = [a for key, a in answers.items() if key in said]\n"
            "if not found: sys.exit('error: nobody knows ' + said)\n"
            "print(json.dumps(found[0]))\n"
        )
        for name in ("kubectl", "helm"):
            path = folder / name
            path.write_text(program)
            path.chmod(0o755)
        self.answers["get metadata"] = {"chart": "strata", "version": "1"}
        self.answers["get values"] = {"models": [{"name": "digits"}]}
        self.save()

    def save(self):
        (self._folder / "answers").write_text(json.dumps(self.answers))

    @property
    def asked(self):
        return (self._folder / "asked").read_text().splitlines()


@pytest.fixture
def kubectl(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    return Kubectl(tmp_path)


def test_a_service_is_reached_at_its_port_on_a_node(kubectl):
    assert Release("ns", "strata").address == ("10.1.0.1", 30080)
    assert "--namespace ns get service strata --output json" in kubectl.asked


def test_a_service_without_a_port_on_the_nodes_says_how_to_have_one(kubectl):
    kubectl.answers["get service"] = {"spec": {"ports": [{"port": 8000}]}}
    kubectl.save()
    with pytest.raises(ServeError, match=r"service\.type=NodePort"):
        Release("ns", "strata")


def test_pods_that_leave_or_are_not_ready_do_not_count(kubectl):
    kubectl.answers["get pods"] = {
        "items": [
            pod("w-1", "worker", ip="10.0.0.2"),
            pod("w-2", "worker", ready=False),
            pod("w-3", "worker", leaving=True),
        ]
    }
    kubectl.save()
    release = Release("ns", "strata")
    assert names(release.ready("worker")) == {"w-1"}
    assert names(release.pods("worker")) == {"w-1", "w-2", "w-3"}
    assert release.pod_at("10.0.0.2") == "w-1"
    with pytest.raises(ServeError, match=r"no ready pod has the address 10\.0\.0\.9"):
        release.pod_at("10.0.0.9")


def test_all_of_it_runs_with_as_many_replicas_as_there_are_to_be(kubectl):
    kubectl.answers["get pods"] = {"items": [pod("head", "head")]}
    deployment = {"replicas": [replica("a"), replica("b", "STARTING")], "target_num_replicas": 2}
    tree = {"digits": {"status": "RUNNING", "deployments": {"model": deployment}}}
    kubectl.answers["exec"] = {"applications": tree}
    kubectl.save()
    release = Release("ns", "strata")
    assert [each["actor_id"] for each in release.replicas("digits")] == ["a"]
    assert not release.all_run()
    deployment["replicas"][1]["state"] = "RUNNING"
    kubectl.save()
    assert release.all_run()


def test_what_kubectl_says_is_in_the_error(kubectl):
    with pytest.raises(ServeError, match="nobody knows"):
        Release("ns", "strata").kubectl("drain", "node-1")


def test_values_are_changed_through_helm_and_kept(kubectl):
    kubectl.answers["upgrade"] = {}
    kubectl.save()
    release = Release("ns", "strata")
    release.change(lambda values: values["models"][0].update(slo={"availability": 99.9}))
    assert release.values == {"models": [{"name": "digits", "slo": {"availability": 99.9}}]}
    assert any(line.startswith("upgrade strata helm/strata") for line in kubectl.asked)


def test_processes_are_killed_by_their_title_without_pkill():
    from reliability.release import _KILL

    with subprocess.Popen(["sleep", "86399"]) as process:
        subprocess.run(["python3", "-c", _KILL, "sleep 86399"], check=True)
        assert process.wait(60) == -9


def test_a_node_and_another_image_are_faults_where_they_are_named():
    names = {each.name for each in release_faults()}
    assert {"node", "code"}.isdisjoint(names)
    assert {each.name for each in release_faults("a:b", "off", "on")} == names | {"node", "code"}
