"""A signature is tried on a function of numpy, with what it brought or with what is made up."""

import numpy as np
import pytest

from serve.engines.trial import Trial
from serve.errors import InferenceFailed, RepositoryError
from serve.types import RowsVerdict, Signature, TensorSpec


def _signature(*shape, datatype="FP32", outputs=((-1,),), batched=True):
    specs = tuple(TensorSpec(f"y{i}", "FP32", each) for i, each in enumerate(outputs))
    return Signature("s", (TensorSpec("x", datatype, shape),), specs, batched)


ROWS = _signature(-1)
WHOLE = _signature(4, batched=False)


class Seen:
    """Gives x back and notes the shapes it was called with; refuses what `refuses` says."""

    def __init__(self, refuses=lambda x: False):
        self.shapes = []
        self.inputs = []
        self._refuses = refuses

    def __call__(self, inputs):
        self.shapes.append(inputs["x"].shape)
        self.inputs.append(inputs["x"])
        if self._refuses(inputs["x"]):
            raise InferenceFailed("no such value")
        return {"y0": inputs["x"]}


def _earn(call, signature=ROWS, setting="auto", known=None, own=()):
    return Trial(call).earn(signature, setting, known, own)


def test_rows_are_tried_where_nothing_is_said_of_them():
    assert _earn(Seen()).independent
    assert not _earn(lambda inputs: {"y0": inputs["x"] - inputs["x"].mean()}).independent


def test_the_config_overrules():
    def never(inputs):
        raise AssertionError

    together = _earn(never, setting="together", known=RowsVerdict(True, "shown"))
    assert together == RowsVerdict(False, "set by batching.rows: together")
    independent = _earn(never, setting="independent", known=RowsVerdict(False, "shown"))
    assert independent == RowsVerdict(True, "set by batching.rows: independent")
    assert _earn(never, _signature(-1, outputs=(None,), batched=False), "independent").independent


def test_an_output_of_any_rank_shows_what_it_is():
    anything = _signature(-1, outputs=(None,), batched=False)
    assert _earn(Seen(), anything).independent
    assert not _earn(lambda inputs: {"y0": inputs["x"].sum()}, anything).independent


def test_a_verdict_of_before_is_taken():
    known = RowsVerdict(True, "shown when it was published")
    assert _earn(lambda inputs: {}, known=known) is known


@pytest.mark.parametrize("signature", [WHOLE, _signature(), _signature(-1, outputs=((3,),))])
def test_a_dimension_that_is_not_open_holds_no_rows_whatever_the_config_says(signature):
    verdict = _earn(Seen(), signature)
    assert (verdict.independent, "no open dimension 0" in verdict.reason) == (False, True)
    with pytest.raises(RepositoryError, match=r"batching\.rows is independent, but '"):
        _earn(Seen(), signature, "independent")


def test_the_versions_own_sample_is_tried_and_nothing_made_up():
    own = {"x": np.array([7.0, 8, 9])}
    seen = Seen(lambda x: not set(x.tolist()) <= {7, 8, 9})
    verdict = _earn(seen, own=[own])
    assert verdict.independent
    assert "(its own sample)" in verdict.reason


def test_a_sample_of_one_row_shows_nothing_of_rows():
    verdict = _earn(lambda i: {"y0": i["x"] - i["x"].mean()}, own=[{"x": np.array([7.0])}])
    assert not verdict.independent


def test_several_requests_of_one_row_are_rows():
    seen = Seen()
    own = [{"x": np.array([float(n)])} for n in (7, 8)]
    assert "(its own sample)" in _earn(seen, own=own).reason


@pytest.mark.parametrize(
    ("own", "said"),
    [
        ({"z": np.ones(3)}, "takes x; its sample has z"),
        ({"x": np.ones((3, 2))}, r"is float64 \[3, 2\]"),
        ({"x": np.array([b"a"], object)}, "is object"),
        ({"x": np.ones(0)}, "is empty"),
    ],
)
def test_a_sample_that_does_not_fit_is_refused(own, said):
    with pytest.raises(RepositoryError, match=said):
        _earn(Seen(), own=[own])


def _warm(call, signature=ROWS, own=(), sizes=(1, 2, 8)):
    trial = Trial(call)
    trial.earn(signature, "together", None, own)
    return trial.warm(signature, sizes)


def test_every_batch_size_is_run_and_what_has_no_rows_once():
    seen = Seen()
    assert _warm(seen) == ""
    assert seen.shapes[-3:] == [(1,), (2,), (8,)]
    whole = Seen()
    _warm(whole, WHOLE)
    assert whole.shapes == [(4,)]


@pytest.mark.parametrize(("known", "own"), [(None, []), (RowsVerdict(True, "shown"), [[7, 8, 9]])])
def test_rows_that_see_each_other_in_large_batches_alone_are_told(known, own):
    def crowded(inputs):
        x = inputs["x"]
        return {"y0": x - (x.mean() if len(x) > 8 else 0)}

    trial = Trial(crowded)
    assert trial.earn(ROWS, "auto", known, [{"x": np.array(x, float)} for x in own]).independent
    found = trial.warm(ROWS, (1, 8, 16, 32))
    assert found == "but output 'y0' has other numbers for a row in a batch of 16"
    trial.earn(ROWS, "independent", None, ())
    assert trial.warm(ROWS, (16,)) == "", "the config says so"


def test_batches_without_a_row_for_each_are_told():
    trial = Trial(lambda inputs: {"y0": inputs["x"][:8]})
    trial.earn(ROWS, "auto", RowsVerdict(True, "shown"), ())
    assert "shape [8] for 16 rows, in a batch of 16" in trial.warm(ROWS, (1, 16))


def test_one_row_that_a_version_brought_computes_and_others_make_the_batches():
    seen = Seen()
    _warm(seen, own=[{"x": np.array([7.0])}])
    assert [7.0] in [x.tolist() for x in seen.inputs]
    assert len(set(seen.inputs[-1].tolist())) > 1
    special = Seen(lambda x: not set(x.tolist()) <= {7.0})
    _warm(special, own=[{"x": np.array([7.0])}])
    assert special.inputs[-1].tolist() == [7.0] * 8


def test_values_that_are_refused_are_followed_by_others():
    seen = Seen(lambda x: not (x == 0).all())
    _warm(seen)
    assert seen.shapes[-1] == (8,)


def test_a_length_that_is_refused_is_followed_by_others():
    seen = Seen(lambda x: x.shape[1] < 30)
    _warm(seen, _signature(-1, -1))
    assert seen.shapes[-1] == (8, 32)


def test_what_never_computes_does_not_get_through():
    with pytest.raises(
        RepositoryError,
        match=r"does not compute values made up for its types: no such value; .*--sample",
    ):
        _warm(Seen(lambda x: True))


def test_what_computes_a_little_but_no_full_batch_does_not_either():
    with pytest.raises(RepositoryError, match=r"does not compute 'x' \[8\]: no such value"):
        _warm(Seen(lambda x: len(x) > 4))


def test_the_versions_own_sample_must_compute():
    with pytest.raises(RepositoryError, match=r"does not compute 'x' \[1\]: no such value"):
        _warm(Seen(lambda x: 7 in x), own=[{"x": np.array([7.0])}])
    with pytest.raises(RepositoryError, match=r"does not compute 'x' \[4\]: no such value"):
        _warm(Seen(lambda x: 7 in x), WHOLE, own=[{"x": np.full(4, 7.0)}])


def test_state_that_is_written_is_put_back_and_told(tf):
    count = tf.Variable(1.0, name="count")

    def counted(inputs):
        return {"y0": inputs["x"] + count.assign_add(1).numpy()}

    trial = Trial(counted, [count], ("AssignAddVariableOp",))
    verdict = trial.earn(ROWS, "auto", None, ())
    assert not verdict.independent
    assert "state that all its clients share, in count" in verdict.reason
    again = Trial(counted, [count], ("AssignAddVariableOp",))
    assert "in count" in again.warm(WHOLE, (1,))
    assert count.numpy() == 1
