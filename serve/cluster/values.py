"""The values of a release with the models of strata.yaml, and what that changes.

Called by `strata apply`; pure. A release takes `models`, `pipelines` and `pools`. Where the models
are and how they are reached (`repository`, `http`, `ports`) differs between a machine and a
cluster, so these stay as the release has them.
"""

from collections.abc import Iterator, Mapping
from contextlib import suppress
from typing import Any

from pydantic import ValidationError

from serve.config.schema import Config

_TAKEN = ("models", "pipelines", "pools")


def with_models(values: Mapping[str, Any], config: Config) -> dict[str, Any]:
    """Return the values with the file's models and pipelines; defaults it leaves out stay out."""
    tree = config.model_dump(mode="json", include=set(_TAKEN), exclude_unset=True)
    # An older chart knows no pools: it gets none where there are none.
    taken = {key: tree.get(key, []) for key in _TAKEN if key != "pools" or key in {*tree, *values}}
    return {**values, **taken}


def changes(before: Mapping[str, Any], after: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield name and change of each model and pipeline, sorted by name.

    A change is `added`, `removed`, `unchanged`, or `changed` with the keys that differ. A key that
    is left out has its default, so to write that down changes nothing.
    """
    taken = [{key: values.get(key) or [] for key in _TAKEN} for values in (before, after)]
    with suppress(ValidationError):  # of an older version: compared as it is written
        taken = [_in_full(each) for each in taken]
    old, new = map(_by_name, taken)
    for name in sorted({*old, *new}):
        if name not in old:
            yield name, "added"
        elif name not in new:
            yield name, "removed"
        else:
            keys = _different(old[name], new[name])
            yield name, f"changed {', '.join(keys)}" if keys else "unchanged"


def _by_name(values: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    return {
        f"pool {entry['name']}" if key == "pools" else entry["name"]: entry
        for key in _TAKEN
        for entry in values[key]
    }


def _in_full(values: dict[str, Any]) -> dict[str, Any]:
    return Config.model_validate(values).model_dump(mode="json", include=set(_TAKEN))


def _different(old: dict[str, Any], new: dict[str, Any]) -> list[str]:
    return sorted(key for key in {*old, *new} if old.get(key) != new.get(key))
