import pytest
from hypothesis import given
from hypothesis import strategies as st

from serve.edge.haproxy import templates
from serve.edge.haproxy.configuration import with_edge
from serve.edge.haproxy.templates import filled
from serve.errors import ConfigError
from tests.unit.edge.haproxy.test_configuration import MAPS, RAYS


def test_a_template_file_that_is_missing_is_named(monkeypatch, tmp_path):
    templates.template.cache_clear()
    monkeypatch.setattr(templates, "_FOLDER", tmp_path)
    with pytest.raises(ConfigError, match=r"global.cfg cannot be read; install Strata anew"):
        with_edge(RAYS, MAPS)


@given(st.text(), st.text())
def test_a_value_is_put_wherever_its_name_is(before, value):
    line = f"{before}NAME|NAME"
    assert filled(line, {"NAME": value}) == line.replace("NAME", value)
    assert filled(line, {}) == line
