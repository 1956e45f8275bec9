import pytest

from serve.cluster.capacity import nodes_of
from serve.deploy.capacity import Nodes


def _service(*groups, grows=True):
    head = {"rayStartParams": {"num-cpus": "0"}}
    cluster = {"headGroupSpec": head, "workerGroupSpecs": list(groups)}
    return {"spec": {"rayClusterConfig": {**cluster, "enableInTreeAutoscaling": grows}}}


def _group(params, **resources):
    container = {"name": "ray", "resources": resources}
    return {
        "groupName": "g",
        "replicas": 1,
        "maxReplicas": 4,
        "rayStartParams": params,
        "template": {"spec": {"containers": [container]}},
    }


def _worker(*arguments, **resources):
    return nodes_of(_service(_group(*arguments, **resources)))[1].resources


def test_a_group_counts_as_often_as_it_may_grow():
    group = _group({"num-cpus": "4"})
    assert [each.count for each in nodes_of(_service(group))] == [1, 4]
    assert [each.count for each in nodes_of(_service(group, grows=False))] == [1, 1]
    assert nodes_of({"spec": {}}) == []


def test_rays_own_parameters_go_before_the_containers_resources():
    params = {"num-cpus": "4", "num-gpus": "1", "resources": '"{\\"tpu\\":2}"'}
    found = _worker(params, requests={"cpu": "500m"}, limits={"memory": "8Gi"})
    assert found == {"CPU": 4.0, "GPU": 1.0, "memory": 8 * 2**30, "tpu": 2.0}


@pytest.mark.parametrize(
    ("resources", "cpus"),
    [
        ({"requests": {"cpu": "500m"}}, 1.0),
        ({"requests": {"cpu": "500m"}, "limits": {"cpu": "2500m"}}, 3.0),
        ({"requests": {"cpu": 2}}, 2.0),
        ({}, None),
        ({"requests": {"cpu": "many"}}, None),
    ],
)
def test_without_them_cpus_are_those_of_the_container_rounded_up(resources, cpus):
    assert _worker({}, **resources)["CPU"] == cpus


@pytest.mark.parametrize("resource", ["nvidia.com/gpu", "amd.com/gpu", "nvidia.com/mig-1g.10gb"])
def test_cards_are_those_of_the_containers_limits(resource):
    assert _worker({}, limits={resource: 2})["GPU"] == 2.0
    assert _worker({}, limits={})["GPU"] == 0.0


def test_the_head_is_a_node_too():
    assert nodes_of(_service(_group({})))[0] == Nodes(
        "head", {"CPU": 0.0, "GPU": 0.0, "memory": None}
    )
