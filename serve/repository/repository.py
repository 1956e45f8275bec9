"""A repository of models: which versions are whole, and a local folder to load one from.

Called by model (which versions, fetch one), by publish and by the CLI. Calls completeness to
judge a version, store to read it, cache to keep copies of remote ones.
"""

import hashlib
from pathlib import Path

from serve.config.schema import is_name
from serve.errors import RepositoryError
from serve.repository.cache import cached
from serve.repository.completeness import Contents, examine
from serve.repository.layout import BASELINE, MANIFEST, version_number
from serve.repository.manifest import FileRecord, Manifest, require_same, verify
from serve.repository.store import Store, reason


class Repository:
    """Models below `root`, a path or URL; copies of remote versions go to `cache_dir`.

    Every method asks the store anew and raises RepositoryError where that fails.
    """

    def __init__(self, root: str, cache_dir: Path) -> None:
        self.root = root
        self.store = Store(root)
        self.cache_dir = cache_dir
        self._whole: dict[str, object] = {}  # version folder to its stamp; whole versions stay so

    @property
    def is_local(self) -> bool:
        return self.store.is_local

    def models(self) -> list[str]:
        """Return the names of the models that have a version folder, sorted."""
        names = [name for name, entry in self.store.children("").items() if entry.is_folder]
        return sorted(name for name in names if is_name(name) and self.numbers(name))

    def versions(self, model: str) -> list[int]:
        """Return the complete versions of a model, ascending; none if there is no such model."""
        problems = self._problems(model)
        return sorted(number for number, problem in problems.items() if problem is None)

    def choose(self, model: str, version: int | None) -> int:
        """Return a complete version, the newest for None. Raises RepositoryError."""
        available = self.versions(model)
        number = version or max(available, default=0)
        if number in available:
            return number
        if not available:
            known = ", ".join(self.models()) or "none"
            raise RepositoryError(
                f"there is no model or pipeline '{model}' (models in the repository: {known})"
            )
        raise RepositoryError(
            f"model '{model}' has no version {version} "
            f"(available: {', '.join(map(str, available))})"
        )

    def incomplete(self, model: str) -> dict[int, str]:
        """Return why each version that cannot be served yet cannot be."""
        problems = self._problems(model)
        return {number: problem for number, problem in sorted(problems.items()) if problem}

    def numbers(self, model: str) -> list[int]:
        """Return the version numbers that have a folder, complete or not, ascending."""
        return sorted(self._stamps(model))

    def manifest(self, model: str, version: int) -> Manifest | None:
        """Return a version's manifest, None if it was copied here without one."""
        return self._contents(model, version).manifest

    def path(self, model: str, version: int) -> str:
        """Return the path or URL of a version's folder."""
        return self.store.url(f"{model}/{version}")

    def fetch(self, model: str, version: int) -> Path:
        """Return a local folder with a complete version whose hashes were just compared.

        A version of a local repository is not copied: its own folder is returned.
        """
        contents = self._contents(model, version)
        if not self.is_local:
            return self._copied(model, version, contents)
        folder = self.store.local_path(f"{model}/{version}")
        self._verify(folder, contents.manifest)
        return folder

    def baseline(self, model: str, version: int) -> bytes | None:
        """Return a version's drift baseline as it was published, None if there is none."""
        contents = self._contents(model, version)
        if BASELINE not in contents.listing.files:
            return None
        path = f"{model}/{version}/{BASELINE}"
        data = self.store.read(path)
        if contents.manifest and BASELINE in contents.manifest.files:
            found = FileRecord(hashlib.sha256(data).hexdigest(), len(data))
            require_same(contents.manifest.files[BASELINE], found, self.store.url(path))
        return data

    def _problems(self, model: str) -> dict[int, str | None]:
        stamps = self._stamps(model)
        problems: dict[int, str | None] = {}
        for number, stamp in stamps.items():
            folder = f"{model}/{number}"
            if self._whole.get(folder) == stamp:
                problems[number] = None
                continue
            problems[number] = examine(self.store, folder).problem
            if problems[number] is None:
                self._whole[folder] = stamp
        self._forget(model, set(stamps))
        return problems

    def _stamps(self, model: str) -> dict[int, object]:
        entries = self.store.children(model).items()
        numbers = {version_number(name): entry for name, entry in entries if entry.is_folder}
        return {number: entry.stamp for number, entry in numbers.items() if number is not None}

    def _forget(self, model: str, present: set[int]) -> None:
        known = [folder for folder in self._whole if folder.rpartition("/")[0] == model]
        for folder in known:
            if int(folder.rpartition("/")[2]) not in present:
                del self._whole[folder]

    def _contents(self, model: str, version: int) -> Contents:
        contents = examine(self.store, f"{model}/{version}")
        if not contents.listing.files:
            available = ", ".join(map(str, self.versions(model))) or "none"
            raise RepositoryError(
                f"model '{model}' has no version {version} in '{self.root}' "
                f"(available: {available})"
            )
        if contents.problem:
            place = self.path(model, version)
            raise RepositoryError(f"'{place}' is incomplete: {contents.problem}")
        return contents

    def _copied(self, model: str, version: int, contents: Contents) -> Path:
        folder = f"{model}/{version}"
        manifest = contents.manifest
        paths = sorted(manifest.files if manifest else contents.listing.files)

        def fill(staging: Path) -> None:
            for path in [*paths, MANIFEST] if manifest else paths:
                self.store.download(f"{folder}/{path}", staging / path)

        key = self._key(folder, paths, manifest)
        target = self.cache_dir / model / f"{version}-{key}"
        return cached(target, fill, lambda copy: self._verify(copy, manifest))

    def _key(self, folder: str, paths: list[str], manifest: Manifest | None) -> str:
        """Return a text that differs for different content, so that a copy can be reused."""
        if manifest:
            content = manifest.to_json()
        else:
            stamps = (f"{path} {self.store.stamp(f'{folder}/{path}')}" for path in paths)
            content = "\n".join(stamps).encode()
        return hashlib.sha256(self.root.encode() + content).hexdigest()[:16]

    def _verify(self, folder: Path, manifest: Manifest | None) -> None:
        if manifest is None:
            problem = examine(Store(str(folder.parent)), folder.name).problem
            if problem:
                raise RepositoryError(f"'{folder}' is incomplete: {problem}")
            return
        try:
            verify(manifest, folder)
        except OSError as err:
            raise RepositoryError(f"'{folder}' cannot be read: {reason(err)}") from err
