"""One model of a repository, looked at again and again; its versions as engines.

Called by version_sources, for a model of its own and for the members of a pipeline.
"""

import logging
import weakref
from collections.abc import Mapping
from pathlib import Path

from serve.engines.engine import Engine, EngineOptions
from serve.engines.function_engine import FunctionEngine
from serve.errors import RepositoryError
from serve.replica.background_trials import BackgroundTrials
from serve.repository.repository import Fetched, Repository
from serve.selection.hardware import folder_of, hardware
from serve.selection.loading import NOT_TRIED, load

log = logging.getLogger("ray.serve")


class WatchedModel:
    """One model of a repository as a replica sees it, look by look.

    `found` are the versions that could be loaded at the last look, with their revisions; `problems`
    say why others could not, and `absence` why there is none. `loaded` are the folders of versions
    that were loaded, as long as they are there or the model has no folder at all.

    A version that was loaded stays as it was loaded for as long as its folder is there: one that is
    being copied over, or that may no longer be read, is no reason to serve an older one.
    """

    def __init__(self, repository: Repository, model: str, options: EngineOptions) -> None:
        self.found: Mapping[int, str] = {}
        self.problems: Mapping[int | str, str] = {}
        self.absence = ""
        self._repository = repository
        self._model = model
        self._options = options
        self.loaded: dict[int, Fetched] = {}
        self._fetched: dict[int, Path] = {}  # for a load that has not been yet
        self._contents: dict[tuple[int, str], str] = {}  # by version and revision
        self._hardware = ""
        self._trials = BackgroundTrials(repository)

    def look(self) -> Mapping[int, str]:
        """Look into the repository and return `found`. Raises RepositoryError if it is away."""
        if self.loaded:
            self._drop_copies()
        seen = self._repository.look(self._model)
        kept = {n: each.revision for n, each in self.loaded.items() if n in seen.problems}
        if seen.revisions or seen.problems:  # without any it may be a mount that is away
            self.loaded = {
                n: each for n, each in self.loaded.items() if n in kept or n in seen.revisions
            }
        self.found = {**kept, **seen.revisions}
        self.problems, self.absence = seen.problems, seen.absence
        return self.found

    def _drop_copies(self) -> None:
        """Remove copies of versions that nobody here uses any more.

        A look does not depend on it: what fails here fails where a copy is made, and is said there.
        """
        try:
            self._repository.drop_copies(self._model)
        except RepositoryError as err:
            log.debug("%s", err)

    def fetch(self, version: int) -> None:
        """Have a version's files on this disk and verified, so that its load is short.

        Raises RepositoryError. A copy is kept until the version is loaded.
        """
        before = self._fetched.pop(version, None)
        self._fetched[version] = self._repository.fetch(self._model, version)
        if before is not None:
            self._repository.release(before)

    def load(self, version: int) -> Engine:
        """Return a version's engine, not yet warm. Raises RepositoryError."""
        try:
            return self._load(version)
        finally:
            fetched = self._fetched.pop(version, None)
            if fetched is not None:
                self._repository.release(fetched)

    def _load(self, version: int) -> Engine:
        engine: FunctionEngine | None = None
        tried: Path | None = None
        try:
            with self._repository.reading(self._model, version) as fetched:
                tried = self._tried(version, fetched.revision)
                engine = load(fetched.path, self._options, tried)
        except BaseException:
            if engine is not None:
                engine.close()
            self._release(tried)
            raise
        self.loaded[version] = fetched
        if engine.reason == NOT_TRIED:
            self._trials.start(self._model, version, fetched.revision, self._options)
        weakref.finalize(engine, self._release, fetched.path, tried)
        return engine

    def verdict_stamp(self, version: int) -> str | None:
        """Return a text that changes with the verdict on a version's engines, None without one."""
        revision = self.found.get(version)
        if self._options.library == "tensorflow" or revision is None:
            return None
        try:
            content = self._content(version, revision)
            return self._repository.engines.stamp(self._model, content, self._here())
        except RepositoryError as err:  # it is served all the same
            log.debug("%s", err)
            return None

    def _tried(self, version: int, revision: str) -> Path | None:
        """Return the folder of the verdict on a version's engines, None if there is none."""
        if self._options.library == "tensorflow":
            return None
        try:
            content = self._content(version, revision)
            return self._repository.fetch_engines(self._model, version, content, self._here())
        except RepositoryError as err:
            log.warning("the verdict on the engines cannot be read: %s", err)
            return None

    def _content(self, version: int, revision: str) -> str:
        known = (version, revision)
        if known not in self._contents:
            self._contents = {
                (number, seen): content
                for (number, seen), content in self._contents.items()
                if self.found.get(number) == seen
            }
            self._contents[known] = self._repository.content(self._model, version)
        return self._contents[known]

    def _here(self) -> str:
        if not self._hardware:
            self._hardware = folder_of(hardware(self._options.num_gpus))
        return self._hardware

    def _release(self, *folders: Path | None) -> None:
        for folder in folders:
            if folder is not None:
                self._repository.release(folder)


def chosen(found: Mapping[int, str], version: int | None) -> tuple[int, str] | tuple[None, None]:
    """Return a version and its revision, the newest for None; None and None if it is not there."""
    number = max(found, default=None) if version is None else version
    if number is None or number not in found:
        return None, None
    return number, found[number]
