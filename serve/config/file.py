"""Reading `strata.yaml`: YAML to the config tree, and errors that name the path of the key.

Called by the CLI and the scripts. Messages look like
`strata.yaml: models[0].batching.max_batch_size: input should be greater than or equal to 1`.
"""

import os
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError
from pydantic_core import ErrorDetails

from serve.config.schema import Config
from serve.errors import ConfigError


def load(path: Path) -> Config:
    """Return the config in a file; a relative repository root is taken from the file's folder.

    Raises ConfigError, which names the file and each key that is wrong.
    """
    tree = _read(path)
    try:
        config = Config.model_validate(tree)
    except ValidationError as err:
        raise ConfigError(_explain(path, err)) from err
    return _anchored(config, path.resolve().parent)


def _read(path: Path) -> Any:
    try:
        tree = yaml.load(path.read_text(encoding="utf-8"), Loader=_UniqueKeyLoader)
    except FileNotFoundError as err:
        raise ConfigError(f"{path}: no such file; name one with --config") from err
    except (OSError, UnicodeDecodeError) as err:
        raise ConfigError(f"{path}: cannot be read: {err}") from err
    except yaml.YAMLError as err:
        raise ConfigError(f"{path}: not YAML: {' '.join(str(err).split())}") from err
    return {} if tree is None else tree


class _UniqueKeyLoader(yaml.SafeLoader):
    """Refuses a key that is given twice, which YAML loaders otherwise resolve silently."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[Any] = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            if key in seen:
                raise yaml.constructor.ConstructorError(
                    None, None, f"the key '{key}' is given twice", key_node.start_mark
                )
            seen.add(key)
        return super().construct_mapping(node, deep)


def _construct_int(loader: _UniqueKeyLoader, node: yaml.ScalarNode) -> int:
    """Refuse a number with a zero in front: 00000123, a version's folder, would be octal 83."""
    digits = node.value.lstrip("+-").replace("_", "")
    if len(digits) > 1 and digits[0] == "0" and digits.isdecimal():
        raise yaml.constructor.ConstructorError(
            None, None, f"{node.value} would be octal; write it without zeros", node.start_mark
        )
    return int(loader.construct_yaml_int(node))


_UniqueKeyLoader.add_constructor("tag:yaml.org,2002:int", _construct_int)


def _explain(path: Path, err: ValidationError) -> str:
    return f"{path}: " + "; ".join(map(_problem, err.errors(include_url=False)))


def _problem(problem: ErrorDetails) -> str:
    keys = _key_path(problem["loc"])
    if problem["type"] == "extra_forbidden":
        return f"{keys}: unknown key"
    if problem["type"] == "value_error":  # our own checks, which begin with a key of the section
        own = problem["msg"].removeprefix("Value error, ")
        return f"{keys}.{own}" if keys else own
    return f"{keys}: {problem['msg'][0].lower()}{problem['msg'][1:]}"


def _key_path(loc: tuple[int | str, ...]) -> str:
    text = ""
    for part in loc:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else str(part)
    return text


def _anchored(config: Config, folder: Path) -> Config:
    root = config.repository.root
    if "://" not in root:
        root = os.path.normpath(folder / Path(root).expanduser())  # past no link: it may be swapped
    cache_dir = str(Path(config.repository.cache_dir).expanduser())
    repository = config.repository.model_copy(update={"root": root, "cache_dir": cache_dir})
    return config.model_copy(update={"repository": repository})
