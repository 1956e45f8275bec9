"""Reading `strata.yaml`: YAML to the config tree, and errors that name the path of the key.

Called by the CLI and the scripts. Messages look like
`strata.yaml: models[0].batching.max_batch_size: input should be greater than or equal to 1`.
"""

import os
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import ValidationError
from pydantic_core import ErrorDetails

from serve.config.pipelines import KINDS
from serve.config.schema import Config, is_inline_key
from serve.config.sections import Section
from serve.errors import ConfigError

_SectionT = TypeVar("_SectionT", bound=Section)
_MERGE = "tag:yaml.org,2002:merge"


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
    """Refuses a key that is given twice, which YAML loaders otherwise resolve silently.

    What is merged in by `<<` is not given: a key beside it overrules, as YAML says.
    """

    def compose_mapping_node(self, anchor: Any) -> yaml.MappingNode:
        node = super().compose_mapping_node(anchor)
        seen: set[Any] = set()
        for key_node, _ in node.value:
            if not isinstance(key_node, yaml.ScalarNode):
                raise _refused("a list or a mapping cannot be a key", key_node)
            if key_node.tag == _MERGE and _MERGE in seen:
                raise _refused("<< is given twice; merge a list: <<: [*one, *other]", key_node)
            key = _MERGE if key_node.tag == _MERGE else self.construct_object(key_node)
            if key in seen:
                raise _refused(f"the key '{key}' is given twice", key_node)
            seen.add(key)
        return node


def _refused(problem: str, node: yaml.Node) -> yaml.YAMLError:
    return yaml.constructor.ConstructorError(None, None, problem, node.start_mark)


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
    problems = err.errors(include_url=False)
    return f"{path}: " + "; ".join(_problem(each) for each in problems if _is_own(each, problems))


def _is_own(problem: ErrorDetails, problems: Sequence[ErrorDetails]) -> bool:
    """Tell whether a problem is none that another one brings: a list without its wrong members."""
    place = problem["loc"]
    return problem["type"] != "too_short" or not any(
        each["loc"][: len(place)] == place and len(each["loc"]) > len(place) for each in problems
    )


def _problem(problem: ErrorDetails) -> str:
    keys = _key_path(_as_written(problem["loc"]))
    if problem["type"] == "extra_forbidden":
        return f"{keys}: unknown key"
    if problem["type"].startswith("union_tag"):
        given = problem.get("ctx", {}).get("tag")
        there = f"'{given}' is none of" if given else "is missing, give one of"
        return f"{keys}.kind: {there} {', '.join(KINDS)}"
    if problem["type"] == "value_error":  # our own checks
        own = problem["msg"].removeprefix("Value error, ")
        # Those of a section begin with a key of it, those of a value with the value.
        between = ": " if own.startswith("'") else "."
        return f"{keys}{between}{own}" if keys else own
    return f"{keys or 'the file'}: {problem['msg'][0].lower()}{problem['msg'][1:]}"


def _as_written(loc: tuple[int | str, ...]) -> tuple[int | str, ...]:
    """Return a place without what only pydantic knows.

    That is the kind of a pipeline, by which it was told apart, and the mark of a mapping's key.
    """
    if loc[:1] == ("pipelines",) and len(loc) > 2:
        loc = (*loc[:2], *loc[3:])
    return loc[:-1] if loc[-1:] == ("[key]",) else loc


def _key_path(loc: tuple[int | str, ...]) -> str:
    text = ""
    for part in loc:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else str(part)
    return text


def _anchored(config: Config, folder: Path) -> Config:
    root = config.repository.root
    if "://" not in root:
        root = os.path.normpath(folder / _expanded(root))  # past no link: it may be swapped
    cache_dir = str(_expanded(config.repository.cache_dir))
    public_keys = tuple(
        key if is_inline_key(key) else os.path.normpath(folder / _expanded(key))
        for key in map(str.strip, config.repository.public_keys)
    )
    anchored = {"root": root, "cache_dir": cache_dir, "public_keys": public_keys}
    repository = config.repository.model_copy(update=anchored)
    access = _with_paths(config.access, folder, "keys")
    if access.jwt is not None:
        places = ("jwks_ca",) if "://" in access.jwt.jwks else ("jwks", "jwks_ca")
        jwt = _with_paths(access.jwt, folder, *places)
        access = access.model_copy(update={"jwt": jwt})
    tls = config.http.tls and _with_paths(
        config.http.tls, folder, "certificate", "key", "client_ca"
    )
    http = config.http.model_copy(update={"tls": tls})
    return config.model_copy(update={"repository": repository, "access": access, "http": http})


def _with_paths(section: _SectionT, folder: Path, *keys: str) -> _SectionT:
    """Return a section whose paths, where they are relative, are of the folder."""
    given = {key: path for key in keys if (path := getattr(section, key)) is not None}
    whole = {key: os.path.normpath(folder / _expanded(path)) for key, path in given.items()}
    return section.model_copy(update=whole)


def _expanded(path: str) -> Path:
    """Return a path with `~` replaced by the user's home.

    A user id that has no name, as some clusters give to pods, has none: a folder for temporary
    files takes its place.
    """
    try:
        return Path(path).expanduser()
    except RuntimeError:
        return Path(tempfile.gettempdir(), f"strata-{os.getuid()}", *Path(path).parts[1:])
