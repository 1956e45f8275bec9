"""Figures of a run that was never made."""

from itertools import product

import pytest
from bench.peers.figures import CONNECTIONS, KINDS, Engine, Figures, Row, Turn, row_name


def turn(row, kinds=KINDS):
    rows = {row_name(kind, connections): row for kind, connections in product(kinds, CONNECTIONS)}
    return Turn(start_s=2.0, rss_mb=120.0, pss_mb=100.0, loaded_pss_mb=110.0, rows=rows)


ENGINE = Engine(
    call_ms={1: 1.0, 32: 8.0},
    cpu_us_a_row={1: 500.0, 16: 200.0, 32: 190.0, 64: 180.0},
    memory_mb=600.0,
)


@pytest.fixture
def figures():
    """Every server with the same rows: 1,000 requests/s, 2 ms, 600 µs of CPU."""
    row = Row(1000.0, 2.0, 4.0, {"replica": 400.0, "haproxy": 150.0, "raylet": 50.0}, 16.0)
    one = turn(row)
    peers = ("strata", "strata-tensorflow", "triton", "mosec", "echo")
    return Figures(
        engine=ENGINE,
        peers=dict.fromkeys(peers, one) | {"mlserver": turn(row, ("JSON",))},
        missing={"kserve": "it cannot be installed"},
        wrong=[],
        seconds=3,
        rounds=1,
        cores=2,
    )
