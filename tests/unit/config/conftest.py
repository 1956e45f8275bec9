"""A strata.yaml as a user writes it."""

import pytest

from serve.config.file import load
from serve.errors import ConfigError


@pytest.fixture
def load_text(tmp_path):
    """Return what reads a text as a strata.yaml."""

    def load_text(text):
        path = tmp_path / "strata.yaml"
        path.write_text(text)
        return load(path)

    return load_text


@pytest.fixture
def refusal(load_text):
    """Return what reads a text that is refused, and gives the message, which names the file."""

    def refusal(text):
        with pytest.raises(ConfigError) as caught:
            load_text(text)
        assert "strata.yaml" in str(caught.value)
        return str(caught.value)

    return refusal
