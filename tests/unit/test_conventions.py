"""Nothing was forgotten: what must hold for every module, error, metric and key."""

import ast
import inspect
import pickle
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from serve import errors
from serve.config.schema import Config, json_schema
from serve.edge.haproxy import agent_metrics
from serve.telemetry.metrics import METRICS

_ROOT = Path(__file__).parents[2]
_UNIT = _ROOT / "tests" / "unit"
_MODULES = sorted((_ROOT / "serve").rglob("*.py"))
_ROOMS = sorted(path.parent for path in (_ROOT / "serve").glob("*/__init__.py"))
_WITH_BEHAVIOUR = [path for path in _MODULES if not path.name.startswith("__")]
# What only a running platform or minutes of training show, or what has no behaviour of its own.
_TESTED_ELSEWHERE = {
    "serve/edge/asgi.py": "tests/unit/edge/test_presence.py",
    "serve/types.py": "tests/unit/protocols/test_rest_v2.py",  # values, which do nothing
}
# What a process imports it pays for in seconds and megabytes, once for each process.
_ENGINES = {"tensorflow", "keras", "tf_keras", "h5py", "openvino", "onnxruntime"}
_STORES = {"s3fs", "gcsfs", "botocore", "aiobotocore", "google.cloud"}
_TOOLS = {"typer", "rich", "kubernetes", "matplotlib", "pytest", "PIL"}
_RAYS = {"ray.data", "ray.train", "ray.tune", "ray.dashboard"}
_EXPORTERS = {"opentelemetry.exporter.otlp"}
_ERRORS = [
    value
    for value in vars(errors).values()
    if inspect.isclass(value) and issubclass(value, errors.ServeError)
]


def _name(path):
    return path.relative_to(_ROOT).as_posix()


@pytest.mark.parametrize("path", _MODULES, ids=_name)
def test_every_module_says_what_it_is_for(path):
    assert ast.get_docstring(ast.parse(path.read_text())), "no module docstring"


@pytest.mark.parametrize("room", _ROOMS, ids=_name)
def test_every_room_says_what_belongs_into_it_and_hands_nothing_on(room):
    tree = ast.parse((room / "__init__.py").read_text())
    said = ast.get_docstring(tree) or ""
    assert len(re.findall(r"\.(?=\s|$)", said)) >= 2, "what for, and what may not come in"
    assert len(tree.body) == 1, "a name has one place to be imported from"


def test_beside_the_rooms_there_are_few_modules():
    assert len(list((_ROOT / "serve").glob("*.py"))) <= 8


def test_the_plan_of_the_house_shows_every_room_and_every_layer():
    plan = (_ROOT / "docs" / "architecture.md").read_text()
    for room in _ROOMS:
        assert f"`{room.name}/`" in plan, room.name
    layers = tomllib.loads((_ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]
    named = {name for layer in layers["contracts"][0]["layers"] for name in layer.split(" | ")}
    inside = [*_ROOMS, *(_ROOT / "serve").glob("[!_]*.py")]
    assert named == {f"serve.{path.stem}" for path in inside}


@pytest.mark.parametrize("path", _WITH_BEHAVIOUR, ids=_name)
def test_every_module_has_a_test_of_its_name(path):
    module = path.relative_to(_ROOT).as_posix()
    own = _UNIT / path.relative_to(_ROOT / "serve").with_name(f"test_{path.name}")
    if module in _TESTED_ELSEWHERE:
        assert not own.exists(), "it need not be an exception any more"
        assert (_ROOT / _TESTED_ELSEWHERE[module]).exists()
    else:
        assert own.exists(), f"no {own.relative_to(_ROOT)}"


@pytest.mark.parametrize("path", sorted(_UNIT.rglob("test_*.py")), ids=_name)
def test_every_unit_test_is_of_a_module(path):
    inside = path.relative_to(_UNIT)
    folder, name = inside.parent, inside.name.removeprefix("test_")
    homes = [_ROOT / "serve" / folder / name, _ROOT / "scripts" / folder / name]
    is_of_a_package = folder.name == Path(name).stem
    assert any(map(Path.exists, homes)) or is_of_a_package or inside == Path("test_conventions.py")


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


def test_every_metric_of_the_edge_says_what_it_is():
    for name, metric in agent_metrics.METRICS.items():
        assert name.startswith("strata_")
        assert metric.help.endswith(".")
        assert not name.endswith("_total"), "the client appends it"


def test_every_metric_and_key_is_documented():
    metrics = (_ROOT / "docs" / "metrics.md").read_text()
    for name, metric in METRICS.items():
        suffix = "_total" if metric.kind == "counter" else ""
        assert f"`ray_{name}{suffix}`" in metrics
    for name in agent_metrics.exported_names():
        assert f"`{name}`" in metrics
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


def test_every_row_of_the_table_of_compatibility_is_held_by_a_test():
    text = (_ROOT / "docs" / "compatibility.md").read_text()
    rows = [line.split("|") for line in text.splitlines() if line.startswith("| ")]
    held = [cells[-2].strip() for cells in rows if "held by" not in cells[-2]]
    assert len(held) > 40
    for name in held:
        path, _, test = name.strip("`").partition("::")
        where = _ROOT / "tests" / path if path.startswith("integration/") else _UNIT / path
        assert re.search(rf"^def {test}\(", where.read_text(), re.MULTILINE), name


def test_no_file_names_a_place_of_this_machine():
    assert Config is not None
    for path in [*_MODULES, *(_ROOT / "docs").rglob("*.md"), _ROOT / "README.md"]:
        text = path.read_text()
        assert "/work/" not in text
        assert "/root/" not in text


def _imported_by(statement):
    """Return the modules that a new process has after a statement."""
    program = f"import sys\n{statement}\nprint('\\n'.join(sys.modules))"
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=240
    )
    return set(done.stdout.split())


@pytest.mark.parametrize(
    ("statement", "without"),
    [
        pytest.param(
            "import serve.replica.deployments, serve.replica.gateway",
            _ENGINES | _STORES | _TOOLS | _RAYS | _EXPORTERS,
            id="a replica and the gateway",
        ),
        pytest.param(
            "import serve.deploy.applications",
            _ENGINES | _STORES | _TOOLS | _EXPORTERS | {"ray", "serve.replica"},
            id="what Ray Serve calls to build an application",
        ),
        pytest.param(
            "import serve.deploy.local_platform",
            _ENGINES | _STORES | _EXPORTERS | {"ray", "kubernetes", "matplotlib", "PIL"},
            id="what starts a platform",
        ),
        pytest.param(
            "import serve.cli.main",
            _ENGINES | _STORES | _EXPORTERS | {"ray", "kubernetes", "matplotlib", "PIL"},
            id="the command line",
        ),
    ],
)
def test_nothing_is_imported_that_is_not_needed(statement, without):
    assert not _imported_by(statement) & without
