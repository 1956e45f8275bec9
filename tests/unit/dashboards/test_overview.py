"""What the overview tells of models by themselves and of those that share a pool."""

import pytest
from dashboards.overview import overview
from dashboards.query import expressions

from tests.unit.dashboards.models_in_a_pool import tell


@pytest.mark.parametrize(("title", "count"), [("Models ready", 3), ("Replicas", 3)])
def test_a_pool_is_no_model_and_its_models_have_one_replica(tmp_path, title, count):
    """Three models are served by three processes, two of which are of one model."""
    tell(tmp_path, dict(reversed(expressions(overview(), {})))[title], ("{}", count))
