"""An engine over compiled TensorFlow functions, one a signature.

Built by saved_model and keras_model, which know how to get the functions of their formats.
"""

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import tensorflow as tf

from serve.datatypes import DATATYPES
from serve.engines.complexity import Complexity, complexity_of
from serve.engines.engine import LayerMetrics, NoLayers
from serve.errors import InferenceFailed
from serve.types import Array, Signature, Tensors, TensorSpec

log = logging.getLogger("ray.serve")


@dataclass(frozen=True, slots=True)
class CompiledFunction:
    """A signature and its function, which takes and returns dicts of tensors by name."""

    signature: Signature
    call: Callable[[dict[str, Any]], Mapping[str, Any]]
    variables: Sequence[Any] = ()


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
        self._owner = owner  # the functions do not keep the model's variables alive
        self._trace_count = trace_count
        self._warm_traces = trace_count()

    def infer(self, signature: str, inputs: Tensors) -> Tensors:
        """Compute checked inputs. Raises InferenceFailed with TensorFlow's error chained."""
        function = self._functions[signature]
        try:
            tensors = {name: tf.convert_to_tensor(array) for name, array in inputs.items()}
            outputs = function.call(tensors)
            return {s.name: _to_array(outputs[s.name]) for s in function.signature.outputs}
        except (tf.errors.OpError, ValueError, TypeError) as err:
            raise InferenceFailed(
                f"the model raised {type(err).__name__} while computing signature '{signature}'; "
                "the replica's log has the details"
            ) from err

    def warmup(self, batch_sizes: Sequence[int]) -> None:
        """Run every signature at every batch size (once if it has no batch dimension)."""
        for signature in self.signatures.values():
            for size in batch_sizes if signature.batched else (1,):
                self._run_once(signature, size)
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
        """Do nothing: TensorFlow frees a model with its last reference."""

    def _run_once(self, signature: Signature, rows: int) -> None:
        zeros = {spec.name: _zeros(spec, rows) for spec in signature.inputs}
        try:
            self.infer(signature.name, zeros)
        except InferenceFailed as err:
            # Zeros may be no valid input of this signature; requests will tell.
            log.warning("warm-up of '%s' at %d rows: %s", signature.name, rows, err.__cause__)


def _zeros(spec: TensorSpec, rows: int) -> Array:
    shape = [1 if size < 0 else size for size in spec.shape or (1,)]
    if spec.shape and spec.shape[0] < 0:
        shape[0] = rows
    dtype = DATATYPES[spec.datatype].numpy
    return np.full(shape, b"", object) if dtype.hasobject else np.zeros(shape, dtype)


def _to_array(tensor: Any) -> Array:
    array = tensor.numpy()
    # A string scalar comes as bytes, and a string tensor may hold str if a model made it so.
    return array if isinstance(array, np.ndarray) else np.asarray(array, object)
