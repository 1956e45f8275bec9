import pytest
import yaml

from tests.unit.cluster.fake_helm import chart, helm

__all__ = ["chart", "helm"]


@pytest.fixture
def config(tmp_path):
    """A strata.yaml with an empty repository beside it."""
    path = tmp_path / "strata.yaml"
    path.write_text(yaml.safe_dump({"repository": {"root": "models"}, "models": []}))
    return path


@pytest.fixture(scope="session")
def keras_file(tmp_path_factory):
    import keras

    path = tmp_path_factory.mktemp("keras") / "tiny.keras"
    model = keras.Sequential([keras.Input((2,), name="x"), keras.layers.Dense(2, name="y")])
    model.save(path)
    return path
