"""What the templates promise about Ray's pods, beyond fitting a schema."""

import json
import os
import shutil
import subprocess
from pathlib import Path

from serve.config.schema import Http
from serve.deploy.environment import ray_environment
from serve.replica.pod_readiness import READY_MARK
from tests.chart.conftest import CHART, helm, rayservice, rendered


def cluster(objects):
    return rayservice(objects)["spec"]["rayClusterConfig"]


def environment(group):
    (container,) = group["template"]["spec"]["containers"]
    return {entry["name"]: entry["value"] for entry in container["env"]}


def test_ray_pods_have_the_environment_that_a_local_platform_has(render):
    for haproxy in (True, False):
        made = cluster(render({"http": {"haproxy": haproxy}}))
        wanted = ray_environment(Http(haproxy=haproxy), 16384, Path("/opt/strata/bin"))
        for group in (made["headGroupSpec"], *made["workerGroupSpecs"]):
            assert wanted.items() <= environment(group).items()


def test_a_variable_of_extra_env_stands_in_place_of_the_charts_own(render):
    """KubeRay's API has no place for two of one name."""
    extra = [{"name": "RAY_memory_monitor_refresh_ms", "value": "250"}]
    made = cluster(render({"extraEnv": extra}))
    for group in (made["headGroupSpec"], *made["workerGroupSpecs"]):
        (container,) = group["template"]["spec"]["containers"]
        names = [entry["name"] for entry in container["env"]]
        assert len(names) == len(set(names))
        assert environment(group)["RAY_memory_monitor_refresh_ms"] == "250"


def test_the_autoscalers_logs_are_bounded_as_those_beside_them(render):
    made = cluster(render({"autoscaler": {"enabled": True}}))
    of_autoscaler = {each["name"]: each["value"] for each in made["autoscalerOptions"]["env"]}
    bounds = {name for name in of_autoscaler if name.startswith("RAY_ROTATION_")}
    assert len(bounds) == 2
    head = environment(made["headGroupSpec"])
    assert {name: of_autoscaler[name] for name in bounds} == {name: head[name] for name in bounds}


def test_the_idle_time_of_connections_reaches_the_pods(render):
    made = cluster(render({"http": {"idle_timeout_s": 7200}}))
    for group in (made["headGroupSpec"], *made["workerGroupSpecs"]):
        assert environment(group)["RAY_SERVE_HAPROXY_TIMEOUT_CLIENT_S"] == "7200"


def test_a_worker_is_marked_once_its_probe_passes_and_models_run_by_the_mark(render, tmp_path):
    made = cluster(render({}))
    (container,) = made["workerGroupSpecs"][0]["template"]["spec"]["containers"]
    mark = environment(made["workerGroupSpecs"][0])[READY_MARK]
    assert READY_MARK not in environment(made["headGroupSpec"])
    (tmp,) = (each for each in container["volumeMounts"] if each["mountPath"] == "/tmp")
    assert mark.startswith(f"{tmp['mountPath']}/")

    here = tmp_path / "ready"
    wget = tmp_path / "wget"
    wget.touch(0o755)
    said = container["readinessProbe"]["exec"]["command"]
    command = [word.replace(mark, str(here)) for word in said]

    def is_ready(cases: str) -> bool:
        wget.write_text(f'#!/bin/sh\ncase "$*" in {cases} esac\n')
        path = f"{tmp_path}:{os.environ['PATH']}"
        return subprocess.run(command, env={"PATH": path}, check=False).returncode == 0

    assert not is_ready("*/-/healthz) exit 8;; *) echo success;;")
    assert not is_ready("*/-/healthz) echo success;; *) exit 8;;")
    assert not here.exists()
    assert is_ready("*) echo success;;")
    since = here.stat().st_mtime_ns
    assert is_ready("*) echo success;;")
    assert here.stat().st_mtime_ns == since


def test_no_replica_runs_on_the_head_and_no_request_needs_it():
    made = rendered()
    assert cluster(made)["headGroupSpec"]["rayStartParams"]["num-cpus"] == "0"
    assert rayservice(made)["spec"]["excludeHeadPodFromServeSvc"] is True


def test_a_pod_drains_longer_than_its_ingress_and_ends_before_it_is_killed(render):
    drain = {"terminationGracePeriodSeconds": 120, "preStopSeconds": 15}
    group = cluster(render({"drain": drain}))["workerGroupSpecs"][0]
    assert environment(group)["RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S"] == "90"
    (container,) = group["template"]["spec"]["containers"]
    script = container["lifecycle"]["preStop"]["exec"]["command"][-1]
    assert script.startswith("sleep 15\n")
    assert "haproxy" in script


def test_a_head_without_requests_ends_at_once(render):
    head = cluster(render({}))["headGroupSpec"]
    assert environment(head)["RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S"] == "0"
    assert head["template"]["spec"]["terminationGracePeriodSeconds"] == 10
    serving = cluster(render({"head": {"serveRequests": True}}))["headGroupSpec"]
    assert environment(serving)["RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S"] == "70"
    assert serving["template"]["spec"]["terminationGracePeriodSeconds"] == 90


def test_gpu_groups_come_after_the_cpu_group_in_the_order_given():
    groups = cluster(rendered("--values", str(CHART / "ci" / "gpu-values.yaml")))[
        "workerGroupSpecs"
    ]
    assert [group["groupName"] for group in groups] == ["cpu", "gpu", "slices"]
    cpu, gpu, slices = groups
    assert slices["minReplicas"] == 0
    assert "num-gpus" not in cpu["rayStartParams"]
    assert gpu["rayStartParams"]["num-gpus"] == "1"
    assert json.loads(json.loads(gpu["rayStartParams"]["resources"])) == {"licence": 2}
    assert gpu["template"]["spec"]["runtimeClassName"] == "nvidia"
    (container,) = gpu["template"]["spec"]["containers"]
    assert container["resources"]["limits"] == {"memory": "32Gi", "nvidia.com/gpu": 1}
    (container,) = slices["template"]["spec"]["containers"]
    assert container["resources"]["limits"]["nvidia.com/mig-1g.10gb"] == 2
    assert slices["rayStartParams"]["num-gpus"] == "2"


def test_rays_object_store_fits_the_shared_memory_of_its_pod():
    made = cluster(rendered())
    for group in (made["headGroupSpec"], *made["workerGroupSpecs"]):
        assert group["rayStartParams"]["object-store-memory"] == str(512 * 2**20)
        volumes = {v["name"]: v for v in group["template"]["spec"]["volumes"]}
        memory = {"medium": "Memory", "sizeLimit": "576Mi"}
        assert volumes["shared-memory"]["emptyDir"] == memory


def test_another_version_of_the_chart_makes_no_new_cluster(tmp_path):
    copy = tmp_path / "strata"
    shutil.copytree(CHART, copy)
    text = (copy / "Chart.yaml").read_text()
    (copy / "Chart.yaml").write_text(text.replace("version: 0.1.0", "version: 0.1.1", 1))
    assert cluster(rendered(chart=copy)) == cluster(rendered())


def test_workers_wait_for_the_demo_models_and_for_nothing_without_them(render):
    (waiting,) = cluster(rendered())["workerGroupSpecs"][0]["template"]["spec"]["initContainers"]
    (job,) = [tree for tree in rendered() if tree["metadata"]["name"].startswith("strata-demo-")]
    (training,) = job["spec"]["template"]["spec"]["containers"]
    assert "/strata/.demo-trained" in waiting["command"][-1]
    assert training["args"][0].strip().endswith("touch /strata/.demo-trained")
    pod = cluster(render({"demo": {"enabled": False}}))["workerGroupSpecs"][0]["template"]["spec"]
    assert "initContainers" not in pod


def test_a_changed_demo_is_another_job_because_jobs_cannot_change(render):
    def name(values):
        return {t["metadata"]["name"] for t in render(values) if "demo" in t["metadata"]["name"]}

    assert name({}) != name({"demo": {"models": ["digits", "language"]}})
    assert name({}) != name({"image": {"tag": "2"}})
    assert name({}) == name({"models": [{"name": "other"}]})


def test_a_route_leaves_paths_as_they_are_since_the_ingress_knows_them():
    made = rendered("--values", str(CHART / "ci" / "exposed-values.yaml"))
    (route,) = [tree for tree in made if tree["kind"] == "HTTPRoute"]
    assert route["spec"]["rules"] == [{"backendRefs": [{"name": "predictions", "port": 80}]}]


def test_without_a_token_ray_is_told_so_or_its_nodes_would_make_one_each(render):
    made = cluster(render({"auth": {"enabled": False}}))
    assert "authOptions" not in made
    assert environment(made["headGroupSpec"])["RAY_AUTH_MODE"] == "disabled"
    made = cluster(rendered())
    assert made["authOptions"] == {"mode": "token"}
    assert "RAY_AUTH_MODE" not in environment(made["headGroupSpec"])


def test_the_notes_end_with_commands_for_this_release():
    done = helm("template", "mine", str(CHART), "--namespace", "models", "--notes")
    if done.returncode:  # helm 3 and early 4 print them on install alone
        done = helm("install", "mine", str(CHART), "--namespace", "models", "--dry-run=client")
    assert "kubectl -n models port-forward service/mine-strata 8000:8000" in done.stdout
    assert "curl localhost:8000/v2/models/digits" in done.stdout


def test_drains_of_nodes_leave_all_workers_but_one(render):
    def budgets(values):
        objects = render(values)
        return [tree["spec"] for tree in objects if tree["kind"] == "PodDisruptionBudget"]

    (budget,) = budgets({"worker": {"minReplicas": 3}})
    # A RayCluster's pods can't be counted from above: neither per cent nor maxUnavailable work.
    assert (budget["minAvailable"], "maxUnavailable" in budget) == (2, False)
    assert budgets({}) == []
    chosen = {"podDisruptionBudget": {"minAvailable": 1}}
    assert [budget["minAvailable"] for budget in budgets(chosen)] == [1]


def test_redis_is_placed_as_its_values_say(render):
    bundled = {"enabled": True, "nodeSelector": {"disk": "safe"}, "priorityClassName": "high"}
    made = render({"redis": {"enabled": True, "existingSecret": "s", "bundled": bundled}})
    (redis,) = (each for each in made if each["kind"] == "StatefulSet")
    pod = redis["spec"]["template"]["spec"]
    assert (pod["nodeSelector"], pod["priorityClassName"]) == ({"disk": "safe"}, "high")


def test_rediss_volume_is_of_its_own_storage_class_and_not_of_the_repositorys(render):
    def storage_class(**bundled):
        values = {"redis": {"enabled": True, "existingSecret": "s", "bundled": bundled}}
        made = render({**values, "storage": {"storageClassName": "files"}})
        (redis,) = (each for each in made if each["kind"] == "StatefulSet")
        (claim,) = redis["spec"]["volumeClaimTemplates"]
        return claim["spec"].get("storageClassName")

    assert storage_class(enabled=True) is None
    assert storage_class(enabled=True, storageClassName="disks") == "disks"


def test_the_service_says_whose_workers_a_node_hands_requests_to_if_asked(render):
    service = {"type": "NodePort", "externalTrafficPolicy": "Local"}
    made = rayservice(render({"service": service}))["spec"]["serveService"]["spec"]
    assert made["externalTrafficPolicy"] == "Local"
    made = rayservice(rendered())["spec"]["serveService"]["spec"]
    assert "externalTrafficPolicy" not in made


def test_worker_groups_are_as_the_operator_writes_them_back(render):
    for group in cluster(render({"extraWorkerGroups": [{"name": "more"}]}))["workerGroupSpecs"]:
        assert group["scaleStrategy"] == {}
