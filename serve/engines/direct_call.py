"""Calls a concrete function without what TensorFlow does in Python before each call.

Binding arguments by name, casting them and looking for a gradient tape take as long as a small
model's kernels. A signature's inputs are checked before (protocols.signature_check), and nobody
derives anything, so what is left is a list of tensors in the function's own order. Called by
saved_model and keras_model. TensorFlow has no public name for it (2.20), so a function that is
anything else than what is known here is called as everybody calls it.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import tensorflow as tf

Call = Callable[[dict[str, Any]], Mapping[str, Any]]
Arguments = Callable[[dict[str, Any]], tuple[tuple[Any, ...], dict[str, Any]]]


def direct_call(function: Any, names: Sequence[str], *, by_position: bool = False) -> Call:
    """Return the call of a concrete function with a dict of tensors, one for each of `names`.

    `by_position` is for a function that takes them in that order rather than by name.
    """

    def arguments(tensors: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        return (tuple(tensors[name] for name in names), {}) if by_position else ((), tensors)

    def usual(tensors: dict[str, Any]) -> Any:
        args, kwargs = arguments(tensors)
        return function(*args, **kwargs)

    try:
        order = _order(function, names, arguments)
        compute = function._inference_function.call_preflattened
        captured = _captured(function)
    except (AttributeError, LookupError, TypeError, ValueError):
        return usual
    if order is None or captured is None:
        return usual

    def call(tensors: dict[str, Any]) -> Any:
        if not tf.executing_eagerly():  # somebody looks at the graph
            return usual(tensors)
        return compute([*[tensors[name] for name in order], *captured])

    return call


def _order(function: Any, names: Sequence[str], arguments: Arguments) -> tuple[str, ...] | None:
    """Return the names in the order in which TensorFlow itself flattens them, None for others.

    It is asked with an example of each, which are told apart afterwards by what they are.
    """
    by_position, by_name = function.structured_input_signature
    specs = dict(zip(names, by_position, strict=True)) if by_position else by_name
    examples = {name: _example(specs[name]) for name in names}
    args, kwargs = arguments(examples)
    flat = function.function_type.unpack_inputs(function.function_type.bind(*args, **kwargs))
    by_id = {id(tensor): name for name, tensor in examples.items()}
    order = tuple(by_id[id(tensor)] for tensor in flat)
    return order if sorted(order) == sorted(names) else None


def _example(spec: Any) -> Any:
    sizes = spec.shape.as_list() if spec.shape.rank is not None else []
    return tf.zeros([1 if size is None else size for size in sizes], spec.dtype)


def _captured(function: Any) -> list[Any] | None:
    """Return the variables and constants of a function, None if they are not always the same."""
    if any(callable(each) for each in function._captured_inputs):
        return None
    captured = list(function.captured_inputs)
    return captured if all(isinstance(each, tf.Tensor) for each in captured) else None
