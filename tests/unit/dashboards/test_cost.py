"""What the cost dashboard tells of models by themselves and of those that share a pool."""

from dashboards.cost import cost
from dashboards.query import expressions

from tests.unit.dashboards.models_in_a_pool import tell

# The first panel of a title: the big number of two.
_EXPRESSIONS = dict(reversed(expressions(cost(), {})))


def _tell(tmp_path, title, *samples):
    tell(tmp_path, _EXPRESSIONS[title], *samples)


def test_a_million_requests_cost_their_seconds_of_what_a_call_takes(tmp_path):
    # Of digits two cores for a 16th of a second, of a pool one for an 8th, whoever else is in it.
    _tell(
        tmp_path,
        "Engines",
        ('{engine="openvino", model="digits"}', 34.722),
        ('{engine="onnxruntime", model="parity"}', 34.722),
        ('{engine="openvino", model="rests"}', 0),
    )


def test_engines_cost_what_is_put_down_to_their_models(tmp_path):
    engines = (("openvino", 4.5), ("onnxruntime", 0.5))
    samples = [(f'{{engine="{engine}"}}', value) for engine, value in engines]
    _tell(tmp_path, "Cost an hour by engine", *samples)


def test_what_a_pool_would_save_is_told_of_models_by_themselves_alone(tmp_path):
    _tell(tmp_path, "Idle cost an hour of models by themselves", ('{model="digits"}', 3))
    _tell(tmp_path, "Memory of models by themselves", ('{model="digits"}', 50e6))


def test_pools_are_told_with_what_their_models_take(tmp_path):
    _tell(tmp_path, "Cost an hour of models in pools", ('{application="pool-small"}', 1))
    _tell(
        tmp_path,
        "Memory of models in pools",
        ('{application="pool-small", model="parity"}', 1e6),
        ('{application="pool-small", model="rests"}', 0),
    )


def test_a_pools_replica_is_idle_once_however_many_models_it_has(tmp_path):
    _tell(tmp_path, "Idle", ("{}", 0.667))  # of three replicas one second a second is computed
