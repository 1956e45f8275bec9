"""Find secrets that were left in the tree: keys of clouds and services, private keys, Strata's own.

Called by scripts/lint, over the files that git has or would take. detect-secrets has the patterns
and knows what random strings look like; not_secrets.toml has the lines that only look like one, and
why.
"""

import re
import subprocess
import tomllib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from detect_secrets.core.plugins.util import get_mapping_from_secret_type_to_class
from detect_secrets.core.secrets_collection import SecretsCollection
from detect_secrets.settings import transient_settings

from supply.locks import ROOT

_HERE = Path(__file__).parent
_NOT_SECRETS = _HERE / "not_secrets.toml"
# Not the filter that asks a service whether a key is one of its own: nothing found is sent away.
_FILTERS = [
    "detect_secrets.filters.allowlist.is_line_allowlisted",
    "detect_secrets.filters.heuristic.is_indirect_reference",
    "detect_secrets.filters.heuristic.is_likely_id_string",
    "detect_secrets.filters.heuristic.is_not_alphanumeric_string",
    "detect_secrets.filters.heuristic.is_potential_uuid",
    "detect_secrets.filters.heuristic.is_prefixed_with_dollar_sign",
    "detect_secrets.filters.heuristic.is_sequential_string",
    "detect_secrets.filters.heuristic.is_templated_secret",
]


def found(files: list[Path], not_secrets: list[str]) -> Iterator[str]:
    """Yield the place and the kind of what looks like a secret; never the secret itself."""
    with transient_settings(_settings(not_secrets)) as settings:
        # It goes by names, and takes lock files for binary: _is_binary looks into them.
        settings.disable_filters("detect_secrets.filters.heuristic.is_non_text_file")
        secrets = SecretsCollection()
        for path in files:
            secrets.scan_file(str(path))
        yield from sorted(f"{name}:{each.line_number}: {each.type}" for name, each in secrets)


def _settings(not_secrets: list[str]) -> dict[str, Any]:
    own = {"name": "StrataKeyDetector", "path": f"file://{_HERE / 'strata_key.py'}"}
    known: Iterable[Any] = get_mapping_from_secret_type_to_class().values()
    kinds = [kind.__name__ for kind in known]
    get_mapping_from_secret_type_to_class.cache_clear()  # or it would not look for ours
    excluded = {"path": "detect_secrets.filters.regex.should_exclude_line", "pattern": not_secrets}
    return {
        "plugins_used": [{"name": name} for name in kinds if name != own["name"]] + [own],
        "filters_used": [*({"path": path} for path in _FILTERS), excluded],
    }


def read_not_secrets(path: Path = _NOT_SECRETS) -> list[str]:
    """Return the patterns of lines that are no secrets; each has to say why."""
    entries = tomllib.loads(path.read_text())["lines"]
    for entry in entries:
        if entry.keys() != {"pattern", "reason"} or not entry["reason"]:
            raise SystemExit(f"{path.name}: needs a pattern and a reason: {entry}")
        re.compile(entry["pattern"])
    return [entry["pattern"] for entry in entries]


def files_of(root: Path) -> list[Path]:
    """Return the files that git has, and those that it would take."""
    listing = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    done = subprocess.run(listing, cwd=root, capture_output=True, text=True, check=True)
    names = done.stdout.split("\0")
    paths = [root / name for name in names if name]
    return [path for path in paths if path.is_file() and not _is_binary(path)]


def _is_binary(path: Path) -> bool:
    # As git tells.
    with path.open("rb") as file:
        return b"\0" in file.read(8000)


def main() -> None:
    """Scan the tree; exit with the places if there are any."""
    files = [path for path in files_of(ROOT) if path != _NOT_SECRETS]
    places = list(found(files, read_not_secrets()))
    if places:
        raise SystemExit(
            "these look like secrets; take them out of the history too and have them replaced,"
            f" or say in {_NOT_SECRETS.relative_to(ROOT)} why they are none:\n  "
            + "\n  ".join(places).replace(f"{ROOT}/", "")
        )
    print(f"secrets: none in {len(files)} files")


if __name__ == "__main__":
    main()
