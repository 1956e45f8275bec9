"""What a monitor counts, when it looks, and how long it remembers."""

import asyncio

import numpy as np
import pytest

from serve.batching.batcher import Batcher, BatchPolicy
from serve.config.sections import Batching
from serve.drift.baseline import Baseline, describe
from serve.drift.monitor import BUCKET_S, SHARE, Monitor
from serve.drift.score import LEAST_ROWS
from serve.errors import InferenceFailed

_RANDOM = np.random.default_rng(0)


def _rows(count, shift=0.0):
    return _RANDOM.normal(shift, 1, (count, 2)).astype(np.float32)


def _answered(rows):
    return [({"x": rows}, {"y": rows.sum(axis=1), "error": np.abs(rows[:, 0])})]


def _baseline(error=None):
    (inputs, outputs) = _answered(_rows(2_000))[0]
    return Baseline(
        "s",
        2_000,
        {"x": describe("features", inputs["x"])},
        {name: describe("features", array) for name, array in outputs.items()},
        error,
    )


class Clock:
    """Time that passes by hand, and by `step` each time it is read."""

    def __init__(self, step=0.0):
        self.now, self.step = 100.0, step

    def __call__(self):
        self.now += self.step
        return self.now


def _look(monitor, rows):
    for start in range(0, len(rows), 50):
        monitor.look("s", _answered(rows[start : start + 50]))


def test_nothing_is_said_of_few_rows():
    monitor = Monitor(_baseline("error"))
    assert monitor.reconstruction_error() is None
    _look(monitor, _rows(LEAST_ROWS - 50))
    assert monitor.scores() == {}
    _look(monitor, _rows(50))
    assert set(monitor.scores()) == {"input.x", "output.y", "output.error"}


def test_one_feature_that_moved_makes_the_score_of_its_tensor():
    monitor = Monitor(_baseline())
    _look(monitor, _rows(600))
    assert max(monitor.scores().values()) < 0.1
    moved = Monitor(_baseline())
    _look(moved, _rows(600) + np.array([0, 0.6], np.float32))
    assert moved.scores()["input.x"] > 0.25
    assert moved.scores()["output.error"] < 0.1


def test_rows_are_counted_once_and_told_once():
    monitor = Monitor(_baseline())
    _look(monitor, _rows(75))
    assert (monitor.take_rows(), monitor.take_rows()) == (75, 0)


def test_the_error_is_the_mean_of_finite_ones():
    monitor = Monitor(_baseline("error"))
    errors = np.array([1, 2, np.nan, np.inf], np.float32)
    monitor.look("s", [({"x": _rows(4)}, {"y": errors, "error": errors})])
    assert monitor.reconstruction_error() == 1.5


@pytest.mark.parametrize(
    "odd",
    [
        _rows(0),
        np.full((3, 2), np.nan, np.float32),
        np.full((3, 2), np.inf, np.float32),
    ],
)
def test_odd_rows_are_looked_at_too(odd):
    monitor = Monitor(_baseline("error"))
    monitor.look("s", _answered(odd))
    monitor.look("another signature", [({"z": odd}, {})])
    monitor.look("s", [])
    assert monitor.take_rows() == len(odd)


def test_what_was_seen_is_forgotten_after_two_buckets():
    clock = Clock()
    monitor = Monitor(_baseline(), clock)
    _look(monitor, _rows(LEAST_ROWS, shift=3))
    clock.now += BUCKET_S
    _look(monitor, _rows(LEAST_ROWS))
    assert monitor.scores()["input.x"] > 0.25
    clock.now += BUCKET_S
    _look(monitor, _rows(LEAST_ROWS))
    assert monitor.scores()["input.x"] < 0.1


def test_slow_traffic_is_not_forgotten_before_there_is_enough_of_it():
    clock = Clock()
    monitor = Monitor(_baseline(), clock)
    for _ in range(LEAST_ROWS // 50):
        _look(monitor, _rows(50))
        clock.now += 2 * BUCKET_S
    assert monitor.scores()


@pytest.mark.parametrize("sharers", [1, 100])
def test_it_rests_so_long_that_looking_takes_its_share_of_the_time(sharers):
    clock = Clock(step=0.001)
    monitor = Monitor(_baseline(), clock, lambda: sharers)
    assert monitor.is_due()
    _look(monitor, _rows(10))  # which takes one step
    ended, clock.step = clock.now, 0.0
    clock.now = ended + 0.001 * (sharers / SHARE - 1) - 1e-6
    assert not monitor.is_due()
    clock.now += 2e-6
    assert monitor.is_due()


def test_one_look_is_bounded_whatever_the_tensors():
    many = Monitor(_baseline())
    many.look("s", _answered(_rows(40)) + _answered(_rows(4_000)))
    assert many.take_rows() == 64
    wide = np.zeros((64, 100_000), np.float32)
    baseline = Baseline("s", 64, {"x": describe("summary", wide)}, {"y": describe("summary", wide)})
    large = Monitor(baseline)
    large.look("s", [({"x": wide}, {"y": wide})])
    assert large.take_rows() == 1


def _engine(signature, inputs):
    if (inputs["x"] == 13).any():
        raise InferenceFailed("thirteen")
    return {"y": inputs["x"].sum(axis=1), "error": np.abs(inputs["x"][:, 0])}


class Always:
    """A watcher that wants to see every batch, and notes who had an answer by then."""

    def __init__(self):
        self.seen, self.answered = [], 0

    def is_due(self):
        return True

    def look(self, signature, answered):
        self.seen.append((signature, answered))


@pytest.mark.parametrize("alone", [True, False])
def test_a_watcher_is_shown_what_was_answered_without_padding(alone):
    watcher = Always()

    async def scenario():
        policy = BatchPolicy(Batching(max_batch_size=8), 100)
        batcher = Batcher(_engine, policy, lambda run, timing: None, watcher)

        async def infer(rows):
            return await batcher.infer(
                "s", {"x": rows}, batched=True, timeout_s=10, is_alone=lambda: alone
            )

        bad = np.full((1, 2), 13, np.float32)
        if alone:  # the second one runs on the event loop: by then a run is known to be short
            await infer(_rows(3))
            await infer(_rows(3))
        else:
            await asyncio.gather(
                infer(_rows(3)), infer(bad), infer(_rows(2)), return_exceptions=True
            )
        await asyncio.sleep(0)
        batcher.close()

    asyncio.run(scenario())
    shapes = [
        [(inputs["x"].shape[0], outputs["y"].shape[0]) for inputs, outputs in answered]
        for _, answered in watcher.seen
    ]
    assert shapes == ([[(3, 3)], [(3, 3)]] if alone else [[(3, 3), (2, 2)]])
