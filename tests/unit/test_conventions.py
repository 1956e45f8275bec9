"""Nothing was forgotten: what must hold for every module, error, metric and key."""

import ast
import inspect
import pickle
from pathlib import Path

import pytest

from serve import errors
from serve.config.tree import Config, json_schema
from serve.telemetry.metrics import METRICS

_ROOT = Path(__file__).parents[2]
_MODULES = sorted((_ROOT / "serve").rglob("*.py"))
_MAX_LINES = 270
_ERRORS = [
    value
    for value in vars(errors).values()
    if inspect.isclass(value) and issubclass(value, errors.ServeError)
]


@pytest.mark.parametrize("path", _MODULES, ids=lambda path: path.stem)
def test_every_module_says_what_it_is_for_and_is_short(path):
    text = path.read_text()
    assert ast.get_docstring(ast.parse(text)), "no module docstring"
    assert len(text.splitlines()) <= _MAX_LINES


@pytest.mark.parametrize("error", _ERRORS)
def test_every_error_survives_a_process_and_has_a_status(error):
    copy = pickle.loads(pickle.dumps(error("what went wrong")))
    assert type(copy) is error
    assert str(copy) == "what went wrong"
    assert 400 <= copy.http_status < 600


def test_every_error_stands_in_the_tree_at_the_top_of_its_module():
    assert errors.__doc__ is not None
    for error in _ERRORS:
        assert error.__name__ in errors.__doc__


def test_every_metric_has_base_units_and_buckets_where_it_needs_them():
    for name, metric in METRICS.items():
        assert metric.help.endswith(".")
        assert metric.tags[0] == "model"
        assert not name.endswith("_total"), "Ray appends it"
        assert "_ms" not in name
        assert bool(metric.buckets) == (metric.kind == "histogram")


def test_every_metric_and_key_is_documented():
    metrics = (_ROOT / "docs" / "metrics.md").read_text()
    for name, metric in METRICS.items():
        suffix = "_total" if metric.kind == "counter" else ""
        assert f"`ray_{name}{suffix}`" in metrics
    configuration = (_ROOT / "docs" / "configuration.md").read_text()
    for key in _keys(json_schema()):
        assert f"`{key}`" in configuration


def _keys(schema):
    for section in [schema, *schema["$defs"].values()]:
        yield from section["properties"]


def test_every_key_has_a_description():
    schema = json_schema()
    for section in [schema, *schema["$defs"].values()]:
        for key, value in section["properties"].items():
            assert value.get("description"), key


def test_no_file_names_a_place_of_this_machine():
    assert Config is not None
    for path in [*_MODULES, *(_ROOT / "docs").rglob("*.md"), _ROOT / "README.md"]:
        text = path.read_text()
        assert "/work/" not in text
        assert "/root/" not in text
