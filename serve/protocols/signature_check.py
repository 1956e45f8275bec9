"""Whether a request fits the model: its names, datatypes and shapes against a signature.

Called by replica.model before a request may join a batch, so that a bad one fails alone.
"""

from serve import datatypes
from serve.errors import InvalidRequest
from serve.types import Array, Signature, Tensors, TensorSpec


def check(inputs: Tensors, signature: Signature, model: str) -> Tensors:
    """Return the inputs in the signature's order.

    Raises InvalidRequest, which says what was sent and what the model takes.
    """
    if len(inputs) != len(signature.inputs):
        raise InvalidRequest(_names_differ(inputs, signature, model))
    checked = {}
    for spec in signature.inputs:
        array = inputs.get(spec.name)
        if array is None:
            raise InvalidRequest(_names_differ(inputs, signature, model))
        if not fits(array, spec):
            raise InvalidRequest(_does_not_fit(array, spec, model))
        checked[spec.name] = array
    return checked


def fits(array: Array, spec: TensorSpec) -> bool:
    """Tell whether an array has the datatype and shape that a spec describes."""
    if array.dtype != datatypes.DATATYPES[spec.datatype].numpy:
        return False
    if spec.shape is None:
        return True
    if len(spec.shape) != array.ndim:
        return False
    # A loop: with all() and a generator it takes half as long again, for every request.
    for wanted, given in zip(spec.shape, array.shape, strict=True):  # noqa: SIM110
        if wanted not in (given, -1):
            return False
    return True


def describe(spec: TensorSpec) -> str:
    """Return an input or output as messages show it: `'image' FP32 [-1, 28, 28, 1]`."""
    shape = "any shape" if spec.shape is None else list(spec.shape)
    return f"'{spec.name}' {spec.datatype} {shape}"


def _names_differ(inputs: Tensors, signature: Signature, model: str) -> str:
    expected = ", ".join(describe(spec) for spec in signature.inputs)
    got = ", ".join(f"'{name}'" for name in inputs) or "none"
    return f"model '{model}' takes the inputs {expected}; got {got}"


def _does_not_fit(array: Array, spec: TensorSpec, model: str) -> str:
    got = f"{datatypes.from_numpy(array.dtype).name} {list(array.shape)}"
    return f"input '{spec.name}' is {got}, model '{model}' expects {describe(spec)}"
