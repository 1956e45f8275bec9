import pytest

from serve.config.schema import Config
from serve.deploy.capacity import Nodes, nodes_of_ray, require_room
from serve.errors import ConfigError


def _config(*models):
    return Config.model_validate({"models": list(models)})


def _model(name, replicas=1, **options):
    scaling = {"min_replicas": replicas, "max_replicas": max(replicas, 1)}
    return {"name": name, "autoscaling": scaling, "ray_actor_options": options}


_SMALL = Nodes("small", {"CPU": 2.0, "memory": 1e9})
_CARD = Nodes("card", {"CPU": 8.0, "GPU": 1.0, "memory": 4e9, "tpu": 2.0})


@pytest.mark.parametrize(
    "options",
    [
        {"num_cpus": 1.9},
        {"num_cpus": 7, "num_gpus": 1},
        {"num_gpus": 0.5, "resources": {"tpu": 2}},
        {"memory": 4_000_000_000},
    ],
)
def test_a_replica_that_one_node_can_hold_is_allowed(options):
    require_room(_config(_model("m", **options)), [_SMALL, _CARD])


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"num_gpus": 2}, "2 GPUs, and no node .*1 GPUs"),
        ({"num_cpus": 9}, "9 CPUs, and no node .*8 CPUs"),
        ({"memory": 5_000_000_000}, "5000000000 bytes of memory"),
        ({"resources": {"fpga": 1}}, "1 fpga, and no node .*0 fpga"),
    ],
)
def test_a_replica_that_no_node_can_hold_is_refused_with_what_there_is(options, said):
    with pytest.raises(ConfigError, match=f"model 'm': a replica asks for .*{said}"):
        require_room(_config(_model("m", **options)), [_SMALL, _CARD])


def test_all_replicas_at_rest_need_room_together():
    models = [_model("a", 2, num_cpus=2), _model("b", num_cpus=2), _model("lazy", 0, num_cpus=2)]
    require_room(_config(*models), [Nodes("n", {"CPU": 2.0}, count=4)])
    with pytest.raises(ConfigError, match=r"6\.1 CPUs together, and all nodes have 6 CPUs.*: a, b"):
        require_room(_config(*models), [Nodes("n", {"CPU": 2.0}, count=3)])


def test_what_is_not_known_is_enough():
    config = _config(_model("m", num_cpus=64, num_gpus=8))
    require_room(config, [])
    require_room(config, [Nodes("n", {"CPU": None, "GPU": None})])


def test_nodes_are_those_that_live_and_say_what_they_have():
    nodes = [
        {"node_ip": "10.0.0.1", "state": "ALIVE", "resources_total": {"CPU": 2.0}},
        {"node_ip": "10.0.0.2", "state": "DEAD", "resources_total": {"CPU": 2.0}},
        {"node_ip": "10.0.0.3", "state": "ALIVE", "resources_total": None},
    ]
    assert nodes_of_ray({"data": {"result": {"result": nodes}}}) == [
        Nodes("10.0.0.1", {"CPU": 2.0})
    ]
    assert nodes_of_ray({}) == []


def test_a_pools_models_need_the_room_of_one_replica_and_it_is_named():
    pool = {"name": "p", "ray_actor_options": {"num_cpus": 6}}
    models = [{"name": name, "pool": "p"} for name in "abcdefghijkl"]
    config = Config.model_validate({"models": models, "pools": [pool]})
    require_room(config, [Nodes("n", {"CPU": 8.0})])
    with pytest.raises(ConfigError, match="pool 'p': a replica asks for 6 CPUs, and no node has"):
        require_room(config, [Nodes("n", {"CPU": 4.0})])
