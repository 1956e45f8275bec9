"""An engine over functions, one a signature, each tried before it takes traffic.

The base of the engines of every library: what differs between them is how a function computes.
"""

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from serve.engines.engine import Complexity, EngineName, LayerMetrics, NoLayers, RowsSetting
from serve.engines.own_samples import Samples
from serve.engines.trial import Trial
from serve.errors import RepositoryError
from serve.types import RowsVerdict, Signature, Tensors

log = logging.getLogger("ray.serve")

Infer = Callable[[Tensors], Tensors]


@dataclass(frozen=True, slots=True)
class TriedFunction:
    """A signature, its function from checked inputs to outputs in its order, and its trial."""

    signature: Signature
    infer: Infer
    trial: Trial


class FunctionEngine:
    """Runs functions by signature; see `engine.Engine`.

    `name` is the library that computes, and `reason` says for people why it is that one.
    """

    name: EngineName = "tensorflow"
    reason = ""

    def __init__(
        self, platform: str, functions: Mapping[str, TriedFunction], default_signature: str
    ) -> None:
        self.platform = platform
        self.may_block_loop = True
        self.pads_itself = False
        self.layers: LayerMetrics = NoLayers()
        self.signatures: Mapping[str, Signature] = {
            name: function.signature for name, function in functions.items()
        }
        self.default_signature = default_signature
        self.known_complexity: Complexity | None = None
        self._warm_at: frozenset[int] = frozenset()
        self._functions = {name: function.infer for name, function in functions.items()}
        self._trials = {name: function.trial for name, function in functions.items()}

    def infer(self, signature: str, inputs: Tensors) -> Tensors:
        """Compute checked inputs. Raises InvalidRequest where the model refuses their values.

        Whatever else it raises is chained to InferenceFailed.
        """
        return self._functions[signature](inputs)

    def earn_batching(
        self, rows: RowsSetting, known: Mapping[str, RowsVerdict], samples: Samples
    ) -> None:
        """Find out for each signature whether requests may share a call of it.

        `known` are verdicts of before, by signature, and `samples` the version's own inputs. Raises
        RepositoryError for a setting of `rows` that a signature does not allow.
        """
        signatures = {}
        for name, signature in self.signatures.items():
            own = (
                samples.get(name, ()) if name != self.default_signature else _default(samples, name)
            )
            verdict = self._trials[name].earn(signature, rows, known.get(name), own)
            signatures[name] = replace(
                signature, batched=verdict.independent, batched_reason=verdict.reason
            )
        self.signatures = signatures

    def warmup(self, batch_sizes: Sequence[int]) -> None:
        """Run every signature at every batch size (once if its rows are not independent).

        One whose rows turn out not to be independent after all is not batched. What a call leaves
        behind in the model's state is taken back. Raises RepositoryError if the default signature
        does not compute; another one may want what nobody could guess.
        """
        sizes = [size for size in batch_sizes if size not in self._warm_at]
        if self._warm_at and not sizes:
            return
        for name, signature in self.signatures.items():
            try:
                dependent = self._trials[name].warm(signature, sizes)
            except RepositoryError as err:
                if name == self.default_signature:
                    raise
                log.warning("%s; it is served all the same", err)
                continue
            if dependent:
                known = signature.batched_reason  # by the manifest, maybe
                reason = known if dependent in known else f"{known}; {dependent}"
                changed = replace(signature, batched=False, batched_reason=reason)
                self.signatures = {**self.signatures, name: changed}
                log.warning("signature '%s': %s", name, dependent)

    def proved_at(self, batch_sizes: Sequence[int]) -> None:
        """Take it that every signature computed right numbers at these sizes, and is warm there."""
        self._warm_at = frozenset(batch_sizes)

    def samples(self, signature: str) -> Sequence[tuple[str, Tensors]]:
        """Return inputs that the signature computes, each with a word for where it is from."""
        return self._trials[signature].computable(self.signatures[signature])

    def state_ops(self, signature: str) -> Sequence[str]:
        """Return the operations by which a call of a signature may leave something for the next."""
        return ()

    def export(self, signature: str, folder: Path) -> None:
        """Write a signature as a SavedModel that has it alone, as `serving_default`.

        Raises RepositoryError where that cannot be done.
        """
        raise RepositoryError(f"{self.name} writes no SavedModel of signature '{signature}'")

    def complexity(self) -> Complexity | None:
        """Return what a row of the default signature costs, None where that is not known."""
        return self.known_complexity

    @property
    def retraces(self) -> int:
        """Traces of the model's functions since warm-up."""
        return 0

    def close(self) -> None:
        """Let go of the model, and have its memory collected; nothing is computed after that."""
        self._functions, self._trials = {}, {}


def _default(samples: Samples, name: str) -> Sequence[Tensors]:
    return (*samples.get(name, ()), *samples.get(None, ()))
