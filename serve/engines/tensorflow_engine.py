"""An engine over compiled TensorFlow functions, one a signature.

Built by saved_model and keras_model, which know how to get the functions of their formats.
"""

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import tensorflow as tf

from serve.engines.complexity import Complexity, complexity_of
from serve.engines.engine import LayerMetrics, NoLayers, RowsSetting
from serve.engines.memory import release_soon
from serve.engines.own_samples import Samples
from serve.engines.row_independence import TOLERANCE, TOLERANCE_OF_CARDS
from serve.engines.sample_rows import Kind
from serve.engines.tensorflow_errors import client_mistake
from serve.engines.trial import Trial
from serve.errors import InferenceFailed, InvalidRequest, RepositoryError
from serve.types import Array, RowsVerdict, Signature, Tensors

log = logging.getLogger("ray.serve")


@dataclass(frozen=True, slots=True)
class CompiledFunction:
    """A signature and its function, which takes and returns dicts of tensors by name.

    `state_ops` are the operations in it by which a call may leave something for the next one, and
    `kinds` values that it may want besides the usual ones.
    """

    signature: Signature
    call: Callable[[dict[str, Any]], Mapping[str, Any]]
    variables: Sequence[Any] = ()
    state_ops: Sequence[str] = ()
    kinds: Sequence[Kind] = ()


class TensorFlowEngine:
    """Runs compiled functions; `trace_count` tells how many graphs were traced so far."""

    def __init__(
        self,
        platform: str,
        functions: Sequence[CompiledFunction],
        default_signature: str,
        trace_count: Callable[[], int] = lambda: 0,
        owner: Any = None,
    ) -> None:
        self.platform = platform
        self.may_block_loop = True
        self.pads_itself = False
        self.layers: LayerMetrics = NoLayers()
        self.signatures: Mapping[str, Signature] = {
            f.signature.name: f.signature for f in functions
        }
        self.default_signature = default_signature
        self._functions = {f.signature.name: f for f in functions}
        tolerance = TOLERANCE_OF_CARDS if tf.config.list_logical_devices("GPU") else TOLERANCE
        self._trials = {
            name: Trial(partial(_infer, f), f.variables, f.state_ops, f.kinds, tolerance)
            for name, f in self._functions.items()
        }
        self._owner = owner  # the functions do not keep the model's variables alive
        self._trace_count = trace_count
        self._warm_traces = trace_count()

    def infer(self, signature: str, inputs: Tensors) -> Tensors:
        """Compute checked inputs. Raises InvalidRequest where TensorFlow refuses their values.

        Whatever else the model raises is chained to InferenceFailed.
        """
        return _infer(self._functions[signature], inputs)

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
        for name, signature in self.signatures.items():
            try:
                dependent = self._trials[name].warm(signature, batch_sizes)
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
        self._warm_traces = self._trace_count()

    def complexity(self) -> Complexity:
        """Return what a row of the default signature costs; traces it once more."""
        function = self._functions[self.default_signature]
        return complexity_of(function.call, function.variables, function.signature)

    @property
    def retraces(self) -> int:
        """Traces of the model's functions since warm-up."""
        return self._trace_count() - self._warm_traces

    def close(self) -> None:
        """Let go of the model, and have its memory collected; nothing is computed after that."""
        self._functions, self._trials, self._owner = {}, {}, None
        self._trace_count = lambda: 0
        release_soon()


def _infer(function: CompiledFunction, inputs: Tensors) -> Tensors:
    try:
        tensors = {name: tf.convert_to_tensor(array) for name, array in inputs.items()}
        outputs = function.call(tensors)
        return {s.name: _to_array(outputs[s.name]) for s in function.signature.outputs}
    except (tf.errors.OpError, ValueError, TypeError) as err:
        mistake = client_mistake(err)
        if mistake is not None:
            raise InvalidRequest(f"the model refused these inputs: {mistake}") from err
        raise InferenceFailed(
            f"the model raised {type(err).__name__} while computing signature "
            f"'{function.signature.name}'; the replica's log has the details"
        ) from err


def _default(samples: Samples, name: str) -> Sequence[Tensors]:
    return (*samples.get(name, ()), *samples.get(None, ()))


def _to_array(tensor: Any) -> Array:
    array = tensor.numpy()
    if isinstance(array, np.ndarray):
        return array
    # A scalar comes as a number of numpy's or as bytes; it is an array of rank 0 like any other.
    return np.asarray(array, object if isinstance(array, bytes | str) else None)
