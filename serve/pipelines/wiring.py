"""Wires: which tensor goes into which input, and whether it fits there.

Called while a pipeline is built, so that a wire that does not fit is refused before it serves.
"""

from collections.abc import Mapping

from serve.errors import ConfigError
from serve.protocols.check import describe
from serve.types import Array, Signature, Tensors, TensorSpec

REQUEST = "request"

# Tensors by where they come from: "request.image", "encoder.latent".
Sources = dict[str, TensorSpec]
Values = dict[str, Array]


def sources_of(owner: str, specs: tuple[TensorSpec, ...]) -> Sources:
    """Return the tensors that an owner provides, under their full names."""
    return {f"{owner}.{spec.name}": spec for spec in specs}


def values_of(owner: str, tensors: Tensors) -> Values:
    """Return computed tensors under their full names."""
    return {f"{owner}.{name}": array for name, array in tensors.items()}


def connect(
    where: str, signature: Signature, wires: Mapping[str, str], sources: Sources, nearest: str
) -> dict[str, str]:
    """Return the source of each input of a member. Raises ConfigError naming both ends.

    An input without a wire takes the tensor of its name from `nearest` (the member before, or
    the request), or `nearest`'s only tensor if the member has only one input.
    """
    for name in wires:
        if name not in {spec.name for spec in signature.inputs}:
            known = ", ".join(spec.name for spec in signature.inputs)
            raise ConfigError(
                f"{where}.inputs.{name}: the model has no such input (it has: {known})"
            )
    connected = {}
    for spec in signature.inputs:
        source = wires.get(spec.name) or _by_name(spec, signature, sources, nearest)
        if source not in sources:
            known = ", ".join(sources)
            raise ConfigError(
                f"{where}.inputs.{spec.name}: there is no tensor '{source}' (there are: {known})"
            )
        _check_fit(where, spec, source, sources[source])
        connected[spec.name] = source
    return connected


def _by_name(spec: TensorSpec, signature: Signature, sources: Sources, nearest: str) -> str:
    named = f"{nearest}.{spec.name}"
    near = [source for source in sources if source.rpartition(".")[0] == nearest]
    if named not in sources and len(signature.inputs) == 1 and len(near) == 1:
        return near[0]
    return named


def _check_fit(where: str, spec: TensorSpec, source: str, offered: TensorSpec) -> None:
    if offered.datatype == spec.datatype and _shapes_fit(offered.shape, spec.shape):
        return
    raise ConfigError(
        f"{where}.inputs.{spec.name}: {source} is {describe(offered)}, "
        f"which does not fit {describe(spec)}"
    )


def _shapes_fit(offered: tuple[int, ...] | None, wanted: tuple[int, ...] | None) -> bool:
    if offered is None or wanted is None:
        return True
    return len(offered) == len(wanted) and all(
        a == b or -1 in (a, b) for a, b in zip(offered, wanted, strict=True)
    )


def take(connected: Mapping[str, str], values: Values) -> Tensors:
    """Return a member's inputs from computed values."""
    return {name: values[source] for name, source in connected.items()}
