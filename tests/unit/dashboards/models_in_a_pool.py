"""Models by themselves and in a pool as Prometheus has them, and what is made of them there."""

from pathlib import Path

import yaml

from tests.promtool import promtool

_ROOT = Path(__file__).parents[3]

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


def tell(folder, expression, *samples):
    """Have promtool compare what an expression gives after nine minutes: labels and values."""
    expected = [{"labels": labels, "value": value} for labels, value in samples]
    # What rates are made of is not exact.
    asked = {"expr": f"round({expression}, 0.001)", "exp_samples": expected}
    test = {
        "interval": "15s",
        "input_series": [{"series": name, "values": values} for name, values in _series().items()],
        "promql_expr_test": [{**asked, "eval_time": "9m"}],
    }
    rules = _ROOT / "helm" / "strata" / "files" / "rules.yaml"
    tree = {"rule_files": [str(rules)], "evaluation_interval": "15s", "tests": [test]}
    file = folder / "expression.yaml"
    file.write_text(yaml.safe_dump(tree))
    promtool("test", "rules", file)
