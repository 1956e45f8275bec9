from itertools import product

import pytest
from bench.load import Measured
from bench.peers import ratios_of


def _rows(**changed):
    kinds = ("ray example, JSON", "JSON", "binary", "binary x32")
    names = [f"{kind}, {connections}" for kind, connections in product(kinds, (1, 16, 64))]
    rows = dict.fromkeys(names, Measured(100.0, 2.0, 3.0))
    return rows | changed


_ENGINE = {"one_ms": 2.0, "many_ms": 10.0, "memory_mb": 200.0}


def test_a_platform_as_good_as_its_peers_has_ratios_of_one_and_nothing_above_them():
    ratios = ratios_of(_ENGINE, _rows(), ready_s=7.0, memory_mb=200.0)
    assert ratios == pytest.approx(
        {
            "times Ray's example at 16 connections, JSON": 1,
            "share of the engine's images/s, 32 a request": 1,
            "ms above the engine, one connection, binary": 0,
            "ms above the engine, one connection, JSON": 0,
            "seconds until ready": 7,
            "times the memory of a process that only loads the model": 1,
        }
    )


def test_each_ratio_is_of_its_own_rows():
    rows = _rows(
        **{
            "JSON, 16": Measured(900.0, 1.0, 1.0),
            "JSON, 1": Measured(1.0, 2.5, 3.0),
            "binary, 1": Measured(1.0, 2.25, 3.0),
            "binary x32, 64": Measured(50.0, 1.0, 1.0),
            "binary x32, 1": Measured(40.0, 1.0, 1.0),
            "binary x32, 16": Measured(40.0, 1.0, 1.0),
        }
    )
    values = list(ratios_of(_ENGINE, rows, ready_s=0.0, memory_mb=300.0).values())
    assert values == pytest.approx([9, 0.5, 0.25, 0.5, 0, 1.5])
