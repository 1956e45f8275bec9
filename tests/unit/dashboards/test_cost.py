"""What the cost dashboard tells of models by themselves and of those that share a pool."""

from pathlib import Path

import yaml
from dashboards.cost import cost
from dashboards.query import expressions

from tests.promtool import promtool

_ROOT = Path(__file__).parents[3]
# The first panel of a title: the big number of two.
_EXPRESSIONS = dict(reversed(expressions(cost(), {})))

# `digits` has two replicas of two cores, each a quarter of its time busy. The pool has one replica
# of one core for two models, one of which computes half of the time; `rests` is out of memory.
_MODELS = {
    "digits": ("digits", ("a", "b"), 2.0, 0.25, "openvino", 50e6),
    "parity": ("pool-small", ("c",), 0.5, 0.5, "onnxruntime", 1e6),
    "rests": ("pool-small", ("c",), 0.5, 0.0, "openvino", 0),
}


def _series():
    """Return series as Prometheus' tests have them: 4 requests a second, 1 of money a core."""
    found = {}
    for model, (application, replicas, cpus, busy, engine, memory) in _MODELS.items():
        for replica in replicas:
            own = f'application="{application}", model="{model}", replica="{replica}"'
            version = f'{own}, version="1"'
            found |= {
                f"ray_model_reserved_cpus{{{own}}}": f"{cpus}x40",
                f"ray_model_reserved_cost_per_hour{{{own}}}": f"{cpus}x40",
                f"ray_model_ready{{{version}}}": "1x40",
                f"ray_model_memory_bytes{{{version}}}": f"{memory}x40",
                f'ray_model_engine{{{version}, engine="{engine}"}}': "1x40",
                f"ray_model_compute_seconds_total{{{version}}}": f"0+{busy * 15}x40",
                f"ray_model_requests_total{{{version}}}": "0+60x40",
            }
    pool = 'application="pool-small", model="pool-small", replica="c"'
    return found | {f"ray_pool_memory_bytes{{{pool}}}": "200e6x40"}


def _tell(tmp_path, title, *samples):
    """Have promtool compare what a panel shows after nine minutes: labels and values."""
    expected = [{"labels": labels, "value": value} for labels, value in samples]
    # What rates are made of is not exact.
    asked = {"expr": f"round({_EXPRESSIONS[title]}, 0.001)", "exp_samples": expected}
    test = {
        "interval": "15s",
        "input_series": [{"series": name, "values": values} for name, values in _series().items()],
        "promql_expr_test": [{**asked, "eval_time": "9m"}],
    }
    rules = _ROOT / "helm" / "strata" / "files" / "rules.yaml"
    tree = {"rule_files": [str(rules)], "evaluation_interval": "15s", "tests": [test]}
    file = tmp_path / "cost.yaml"
    file.write_text(yaml.safe_dump(tree))
    promtool("test", "rules", file)


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
