"""The chart's values.yaml, read for its keys, their defaults and the comments above them.

Called by chart_files. A comment `# -- text` above a key says what the key is for; a line
`# @schema {...}` after it adds JSON schema that the default alone cannot tell.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import yaml


@dataclass(frozen=True)
class Value:
    """A key of values.yaml by its path, with what its comment says; empty without a comment."""

    path: tuple[str, ...]
    default: Any
    text: str
    hint: dict[str, Any]


def read_values(text: str) -> list[Value]:
    """Return every commented key, and every section above one, in the order of the file."""
    root = yaml.compose(text)
    assert isinstance(root, yaml.MappingNode)
    return list(_walk(root, (), text.splitlines()))


def _walk(node: yaml.MappingNode, above: tuple[str, ...], lines: list[str]) -> Iterator[Value]:
    for key, child in node.value:
        path = (*above, key.value)
        text, hint = _comment(lines, key.start_mark.line)
        yield Value(path, _default(child), text, hint)
        if not text:  # a section, whose keys have the comments
            if not isinstance(child, yaml.MappingNode) or not child.value:
                raise SystemExit(f"values.yaml: {'.'.join(path)} has no comment `# -- ...`")
            yield from _walk(child, path, lines)


def _default(node: yaml.Node) -> Any:
    return yaml.safe_load(yaml.serialize(node))


def _comment(lines: list[str], line: int) -> tuple[str, dict[str, Any]]:
    text, hint = "", {}
    for above in reversed(lines[:line]):
        stripped = above.strip()
        if stripped.startswith("# @schema "):
            hint = json.loads(stripped.removeprefix("# @schema "))
        elif stripped.startswith("# -- "):
            return stripped.removeprefix("# -- "), hint
        else:
            break
    return text, hint


def schema_of(values: list[Value]) -> dict[str, Any]:
    """Return a JSON schema that takes these keys and no others, typed like their defaults."""
    properties: dict[str, Any] = {}
    for value in values:
        parent = properties
        for part in value.path[:-1]:
            parent = parent[part]["properties"]
        parent[value.path[-1]] = _schema(value)
    return properties


def _schema(value: Value) -> dict[str, Any]:
    if not value.text:
        return {"type": "object", "additionalProperties": False, "properties": {}}
    kinds = {bool: "boolean", int: "integer", float: "number", str: "string", list: "array"}
    kind = kinds.get(type(value.default), "object")
    return {"description": value.text, "type": kind, **value.hint}
