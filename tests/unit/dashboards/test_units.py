"""Values as Grafana writes them."""

import math

import pytest
from dashboards.units import written


@pytest.mark.parametrize(
    ("value", "unit", "text"),
    [
        (0.0, "s", "0 s"),
        (0.000534, "s", "534 µs"),
        (0.0147, "s", "14.7 ms"),
        (61.0, "s", "61 s"),
        (150.0, "s", "2.5 min"),
        (90000.0, "s", "25 h"),
        (0.9995, "percentunit", "99.95%"),
        (0.999, "percentunit", "99.9%"),
        (0.99999, "percentunit", "100%"),
        (-10.85, "percentunit", "-1085%"),
        (72.62, "percent", "72.6%"),
        (1536.0, "bytes", "1.5 KiB"),
        (24e9, "bytes", "22.4 GiB"),
        (3e6, "Bps", "3 MB/s"),
        (384.2, "reqps", "384 req/s"),
        (2800.0, "reqps", "2.8 K req/s"),
        (0.0, "rowsps", "0 rows/s"),
        (1_500_000.0, "short", "1.5 Mil"),
        (0.576, "currency:¤", "¤0.576"),
        (0.0, "currency:¤", "¤0"),
        (math.nan, "s", "-"),
    ],
)
def test_a_value_is_written_with_its_unit(value, unit, text):
    assert written(value, unit) == text
