"""What the layers dashboard tells of models beside a pipeline."""

from dashboards.layers import layers
from dashboards.query import expressions

from tests.unit.dashboards.models_in_a_pool import tell


def test_a_million_requests_cost_what_the_cost_dashboard_says(tmp_path):
    columns = [each for title, each in expressions(layers(), {}) if title == "Side by side"]
    tell(
        tmp_path,
        columns[-1],
        ('{model="digits"}', 34.722),
        ('{model="parity"}', 34.722),
        ('{model="rests"}', 0),
    )
