import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from serve.config.edit import replace_value
from serve.errors import ConfigError

_TEXT = """\
# The platform.
models: [{name: a}]   # one
pipelines:
  - name: p
    layers:
      - model: a
        exit: {max_probability: 0.95}  # found by hand
      - model: "b"
"""
_PATH = ("pipelines", 0, "layers", 0, "exit", "max_probability")


def test_only_the_value_changes():
    assert replace_value(_TEXT, _PATH, 0.8125) == _TEXT.replace("0.95", "0.8125")


@given(st.floats(0, 10))
def test_the_value_is_read_back_as_it_was_meant(value):
    tree = yaml.safe_load(replace_value(_TEXT, _PATH, value))
    read = tree["pipelines"][0]["layers"][0]["exit"]["max_probability"]
    assert float(read) == pytest.approx(value, rel=1e-5)


@pytest.mark.parametrize(
    "path", [("pipelines", 3, "name"), ("nothing",), ("pipelines", 0, "layers"), ("models", "a")]
)
def test_a_path_without_a_plain_value_is_refused(path):
    with pytest.raises(ConfigError, match="change it by hand"):
        replace_value(_TEXT, path, 1)
