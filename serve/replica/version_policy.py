"""Which versions to load, and which one serves a request: version policies and labels.

Called by model. The policies are TensorFlow Serving's: latest N, all, specific.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence

from serve.errors import ModelNotFound


def select(
    available: Iterable[int], *, latest: int | None = None, specific: Sequence[int] | None = None
) -> list[int]:
    """Return the versions that a policy asks for, newest first; all if neither is given."""
    newest_first = sorted(available, reverse=True)
    if specific is not None:
        return [number for number in newest_first if number in specific]
    return newest_first[:latest]


def in_the_way(loaded: Collection[int], wanted: Collection[int], next_one: int) -> list[int]:
    """Return the loaded versions that must go for another to be loaded in their place.

    So that never more are loaded than wanted: for each that comes one of the unwanted goes, the
    oldest first, and before them `next_one` itself as it was loaded from other files.
    """
    unwanted = sorted(number for number in loaded if number not in wanted and number != next_one)
    going = [next_one, *unwanted] if next_one in loaded else unwanted
    return going[: max(0, len(loaded) + 1 - len(wanted))]


def resolve(
    model: str,
    loaded: Collection[int],
    labels: Mapping[str, int],
    version: int | None,
    label: str | None,
) -> int:
    """Return the loaded version that a request asks for, the newest if it does not say.

    Raises ModelNotFound; `loaded` must not be empty.
    """
    if label is not None:
        if label not in labels:
            known = ", ".join(sorted(labels)) or "none"
            raise ModelNotFound(
                f"Unrecognized servable version label: {label} of model '{model}' (labels: {known})"
            )
        version = labels[label]
    if version is None:
        return max(loaded)
    if version not in loaded:
        available = ", ".join(str(number) for number in sorted(loaded))
        raise ModelNotFound(
            f"Servable not found for request: Specific({model}, {version}); "
            f"model '{model}' has no version {version} loaded (available: {available})"
        )
    return version
