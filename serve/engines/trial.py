"""Try a signature before it takes traffic: does it compute, do its rows see each other.

Used by tensorflow_engine while a version is loaded, and by that in `strata publish`.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np

from serve.datatypes import DATATYPES
from serve.engines import sample_rows
from serve.engines.engine import RowsSetting
from serve.engines.row_independence import TOLERANCE, cause_of, difference, prove
from serve.engines.sample_rows import Kind
from serve.engines.state import StateKept, state_kept
from serve.errors import RepositoryError, ServeError
from serve.protocols.signature_check import describe, fits
from serve.types import RowsVerdict, Signature, Tensors, TensorSpec

_MOST_ROWS = 8  # of a version's own samples, when its rows are tried


class Trial:
    """Calls one signature by `infer`; what its `state_ops` write to `variables` is taken back.

    `kinds` are values that it may want besides the usual ones, and `tolerance` is what rounding may
    make of a number.
    """

    def __init__(
        self,
        infer: Callable[[Tensors], Tensors],
        variables: Sequence[Any] = (),
        state_ops: Sequence[str] = (),
        kinds: Sequence[Kind] = (),
        tolerance: float = TOLERANCE,
    ) -> None:
        self._infer = infer
        self._kinds = kinds
        self._tolerance = tolerance
        self._variables = variables if state_ops else ()
        self._state_ops = state_ops
        self._own: Sequence[Tensors] = ()
        self._brought: Sequence[Tensors] = ()  # the same, kept when they have done their work
        self._found: Tensors | None = None  # made-up inputs that compute
        self._refusal = ""
        self._is_set = False  # by the config, whose word on rows counts

    def earn(
        self,
        signature: Signature,
        setting: RowsSetting,
        known: RowsVerdict | None,
        own: Sequence[Tensors],
    ) -> RowsVerdict:
        """Return whether the rows of a signature are independent, by setting, verdict or trial.

        `own` are inputs that the version brought. Raises RepositoryError if they do not fit, or
        where the setting asks for what the signature's shapes do not allow.
        """
        self._own = self._brought = [_fitted(inputs, signature) for inputs in own]
        self._is_set = setting != "auto"
        closed = _closed(signature)
        if setting == "together":
            return RowsVerdict(False, "set by batching.rows: together")
        if setting == "independent":
            if closed:
                raise RepositoryError(
                    f"signature '{signature.name}': batching.rows is independent, but {closed}"
                )
            return RowsVerdict(True, "set by batching.rows: independent")
        if closed:
            return RowsVerdict(False, closed)
        if known is not None:
            return known
        with self._state() as state:
            verdict = prove(self._infer, self._samples(signature), self._tolerance)
        if state.written:
            return RowsVerdict(False, _keeps(state.written))
        return verdict

    def warm(self, signature: Signature, batch_sizes: Sequence[int]) -> str:
        """Compute at every batch size; return why rows are not independent after all, else "".

        A state may have been written, or rows see each other in a batch of one of the sizes, which
        no trial of a few rows could show. Raises RepositoryError if it does not compute what the
        version brought or, where it brought nothing, any of what could be made up.
        """
        with self._state() as state:
            for inputs in self._own:
                self._require(signature, inputs)
            seen = ""
            if signature.batched:
                seen = self._warm_sizes(signature, self._rows(signature), batch_sizes)
            elif not self._own:
                self._found_for(signature)
        self._own, self._found = (), None  # they have done their work
        return _keeps(state.written) if state.written else seen

    def computable(self, signature: Signature) -> list[tuple[str, Tensors]]:
        """Return the samples that compute, with a word for where each is from.

        What the version brought goes first, made-up values of every kind and length follow.
        """
        found = [("its own sample", inputs) for inputs in self._brought]
        with self._state():
            for kind in (*self._kinds_of(signature), *sample_rows.PLAIN):
                for inputs in sample_rows.inputs_of(signature, kind, sample_rows.ROWS):
                    try:
                        self._infer(inputs)
                    except ServeError:
                        continue
                    found.append((kind.name, inputs))
        return found

    def _rows(self, signature: Signature) -> Tensors:
        """Return rows to make batches of, which differ if any of what was brought or made up do."""
        varied = _varied(self._own)
        if varied is not None:
            return varied
        try:
            return self._found_for(signature)
        except RepositoryError:
            if not self._own:
                raise
            return self._own[0]

    def _warm_sizes(self, signature: Signature, rows: Tensors, batch_sizes: Sequence[int]) -> str:
        """Return in words in which batch rows compute to other numbers than a few of them do."""
        counts = {len(array) for array in rows.values()}
        few = self._require(signature, rows) if len(counts) == 1 and not self._is_set else None
        seen = ""
        for size in batch_sizes:
            got = self._require(signature, _repeated(rows, size))
            if few is not None and not seen:
                chosen = np.arange(size) % min(counts)
                found = difference(few, got, chosen, self._tolerance)
                seen = f"but {found} in a batch of {size}" if found else ""
        return seen

    def _found_for(self, signature: Signature) -> Tensors:
        if self._found is None:
            kinds = (*self._kinds_of(signature), *sample_rows.PLAIN)
            self._found = next(filter(None, (self._try(signature, kind) for kind in kinds)), None)
        if self._found is None:
            raise RepositoryError(
                f"signature '{signature.name}' does not compute values made up for its types: "
                f"{self._refusal}; "
                "if it only takes special values, such as the components of a ragged or sparse "
                "tensor, publish it with some: strata publish --sample"
            )
        return self._found

    def _require(self, signature: Signature, inputs: Tensors) -> Tensors:
        try:
            return self._infer(inputs)
        except ServeError as err:
            shapes = ", ".join(f"'{name}' {list(array.shape)}" for name, array in inputs.items())
            raise RepositoryError(
                f"signature '{signature.name}' does not compute {shapes}: {cause_of(err)}"
            ) from err

    def _samples(self, signature: Signature) -> Iterator[tuple[str, Tensors]]:
        own = _varied(self._own)
        if own is not None:
            yield "its own sample", own
            return
        for kind in self._kinds_of(signature):
            found = self._try(signature, kind)
            if found is not None:
                yield kind.name, found

    def _kinds_of(self, signature: Signature) -> Sequence[Kind]:
        return (*self._kinds, *sample_rows.kinds_of(signature))

    def _try(self, signature: Signature, kind: Kind) -> Tensors | None:
        """Return inputs of a kind at the first length that computes, None if none does."""
        for inputs in sample_rows.inputs_of(signature, kind, sample_rows.ROWS):
            try:
                self._infer(inputs)
            except ServeError as err:
                self._refusal = self._refusal or cause_of(err)
                continue
            self._found = self._found or inputs
            return inputs
        return None

    @contextmanager
    def _state(self) -> Iterator[StateKept]:
        with state_kept(self._variables) as kept:
            yield kept
        tables = [name for name in self._state_ops if name.startswith("LookupTable")]
        kept.written = (*kept.written, *tables)


def _keeps(written: Sequence[str]) -> str:
    return (
        f"it keeps a state that all its clients share, in {', '.join(written)}: an answer may "
        "depend on the calls before it; export it with the state as an input and an output"
    )


def _closed(signature: Signature) -> str:
    """Return which input or output cannot hold any number of rows, "" if all can."""
    if not signature.inputs:
        return "it has no inputs"
    for spec in signature.inputs:
        if spec.shape is None or spec.shape[:1] != (-1,):
            return f"'{spec.name}' has no open dimension 0, its shape is {_shape(spec)}"
    for spec in signature.outputs:  # one of any rank has to show what it is
        if spec.shape is not None and spec.shape[:1] != (-1,):
            return f"'{spec.name}' has no open dimension 0, its shape is {_shape(spec)}"
    return ""


def _shape(spec: TensorSpec) -> str:
    return "any" if spec.shape is None else str(list(spec.shape))


def _fitted(inputs: Tensors, signature: Signature) -> Tensors:
    """Return sample inputs in the signature's order and datatypes. Raises RepositoryError."""
    names = {spec.name for spec in signature.inputs}
    if set(inputs) != names:
        raise RepositoryError(
            f"signature '{signature.name}' takes {', '.join(sorted(names))}; its sample has "
            f"{', '.join(sorted(inputs)) or 'nothing'}"
        )
    fitted = {}
    for spec in signature.inputs:
        array, dtype = inputs[spec.name], DATATYPES[spec.datatype].numpy
        if not np.can_cast(array.dtype, dtype, "same_kind") or not fits(array.astype(dtype), spec):
            raise RepositoryError(
                f"the sample of '{spec.name}' is {array.dtype} {list(array.shape)}, signature "
                f"'{signature.name}' takes {describe(spec)}"
            )
        if array.size == 0:
            raise RepositoryError(f"the sample of '{spec.name}' is empty")
        fitted[spec.name] = array.astype(dtype, copy=False)
    return fitted


def _varied(own: Sequence[Tensors]) -> Tensors | None:
    """Return own sample rows that are not all alike, None if there are no two that differ."""
    shapes = {name: array.shape[1:] for name, array in own[0].items()} if own else {}
    like = [each for each in own if {n: a.shape[1:] for n, a in each.items()} == shapes]
    if not like or any(array.ndim == 0 for array in like[0].values()):
        return None
    rows = {name: np.concatenate([each[name] for each in like])[:_MOST_ROWS] for name in like[0]}
    counts = {len(array) for array in rows.values()}
    if len(counts) != 1 or counts.pop() < 2:
        return None
    is_varied = any(
        not np.array_equal(array[:1], array[i : i + 1])
        for array in rows.values()
        for i in range(1, len(array))
    )
    return rows if is_varied else None


def _repeated(inputs: Tensors, size: int) -> Tensors:
    return {name: array[np.arange(size) % len(array)] for name, array in inputs.items()}
