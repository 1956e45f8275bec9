from dataclasses import replace

import pytest
from bench.peers.targets import targets_of

_ON_TENSORFLOW = "strata-tensorflow"


def _changed(figures, peer, name, **changed):
    """Return figures of which one row of one server is different."""
    turn = figures.peers[peer]
    rows = {**turn.rows, name: replace(turn.rows[name], **changed)}
    return replace(figures, peers={**figures.peers, peer: replace(turn, rows=rows)})


def _of(figures, *words):
    (found,) = [t for t in targets_of(figures) if all(word in t.what for word in words)]
    return found


def test_servers_that_do_the_same_have_ratios_of_one(figures):
    ratios = [t.reached for t in targets_of(figures) if "times" in t.what or "over" in t.what]
    beyond_engine_over_echo = (400 - 200) / 600
    expected = [1.0] * 15 + [pytest.approx(beyond_engine_over_echo)] * 4
    assert ratios == expected


@pytest.mark.parametrize(("rate", "verdict"), [(3000.0, "pass"), (2999.0, "miss")])
def test_a_bound_is_met_from_the_bound_on(figures, rate, verdict):
    fast = _changed(figures, "strata", "binary, 16", requests_per_s=rate)
    assert _of(fast, "binary, 16", "Triton").verdict == verdict
    assert _of(fast, "binary, 64", "Triton").reached == 1.0, "of another row"


def test_the_slowest_requests_are_held_against_the_best_of_the_others(figures):
    mixed = _changed(figures, "mosec", "JSON, 64", p99_ms=2.0)
    target = _of(mixed, "JSON, 64", "p99")
    assert (target.reached, target.verdict) == (2.0, "miss")
    assert "mosec" in target.note


def test_v1_is_held_against_v2_at_the_same_connections(figures):
    slow = _changed(figures, "strata", "V1, 16", requests_per_s=250.0)
    slow = _changed(slow, "strata", "JSON, 64", requests_per_s=500.0)
    assert [_of(slow, f"V1, {c}:").reached for c in (1, 16, 64)] == [1, 0.25, 2]


def test_the_engines_part_of_the_replicas_cpu_is_of_the_batches_that_were_made(figures):
    lonely = _changed(
        figures, _ON_TENSORFLOW, "JSON, 16", batch_rows=1.0, cpu_us={"replica": 800.0}
    )
    assert _of(lonely, "JSON, 16", "CPU").reached == pytest.approx((800 - 500) / 600)


def test_without_the_size_of_batches_nothing_is_said_of_the_replicas_cpu(figures):
    unknown = _changed(figures, _ON_TENSORFLOW, "JSON, 16", batch_rows=None)
    assert _of(unknown, "JSON, 16", "CPU").verdict == "not measured"


def test_one_connection_is_told_in_engine_calls_and_milliseconds(figures):
    target = _of(figures, "binary, 1:")
    assert target.reached == 1.0, "2 ms are one call of 1 ms above it"
    assert target.bound == pytest.approx(0.5 / 0.4)
    assert "1.00 ms" in target.note


def test_images_of_large_requests_are_a_share_of_what_the_engine_computes(figures):
    fast = _changed(figures, _ON_TENSORFLOW, "binary x32, 64", requests_per_s=100.0)
    for name in ("binary x32, 1", "binary x32, 16"):
        fast = _changed(fast, _ON_TENSORFLOW, name, requests_per_s=50.0)
    assert _of(fast, "x32").reached == pytest.approx(3200 / 4000)


def test_what_was_not_measured_is_neither_met_nor_missed(figures):
    alone = replace(figures, peers={"strata": figures.peers["strata"]})
    targets = targets_of(alone)
    assert len(targets) == len(targets_of(figures))
    assert _of(alone, "binary, 16", "Triton").is_met is None
    assert _of(alone, "V1, 16").is_met is True
    assert all(t.is_met is None for t in targets_of(replace(figures, peers={})))
