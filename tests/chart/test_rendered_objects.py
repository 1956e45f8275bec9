import pytest
from ray.autoscaler._private.kuberay import node_provider

from tests.chart.conftest import CHART, VALUES_FILES, helm, pods_of, rayservice, rendered
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
    pods = [pod for tree in rendered("--values", str(path)) for pod in pods_of(tree)]
    assert pods
    for pod in pods:
        assert pod["securityContext"]["runAsNonRoot"] is True
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        assert not [volume for volume in pod.get("volumes", ()) if "hostPath" in volume]
        assert not {"hostNetwork", "hostPID", "hostIPC"} & pod.keys()
        for container in [*pod["containers"], *pod.get("initContainers", ())]:
            assert container["securityContext"] == {
                "allowPrivilegeEscalation": False,
                "capabilities": {"drop": ["ALL"]},
                "readOnlyRootFilesystem": True,
            }
            assert {"cpu", "memory"} <= container["resources"]["requests"].keys()
            assert "memory" in container["resources"]["limits"]
            assert not [port for port in container.get("ports", ()) if "hostPort" in port]


def test_the_autoscaler_beside_the_head_is_restricted_too():
    cluster = rayservice(rendered())["spec"]["rayClusterConfig"]
    head = cluster["headGroupSpec"]["template"]["spec"]
    options = cluster["autoscalerOptions"]
    assert options["securityContext"] == head["containers"][0]["securityContext"]
    volumes = {volume["name"] for volume in head["volumes"]}
    assert {mount["name"] for mount in options["volumeMounts"]} <= volumes
    assert "memory" in options["resources"]["limits"]


@pytest.mark.parametrize("path", VALUES_FILES, ids=lambda path: path.stem)
def test_no_pod_is_given_a_token_of_the_api_server_but_the_prometheus_that_asks_it(path):
    objects = rendered("--values", str(path))
    for tree in objects:
        if tree["kind"] == "ServiceAccount":
            assert tree["automountServiceAccountToken"] is False
        for pod in pods_of(tree):
            asks = tree["kind"] == "Deployment" and tree["metadata"]["name"].endswith("-prometheus")
            assert pod["automountServiceAccountToken"] is asks


def test_of_the_head_the_autoscaler_alone_has_a_token(render):
    place = "/var/run/secrets/kubernetes.io/serviceaccount"
    cluster = rayservice(rendered())["spec"]["rayClusterConfig"]
    head = cluster["headGroupSpec"]["template"]["spec"]
    assert head["serviceAccountName"] == "strata"
    (volume,) = [each for each in head["volumes"] if "projected" in each]
    # The two files that Ray's autoscaler reads: ray/autoscaler/_private/kuberay/node_provider.py.
    assert {
        "/".join([place, source[kind].get("path") or source[kind]["items"][0]["path"]])
        for source in volume["projected"]["sources"]
        for kind in source
    } == {node_provider.IN_CLUSTER_TOKEN_PATH, node_provider.IN_CLUSTER_CA_CERT_PATH}
    mounts = {mount["name"]: mount for mount in cluster["autoscalerOptions"]["volumeMounts"]}
    assert mounts[volume["name"]] == {
        "name": volume["name"],
        "mountPath": place,
        "readOnly": True,
    }
    (ray,) = head["containers"]
    assert volume["name"] not in {mount["name"] for mount in ray["volumeMounts"]}

    without = rayservice(render({"autoscaler": {"enabled": False}}))["spec"]["rayClusterConfig"]
    pod = without["headGroupSpec"]["template"]["spec"]
    assert not [each for each in pod["volumes"] if "projected" in each]


def test_every_mount_has_its_volume():
    for path in VALUES_FILES:
        for tree in rendered("--values", str(path)):
            claims = tree.get("spec", {}).get("volumeClaimTemplates", [])
            for pod in pods_of(tree):
                names = {v["name"] for v in pod.get("volumes", ())}
                names |= {claim["metadata"]["name"] for claim in claims}
                for container in [*pod["containers"], *pod.get("initContainers", ())]:
                    assert {m["name"] for m in container.get("volumeMounts", ())} <= names
