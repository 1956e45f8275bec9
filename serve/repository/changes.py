"""What a new version changes for the clients of the version before. Called by publish."""

from collections.abc import Iterator, Sequence

from serve.types import Signature, TensorSpec


def for_clients(before: Signature, after: Signature) -> tuple[str, ...]:
    """Say which names, datatypes and shapes of a default signature are not what they were."""
    return (
        *_renamed("default signature", (before.name,), (after.name,)),
        *_tensors("input", before.inputs, after.inputs),
        *_tensors("output", before.outputs, after.outputs),
    )


def _tensors(word: str, before: Sequence[TensorSpec], after: Sequence[TensorSpec]) -> Iterator[str]:
    old, new = {spec.name: spec for spec in before}, {spec.name: spec for spec in after}
    gone = [name for name in old if name not in new]
    yield from _renamed(word, gone, [name for name in new if name not in old])
    for name in old.keys() & new.keys():
        if old[name] != new[name]:
            yield f"{word} '{name}' was {_text(old[name])} and is {_text(new[name])}"


def _renamed(word: str, gone: Sequence[str], new: Sequence[str]) -> Iterator[str]:
    if len(gone) == len(new) == 1:
        if gone[0] != new[0]:
            yield f"{word} '{gone[0]}' is now '{new[0]}'"
        return
    yield from (f"{word} '{name}' is gone" for name in gone)
    yield from (f"{word} '{name}' is new" for name in new)


def _text(spec: TensorSpec) -> str:
    shape = "of any rank" if spec.shape is None else str(list(spec.shape))
    return f"{spec.datatype} {shape}"
