import numpy as np
import pytest

from serve.cli.publish import try_with_examples
from serve.errors import ConfigError
from serve.evaluation.baselines import Examples
from serve.repository.publish import publish
from serve.repository.repository import Repository


def test_a_version_whose_baseline_cannot_be_made_is_not_published(tmp_path, keras_file):
    repository = Repository(str(tmp_path), tmp_path / "cache")
    examples = Examples({"x": np.zeros((10, 2), np.float32)}, "rows.npz")
    with pytest.raises(ConfigError, match=r"rows\.npz: has 10 rows"):
        publish(
            keras_file,
            repository,
            "tiny",
            validate=lambda path: try_with_examples(path, examples, "tiny"),
        )
    assert repository.versions("tiny") == []
