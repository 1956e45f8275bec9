"""Change one value in a YAML text and nothing else: comments, order and layout stay.

Called by `strata tune`. PyYAML tells where each value begins and ends.
"""

from collections.abc import Sequence

import yaml

from serve.errors import ConfigError


def replace_value(text: str, path: Sequence[str | int], value: float) -> str:
    """Return the YAML text with `value` in place of the plain value at `path`.

    A path is like ("pipelines", 0, "layers", 0, "exit", "margin"). Six digits of the number are
    kept. Raises ConfigError if there is no plain value at that path.
    """
    node = yaml.compose(text, Loader=yaml.SafeLoader)
    for key in path:
        node = _child(node, key)
    if not isinstance(node, yaml.ScalarNode):
        shown = ".".join(map(str, path))
        raise ConfigError(f"{shown}: is not a plain value in the file; change it by hand")
    return text[: node.start_mark.index] + f"{value:g}" + text[node.end_mark.index :]


def _child(node: yaml.Node | None, key: str | int) -> yaml.Node | None:
    if isinstance(node, yaml.SequenceNode) and isinstance(key, int):
        return node.value[key] if key < len(node.value) else None
    if isinstance(node, yaml.MappingNode):
        return next((value for name, value in node.value if name.value == key), None)
    return None
