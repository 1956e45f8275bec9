"""A repository of models: which versions are whole, and a local folder to load one from.

Called by version_sources (which versions, read one), by publish and by the CLI. Calls folders to
find the versions, completeness to judge one, store to read it, cache to keep copies of remote ones.
"""

import hashlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from serve.config import schema as config
from serve.errors import RepositoryError
from serve.repository.cache import Cache
from serve.repository.completeness import Contents, examine, unreadable_part
from serve.repository.engine_folders import EngineFolders, content_of
from serve.repository.folders import ModelFolder, VersionFolder, absence, look, top_level
from serve.repository.hashes import Stamp
from serve.repository.layout import BASELINE, MANIFEST, SIGNATURE, Listing
from serve.repository.manifest import (
    FileRecord,
    Manifest,
    before_and_after,
    read_manifest,
    require_same,
    require_unchanged,
    verify,
    with_itself,
)
from serve.repository.progress import counted
from serve.repository.store import Store, reason
from serve.repository.trust import ANYBODY, SIGNATURE_BYTES, Trust, require_signed


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


@dataclass(frozen=True, slots=True)
class _Verified:
    """The files of a version that were compared with its manifest, and a manifest of the rest."""

    stamps: Mapping[str, Stamp]
    rest: Manifest | None = None


def configured(section: config.Repository) -> "Repository":
    """Return the repository of a config. Raises RepositoryError."""
    cache_dir = Path(section.cache_dir)
    return Repository(
        section.root,
        cache_dir,
        section.cache_max_bytes,
        tries_engines=section.try_engines,
        trust=Trust(section.require_signed, section.public_keys, section.allow_outside_links),
    )


class Repository:
    """Models below `root`, a path or URL; copies of remote versions go to `cache_dir`.

    `tries_engines` says that replicas try the engines of versions that nobody has tried, `trust`
    which versions may be read at all.
    Every method asks the store anew and raises RepositoryError where that fails.
    """

    def __init__(
        self,
        root: str,
        cache_dir: Path,
        cache_max_bytes: int = 8 * 10**9,
        *,
        tries_engines: bool = False,
        trust: Trust = ANYBODY,
    ) -> None:
        self.root = root
        self.tries_engines = tries_engines
        self.trust = trust
        self.store = Store(root, is_closed=not trust.allow_outside_links)
        self.cache_dir = cache_dir
        self.cache_max_bytes = cache_max_bytes
        self._cache = Cache(cache_dir, cache_max_bytes)
        self.engines = EngineFolders(self.store, cache_dir, is_shared=not trust.require_signed)
        self._whole: dict[str, str] = {}  # version folder to the revision that was found whole
        self._published: set[str] = set()  # version folders that were seen to have a manifest

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
        outside = self.store.leads_out(str(folder / BASELINE)) if self.is_local else None
        if outside is not None:
            raise RepositoryError(outside)
        data = (folder / BASELINE).read_bytes()
        manifest = read_manifest(folder)
        if manifest and BASELINE not in manifest.files:
            raise RepositoryError(f"'{folder / BASELINE}' is not in {MANIFEST}")
        if manifest:
            found = FileRecord(hashlib.sha256(data).hexdigest(), len(data))
            require_same(manifest.files[BASELINE], found, str(folder / BASELINE))
        return data

    @contextmanager
    def reading(self, model: str, version: int) -> Iterator[Fetched]:
        """Yield the folder of a version as `fetch` does, and fail if the version changed meanwhile.

        So nothing is loaded from half of one content and half of another. Large files of variables
        are verified after the block, which has read them by then. Where the block fails, the folder
        is let go; else the caller does that with `release`.
        """
        fetched, verified = self._fetch(model, version)
        try:
            yield fetched
            self._require_same(model, version, fetched, verified)
        except BaseException as err:
            self.release(fetched.path)
            if isinstance(err, Exception):
                # If it is another content, that is why.
                self._require_same(model, version, fetched, verified)
            raise

    def fetch(self, model: str, version: int) -> Path:
        """Return a local folder with a complete version, as it was published.

        A version of a local repository is not copied: its own folder is returned. The copy of
        another one is kept until `release`, or until this process ends.
        """
        fetched, verified = self._fetch(model, version)
        try:
            self._require_verified(fetched, verified)
        except BaseException:
            self.release(fetched.path)
            raise
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
        problem = self._examine(version).problem
        if problem is None:
            self._whole[version.path] = version.revision
        return problem

    def _examine(self, version: VersionFolder) -> Contents:
        """Judge a version; one that had a manifest is none without it, which vouched for it."""
        contents = examine(self.store, version.path, version.listing)
        if contents.manifest is not None:
            self._published.add(version.path)
        elif contents.problem is None and version.path in self._published:
            gone = (
                f"its {MANIFEST}, which vouched for its files, is gone; put it back, or publish "
                "the folder as a new version"
            )
            return replace(contents, problem=gone)
        return contents

    def _forget(self, model: str, present: set[str]) -> None:
        for path in [path for path in self._whole if path.rpartition("/")[0] == model]:
            if path not in present:
                del self._whole[path]
        self._published -= {
            path
            for path in self._published
            if path.rpartition("/")[0] == model and path not in present
        }

    def _version(self, model: str, version: int) -> VersionFolder:
        folder = look(self.store, model)
        if version in folder.versions:
            return folder.versions[version]
        available = ", ".join(map(str, sorted(folder.versions))) or "none"
        raise RepositoryError(
            f"model '{model}' has no version {version} in '{self.root}' (available: {available})"
        )

    def _require_same(
        self, model: str, version: int, fetched: Fetched, verified: _Verified
    ) -> None:
        """Raise RepositoryError if what was read is not what was published, or changed since."""
        self._require_verified(fetched, verified)
        self._require_unchanged(model, version, fetched)

    def _require_verified(self, fetched: Fetched, verified: _Verified) -> None:
        try:
            self._verify_rest(fetched.path, verified)
        except RepositoryError:
            if not self.is_local:
                self._cache.spoil(fetched.path)
            raise

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

    def _fetch(self, model: str, version: int) -> tuple[Fetched, _Verified]:
        """Return a version's folder, and what of it was verified against its manifest by now."""
        found, contents = self._contents(model, version)
        manifest = contents.manifest
        listed = with_itself(manifest, contents.manifest_data) if manifest else None
        if self.is_local:
            path = self.store.local_path(found.path)
            return Fetched(path, found.revision), self._verify_first(path, listed)
        path, verified = self._copied(model, version, found, contents.listing, listed)
        return Fetched(path, found.revision), verified

    def _contents(self, model: str, version: int) -> tuple[VersionFolder, Contents]:
        found = self._version(model, version)
        contents = self._examine(found)
        problem = contents.problem or self._distrust(model, version, found, contents)
        if problem:
            place = self.store.url(found.path)
            raise RepositoryError(f"'{place}' cannot be served: {problem}")
        return found, contents

    def _distrust(
        self, model: str, version: int, found: VersionFolder, contents: Contents
    ) -> str | None:
        """Say why a whole version may not be loaded as the config has it, None if it may."""
        if not self.trust.require_signed:
            return None
        if contents.manifest is None:
            return (
                f"it has no {MANIFEST}, so nobody can have signed it, and repository.require_signed"
                " is set; publish it with strata publish --sign KEYFILE"
            )
        signature = None
        if SIGNATURE in found.listing.files:
            # One byte more than it has, so that what is longer is seen and not read.
            with self.store.open(f"{found.path}/{SIGNATURE}") as file:
                signature = file.read(SIGNATURE_BYTES + 1)
        try:
            place = (model, version)
            require_signed(self.trust, contents.manifest, contents.manifest_data, signature, place)
        except RepositoryError as err:
            return str(err)
        return None

    def _copied(
        self,
        model: str,
        version: int,
        found: VersionFolder,
        listing: Listing,
        listed: Manifest | None,
    ) -> tuple[Path, _Verified]:
        """Return a copy of a remote version, held, and what of it was verified."""
        files = listing.files
        paths = sorted(files.keys() & listed.files.keys() if listed else files)
        fresh: list[_Verified] = []

        def fill(staging: Path) -> None:
            told = counted("fetching", sum(files[path] or 0 for path in paths))
            for path in paths:
                self.store.download(f"{found.path}/{path}", staging / path, files[path], told)
            fresh.append(self._verify_all(staging, listed))
            if self._version(model, version).revision != found.revision:
                raise RepositoryError(
                    f"'{self.store.url(found.path)}' changed while it was copied; publish a new "
                    "version instead of changing one"
                )

        # With its revision: what is put there anew under the same number is another copy.
        content = f"{self.root}\n{found.path}\n{found.revision}"
        key = hashlib.sha256(content.encode()).hexdigest()[:16]
        size = sum(size or 0 for size in files.values())
        name = f"{version}-{key}"
        path = self._cache.get(model, name, size, fill)
        if not fresh:
            try:
                return path, self._verify_first(path, listed)
            except RepositoryError:  # somebody was at the copy: it is made anew, once
                self._cache.spoil(path)
                self._cache.release(path)
                path = self._cache.get(model, name, size, fill)
        return path, fresh[0] if fresh else self._verify_first(path, listed)

    def _verify_all(self, folder: Path, listed: Manifest | None) -> _Verified:
        verified = self._verify_first(folder, listed)
        return _Verified({**verified.stamps, **self._verify_rest(folder, verified)})

    def _verify_first(self, folder: Path, listed: Manifest | None) -> _Verified:
        """Verify what must be before anything of it is loaded. Raises RepositoryError."""
        if listed is None:
            self._require_whole(folder)
            return _Verified({})
        first, rest = before_and_after(listed)
        with self._readable(folder):
            return _Verified(verify(first, folder), rest)

    def _verify_rest(self, folder: Path, verified: _Verified) -> Mapping[str, Stamp]:
        """Verify what was not yet, and that the rest is what it was. Raises RepositoryError."""
        with self._readable(folder):
            require_unchanged(verified.stamps, folder)
            return verify(verified.rest, folder) if verified.rest else {}

    def _require_whole(self, folder: Path) -> None:
        store = Store(str(folder.parent))
        problem = examine(store, folder.name, store.walk(folder.name)).problem
        if problem:
            raise RepositoryError(f"'{folder}' cannot be served: {problem}")

    @contextmanager
    def _readable(self, folder: Path) -> Iterator[None]:
        try:
            yield
        except OSError as err:
            raise RepositoryError(f"'{folder}' cannot be read: {reason(err)}") from err
