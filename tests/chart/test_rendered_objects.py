import pytest

from tests.chart.conftest import CHART, VALUES_FILES, helm, rayservice, rendered
from tests.chart.schemas import problems


@pytest.mark.parametrize("path", VALUES_FILES, ids=lambda path: path.stem)
def test_every_scenario_lints_without_a_warning(path):
    done = helm("lint", "--strict", str(CHART), "--values", str(path))
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("path", VALUES_FILES, ids=lambda path: path.stem)
def test_every_object_of_every_scenario_fits_its_schema(path):
    objects = rendered("--values", str(path))
    wrong = {f"{t['kind']} {t['metadata']['name']}": problems(t) for t in objects}
    assert not {name: said for name, said in wrong.items() if said}
    names = [(tree["kind"], tree["metadata"]["name"]) for tree in objects]
    assert len(set(names)) == len(names)


def test_a_key_that_no_schema_knows_is_found():
    tree = {"apiVersion": "ray.io/v1", "kind": "RayService", "spec": {"serveConfig": ""}}
    assert "serveConfig" in " ".join(problems(tree))
    tree = {"apiVersion": "policy/v1", "kind": "PodDisruptionBudget", "spec": {"max": 1}}
    assert "max" in " ".join(problems(tree))
    endpoint = {"port": "metrics", "path": "/metrics", "every": "15s"}
    spec = {"selector": {}, "podMetricsEndpoints": [endpoint]}
    tree = {"apiVersion": "monitoring.coreos.com/v1", "kind": "PodMonitor", "spec": spec}
    assert "every" in " ".join(problems(tree))


@pytest.mark.parametrize("path", VALUES_FILES, ids=lambda path: path.stem)
def test_every_pod_fits_the_restricted_standard_and_says_what_it_takes(path):
    pods = [pod for tree in rendered("--values", str(path)) for pod in _pods(tree)]
    assert pods
    for pod in pods:
        assert pod["securityContext"]["runAsNonRoot"] is True
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        assert not [volume for volume in pod.get("volumes", ()) if "hostPath" in volume]
        for container in [*pod["containers"], *pod.get("initContainers", ())]:
            assert container["securityContext"] == {
                "allowPrivilegeEscalation": False,
                "capabilities": {"drop": ["ALL"]},
                "readOnlyRootFilesystem": True,
            }
            assert {"cpu", "memory"} <= container["resources"]["requests"].keys()
            assert "memory" in container["resources"]["limits"]


def test_the_autoscaler_beside_the_head_is_restricted_too():
    cluster = rayservice(rendered())["spec"]["rayClusterConfig"]
    head = cluster["headGroupSpec"]["template"]["spec"]
    options = cluster["autoscalerOptions"]
    assert options["securityContext"] == head["containers"][0]["securityContext"]
    volumes = {volume["name"] for volume in head["volumes"]}
    assert {mount["name"] for mount in options["volumeMounts"]} <= volumes


def test_every_mount_has_its_volume():
    for path in VALUES_FILES:
        for tree in rendered("--values", str(path)):
            claims = tree.get("spec", {}).get("volumeClaimTemplates", [])
            for pod in _pods(tree):
                names = {v["name"] for v in pod.get("volumes", ())}
                names |= {claim["metadata"]["name"] for claim in claims}
                for container in [*pod["containers"], *pod.get("initContainers", ())]:
                    assert {m["name"] for m in container.get("volumeMounts", ())} <= names


def _pods(tree):
    match tree["kind"]:
        case "Pod":
            return [tree["spec"]]
        case "Job" | "StatefulSet" | "Deployment":
            return [tree["spec"]["template"]["spec"]]
        case "RayService":
            cluster = tree["spec"]["rayClusterConfig"]
            groups = [cluster["headGroupSpec"], *cluster["workerGroupSpecs"]]
            return [group["template"]["spec"] for group in groups]
    return []
