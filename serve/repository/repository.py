"""A repository of models: which versions are whole, and a local folder to load one from.

Called by version_sources (which versions, read one), by publish and by the CLI. Calls folders to
find the versions, completeness to judge one, store to read it, cache to keep copies of remote ones.
"""

import hashlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from serve.config import schema as config
from serve.errors import RepositoryError
from serve.repository.cache import Cache
from serve.repository.completeness import Contents, examine, unreadable_part
from serve.repository.engine_folders import EngineFolders, content_of
from serve.repository.folders import ModelFolder, VersionFolder, absence, look, top_level
from serve.repository.layout import BASELINE, MANIFEST
from serve.repository.manifest import (
    FileRecord,
    Manifest,
    read_manifest,
    require_same,
    small_and_large,
    verify,
)
from serve.repository.progress import counted
from serve.repository.store import Store, reason


@dataclass(frozen=True, slots=True)
class Look:
    """What a model's folder holds at one moment.

    `revisions` are the complete versions, each with a text that changes with its files. `problems`
    say why other versions, by number, and other folders, by name, cannot be served.
    """

    revisions: Mapping[int, str]
    problems: Mapping[int | str, str]
    absence: str  # why there is no complete version; empty if there is one


@dataclass(frozen=True, slots=True)
class Fetched:
    """A local folder with a version, and the revision that lies there."""

    path: Path
    revision: str


def configured(section: config.Repository) -> "Repository":
    """Return the repository of a config. Raises RepositoryError."""
    cache_dir = Path(section.cache_dir)
    return Repository(
        section.root, cache_dir, section.cache_max_bytes, tries_engines=section.try_engines
    )


class Repository:
    """Models below `root`, a path or URL; copies of remote versions go to `cache_dir`.

    `tries_engines` says that replicas try the engines of versions that nobody has tried.
    Every method asks the store anew and raises RepositoryError where that fails.
    """

    def __init__(
        self,
        root: str,
        cache_dir: Path,
        cache_max_bytes: int = 8 * 10**9,
        *,
        tries_engines: bool = False,
    ) -> None:
        self.root = root
        self.tries_engines = tries_engines
        self.store = Store(root)
        self.cache_dir = cache_dir
        self.cache_max_bytes = cache_max_bytes
        self._cache = Cache(cache_dir, cache_max_bytes)
        self.engines = EngineFolders(self.store, cache_dir)
        self._whole: dict[str, str] = {}  # version folder to the revision that was found whole

    @property
    def is_local(self) -> bool:
        return self.store.is_local

    def models(self) -> list[str]:
        """Return the names of the models that have a version folder, sorted."""
        return [name for name, problem in self.folders().items() if problem is None]

    def folders(self) -> dict[str, str | None]:
        """Return the folders of the repository by name, sorted, and why one is no model's."""
        return {
            name: problem or self._no_model(name) for name, problem in top_level(self.store).items()
        }

    def look(self, model: str) -> Look:
        """Return which versions of a model are complete, and why others are not."""
        folder = look(self.store, model)
        revisions: dict[int, str] = {}
        problems: dict[int | str, str] = {}
        for number, version in sorted(folder.versions.items()):
            problem = self._problem(version)
            if problem is None:
                revisions[number] = version.revision
            else:
                problems[number] = problem
        self._forget(model, {version.path for version in folder.versions.values()})
        problems.update(sorted(folder.others.items()))
        return Look(
            revisions, problems, "" if revisions else self._absence(model, folder, problems)
        )

    def versions(self, model: str) -> list[int]:
        """Return the complete versions of a model, ascending; none if there is no such model."""
        return list(self.look(model).revisions)

    def choose(self, model: str, version: int | None) -> int:
        """Return a complete version, the newest for None. Raises RepositoryError."""
        found = self.look(model)
        available = list(found.revisions)
        number = max(available, default=None) if version is None else version
        if number is not None and number in available:
            return number
        if number is not None and number in found.problems:
            raise RepositoryError(
                f"model '{model}' version {number} cannot be served: {found.problems[number]}"
            )
        if not available:
            raise RepositoryError(
                f"there is no model or pipeline '{model}' to serve: {found.absence}"
            )
        raise RepositoryError(
            f"model '{model}' has no version {number} (available: {', '.join(map(str, available))})"
        )

    def incomplete(self, model: str) -> dict[int | str, str]:
        """Return why versions, by number, and other folders, by name, cannot be served."""
        return dict(self.look(model).problems)

    def numbers(self, model: str) -> list[int]:
        """Return the version numbers that have a folder, complete or not, ascending."""
        return sorted(look(self.store, model).versions)

    def manifest(self, model: str, version: int) -> Manifest | None:
        """Return a version's manifest, None if it was copied here without one."""
        return self._contents(model, version)[1].manifest

    def content(self, model: str, version: int) -> str:
        """Return a name for what a complete version's files hold, which its engines go by."""
        found, contents = self._contents(model, version)
        return content_of(contents.manifest, found.revision)

    def fetch_engines(self, model: str, version: int, content: str, hardware: str) -> Path | None:
        """Return a local folder with a version's engines for some hardware, None if there are none.

        The copy of a remote one is kept until `release`, or until this process ends.
        """
        found = self.engines.find(model, content, hardware)
        if found is None:
            return None
        place, here = found
        if here is not None:
            return here
        files = self.store.children(place)
        stamps = "\n".join(f"{name} {entry.stamp}" for name, entry in sorted(files.items()))
        key = hashlib.sha256(f"{self.root}\n{place}\n{stamps}".encode()).hexdigest()[:16]

        def fill(staging: Path) -> None:
            for name, entry in files.items():
                self.store.download(f"{place}/{name}", staging / name, entry.bytes)

        size = sum(entry.bytes or 0 for entry in files.values())
        return self._cache.get(model, f"{version}-{key}", size, fill)

    def path(self, model: str, version: int) -> str:
        """Return the path or URL of a version's folder, which may not be there yet."""
        found = look(self.store, model).versions.get(version)
        return self.store.url(found.path if found else f"{model}/{version}")

    def baseline(self, folder: Path) -> bytes | None:
        """Return the drift baseline in a folder that `fetch` returned, None if there is none.

        Raises RepositoryError if it is not the one that was published, OSError if it is away now.
        """
        if not (folder / BASELINE).is_file():
            return None
        data = (folder / BASELINE).read_bytes()
        manifest = read_manifest(folder)
        if manifest and BASELINE in manifest.files:
            found = FileRecord(hashlib.sha256(data).hexdigest(), len(data))
            require_same(manifest.files[BASELINE], found, str(folder / BASELINE))
        return data

    @contextmanager
    def reading(self, model: str, version: int) -> Iterator[Fetched]:
        """Yield the folder of a version as `fetch` does, and fail if the version changed meanwhile.

        So nothing is loaded from half of one content and half of another. Large files are verified
        after the block, which has read them by then. Where the block fails, the folder is let go;
        else the caller does that with `release`.
        """
        fetched, unread = self._fetch(model, version)
        try:
            yield fetched
            self._require_same(model, version, fetched, unread)
        except BaseException as err:
            self.release(fetched.path)
            if isinstance(err, Exception):
                # If it is another content, that is why.
                self._require_same(model, version, fetched, unread)
            raise

    def fetch(self, model: str, version: int) -> Path:
        """Return a local folder with a complete version, as it was published.

        A version of a local repository is not copied: its own folder is returned. The copy of
        another one is kept until `release`, or until this process ends.
        """
        fetched, unread = self._fetch(model, version)
        if unread is not None:
            self._verify(fetched.path, unread)
        return fetched.path

    def release(self, folder: Path) -> None:
        """Let go of a folder that `fetch` returned: a copy may be removed from now on."""
        self._cache.release(folder)

    def drop_copies(self, model: str) -> None:
        """Remove the copies of a model's versions that no process on this machine holds."""
        if not self.is_local:
            self._cache.drop(model)

    def _no_model(self, name: str) -> str | None:
        try:
            folder = look(self.store, name)
        except RepositoryError as err:
            return str(err)
        others: dict[int | str, str] = dict(folder.others.items())
        return None if folder.versions else self._absence(name, folder, others)

    def _absence(self, model: str, folder: ModelFolder, problems: Mapping[int | str, str]) -> str:
        if not folder.exists:
            return absence(self.store, model)
        place = self.store.url(model)
        if folder.misplaced:
            return (
                f"'{place}' holds {folder.misplaced} itself; move what is in it into a version "
                f"folder, '{place}/1'"
            )
        if not problems:
            return f"'{place}' holds no complete version; publish one"
        newest = sorted((key for key in problems if isinstance(key, int)), reverse=True)
        names = [key for key in problems if isinstance(key, str)]
        keys: list[int | str] = [*newest, *names]
        some = "; ".join(f"'{key}': {problems[key]}" for key in keys[:3])
        more = f"; and {len(keys) - 3} more" if len(keys) > 3 else ""
        return f"'{place}' holds no complete version ({some}{more})"

    def _problem(self, version: VersionFolder) -> str | None:
        if self._whole.get(version.path) == version.revision and not version.listing.problems:
            return None
        problem = examine(self.store, version.path, version.listing).problem
        if problem is None:
            self._whole[version.path] = version.revision
        return problem

    def _forget(self, model: str, present: set[str]) -> None:
        for path in [path for path in self._whole if path.rpartition("/")[0] == model]:
            if path not in present:
                del self._whole[path]

    def _version(self, model: str, version: int) -> VersionFolder:
        folder = look(self.store, model)
        if version in folder.versions:
            return folder.versions[version]
        available = ", ".join(map(str, sorted(folder.versions))) or "none"
        raise RepositoryError(
            f"model '{model}' has no version {version} in '{self.root}' (available: {available})"
        )

    def _require_same(
        self, model: str, version: int, fetched: Fetched, unread: Manifest | None
    ) -> None:
        """Raise RepositoryError if what was read is not what was published, or changed since."""
        if unread is not None:
            self._verify(fetched.path, unread)
        self._require_unchanged(model, version, fetched)

    def _require_unchanged(self, model: str, version: int, fetched: Fetched) -> None:
        if not self.is_local:
            return  # it was compared when it was copied, and copies never change
        found = self._version(model, version)
        problem = unreadable_part(found.listing)
        if problem:
            raise RepositoryError(f"'{fetched.path}' cannot be served: {problem}")
        if found.revision != fetched.revision:
            raise RepositoryError(
                f"'{fetched.path}' changed while it was read; publish a new version instead, of "
                "which nobody sees half"
            )

    def _fetch(self, model: str, version: int) -> tuple[Fetched, Manifest | None]:
        """Return a version's folder, and of a local one the manifest of what is unverified yet."""
        found, contents = self._contents(model, version)
        if not self.is_local:
            return Fetched(self._copied(model, version, found, contents), found.revision), None
        fetched = Fetched(self.store.local_path(found.path), found.revision)
        if contents.manifest is None:
            self._verify(fetched.path, None)
            return fetched, None
        small, large = small_and_large(contents.manifest)
        self._verify(fetched.path, small)
        return fetched, large

    def _contents(self, model: str, version: int) -> tuple[VersionFolder, Contents]:
        found = self._version(model, version)
        contents = examine(self.store, found.path, found.listing)
        if contents.problem:
            place = self.store.url(found.path)
            raise RepositoryError(f"'{place}' cannot be served: {contents.problem}")
        return found, contents

    def _copied(self, model: str, version: int, found: VersionFolder, contents: Contents) -> Path:
        manifest = contents.manifest
        files = contents.listing.files
        paths = sorted(files.keys() & {*manifest.files, MANIFEST, BASELINE} if manifest else files)

        def fill(staging: Path) -> None:
            told = counted("fetching", sum(files[path] or 0 for path in paths))
            for path in paths:
                self.store.download(f"{found.path}/{path}", staging / path, files[path], told)
            self._verify(staging, manifest)
            if self._version(model, version).revision != found.revision:
                raise RepositoryError(
                    f"'{self.store.url(found.path)}' changed while it was copied; publish a new "
                    "version instead of changing one"
                )

        # With its revision: what is put there anew under the same number is another copy.
        content = f"{self.root}\n{found.path}\n{found.revision}"
        key = hashlib.sha256(content.encode()).hexdigest()[:16]
        size = sum(size or 0 for size in files.values())
        return self._cache.get(model, f"{version}-{key}", size, fill)

    def _verify(self, folder: Path, manifest: Manifest | None) -> None:
        if manifest is None:
            store = Store(str(folder.parent))
            problem = examine(store, folder.name, store.walk(folder.name)).problem
            if problem:
                raise RepositoryError(f"'{folder}' cannot be served: {problem}")
            return
        try:
            verify(manifest, folder)
        except OSError as err:
            raise RepositoryError(f"'{folder}' cannot be read: {reason(err)}") from err
