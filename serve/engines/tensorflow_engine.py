"""An engine over compiled TensorFlow functions, one a signature.

Built by saved_model and keras_model, which know how to get the functions of their formats.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from serve.engines.complexity import complexity_of
from serve.engines.engine import Complexity, EngineName
from serve.engines.function_engine import FunctionEngine, TriedFunction
from serve.engines.memory import release_soon
from serve.engines.row_independence import TOLERANCE, TOLERANCE_OF_CARDS
from serve.engines.sample_rows import Kind
from serve.engines.tensorflow_errors import client_mistake
from serve.engines.trial import Trial
from serve.errors import InferenceFailed, InvalidRequest, RepositoryError
from serve.types import Array, Signature, Tensors

EXPORTED = "serving_default"  # the one signature of what `export` writes


@dataclass(frozen=True, slots=True)
class CompiledFunction:
    """A signature and its function, which takes and returns dicts of tensors by name.

    `concrete` is TensorFlow's own function of it. `state_ops` are the operations in it by which a
    call may leave something for the next one, and `kinds` values that it may want besides the usual
    ones.
    """

    signature: Signature
    call: Callable[[dict[str, Any]], Mapping[str, Any]]
    concrete: Any = None
    variables: Sequence[Any] = ()
    state_ops: Sequence[str] = ()
    kinds: Sequence[Kind] = ()


class TensorFlowEngine(FunctionEngine):
    """Runs compiled functions; `trace_count` tells how many graphs were traced so far."""

    name: EngineName = "tensorflow"

    def __init__(
        self,
        platform: str,
        functions: Sequence[CompiledFunction],
        default_signature: str,
        trace_count: Callable[[], int] = lambda: 0,
        owner: Any = None,
    ) -> None:
        tolerance = TOLERANCE_OF_CARDS if tf.config.list_logical_devices("GPU") else TOLERANCE
        tried = {
            f.signature.name: TriedFunction(
                f.signature,
                partial(_infer, f),
                Trial(partial(_infer, f), f.variables, f.state_ops, f.kinds, tolerance),
            )
            for f in functions
        }
        super().__init__(platform, tried, default_signature)
        self._compiled = {f.signature.name: f for f in functions}
        self._owner = owner  # the functions do not keep the model's variables alive
        self._trace_count = trace_count
        self._warm_traces = trace_count()

    def warmup(self, batch_sizes: Sequence[int]) -> None:
        super().warmup(batch_sizes)
        self._warm_traces = self._trace_count()

    def complexity(self) -> Complexity:
        """Return what a row of the default signature costs; traces it once more."""
        function = self._compiled[self.default_signature]
        return complexity_of(function.call, function.variables, function.signature)

    def state_ops(self, signature: str) -> Sequence[str]:
        """Return the operations by which a call of a signature may leave something for the next."""
        return self._compiled[signature].state_ops

    def export(self, signature: str, folder: Path) -> None:
        """Write a signature as a SavedModel that has it alone, as `serving_default`.

        Raises RepositoryError where TensorFlow cannot.
        """
        function = self._compiled[signature]
        try:
            tf.saved_model.save(self._owner, str(folder), {EXPORTED: function.concrete})
        except Exception as err:  # TensorFlow raises many kinds for what it cannot write
            text = " ".join(str(err).split()) or type(err).__name__
            raise RepositoryError(
                f"signature '{signature}' cannot be exported by itself: {text[:300]}"
            ) from err

    @property
    def retraces(self) -> int:
        return self._trace_count() - self._warm_traces

    def close(self) -> None:
        super().close()
        self._compiled, self._owner = {}, None
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


def _to_array(tensor: Any) -> Array:
    array = tensor.numpy()
    if isinstance(array, np.ndarray):
        return array
    # A scalar comes as a number of numpy's or as bytes; it is an array of rank 0 like any other.
    return np.asarray(array, object if isinstance(array, bytes | str) else None)
