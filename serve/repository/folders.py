"""What lies in the folder of a model: its versions by number, and what else is there.

A number stands for a folder whose name may have zeros in front, so the name is found here and
nowhere made of the number. Called by repository.
"""

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from difflib import get_close_matches

from serve.config.schema import is_name
from serve.errors import RepositoryError
from serve.repository.layout import (
    SAVED_MODEL,
    Entry,
    Listing,
    find_model,
    is_hidden,
    version_folders,
)
from serve.repository.store import Store, is_denied


@dataclass(frozen=True, slots=True)
class VersionFolder:
    """The folder of a version: its path in the store, and what is in it."""

    path: str
    listing: Listing

    @property
    def revision(self) -> str:
        return self.listing.revision


@dataclass(frozen=True, slots=True)
class ModelFolder:
    """The folder of a model: versions by number, and why other folders are none.

    `exists` is False where there is no such folder. `misplaced` names a model that lies in it and
    not in a version folder, None if there is none.
    """

    versions: Mapping[int, VersionFolder]
    others: Mapping[str, str]
    exists: bool
    misplaced: str | None = None


def look(store: Store, model: str) -> ModelFolder:
    """Return what the folder of a model holds now. Raises RepositoryError if it cannot be read."""
    if store.is_local or store.is_http:
        return _in_folders(store, model)
    return _in_objects(store.walk(model), model)


def top_level(store: Store) -> dict[str, str | None]:
    """Return the folders that could be models, by name, and why one is none.

    Raises RepositoryError if the root cannot be read.
    """
    found: dict[str, str | None] = {}
    for name, entry in sorted(store.children("").items()):
        if is_hidden(name) or name == "lost+found" or not (entry.is_folder or entry.problem):
            continue
        found[name] = entry.problem or (None if is_name(name) else "its name cannot name a model")
    return found


def absence(store: Store, model: str) -> str:
    """Say that a model has no folder, and which there are."""
    names = [name for name, problem in top_level(store).items() if problem is None]
    close = get_close_matches(model, names, 1)
    hint = f"; did you mean '{close[0]}'?" if close else ""
    some = ", ".join(names[:20]) + (", ..." if len(names) > 20 else "")
    return f"'{store.root}' has no folder '{model}' (there are: {some or 'none'}){hint}"


def _in_folders(store: Store, model: str) -> ModelFolder:
    entries = store.children(model)
    folders = {name: e for name, e in entries.items() if e.is_folder or e.problem is not None}
    numbers, others = version_folders(folders)
    versions = {}
    for number, name in numbers.items():
        path = f"{model}/{name}"
        versions[number] = VersionFolder(path, _listing(store, path, folders[name]))
    others = {name: why for name, why in others.items() if folders[name].is_folder}
    files = [name for name, entry in entries.items() if not entry.is_folder]
    exists = bool(entries) or model in store.children("")
    return ModelFolder(versions, others, exists, _misplaced(files))


def _listing(store: Store, path: str, entry: Entry) -> Listing:
    if entry.problem is not None:
        return Listing({}, frozenset(), problems={"": entry.problem})
    try:
        return store.walk(path)
    except RepositoryError as err:
        if not is_denied(err):
            raise
        return Listing({}, frozenset(), problems={"": str(err)})


def _in_objects(listing: Listing, model: str) -> ModelFolder:
    numbers, others = version_folders({path.partition("/")[0] for path in listing.folders})
    within = _by_first_part(listing)
    versions = {n: VersionFolder(f"{model}/{name}", within[name]) for n, name in numbers.items()}
    files = [path for path in listing.files if "/" not in path]
    exists = bool(listing.files or listing.folders)
    return ModelFolder(versions, others, exists, _misplaced(files))


def _by_first_part(listing: Listing) -> dict[str, Listing]:
    """Return the listing of each folder at the top."""
    files: dict[str, dict[str, int | None]] = defaultdict(dict)
    stamps: dict[str, dict[str, str]] = defaultdict(dict)
    folders: dict[str, set[str]] = defaultdict(set)
    for path, size in listing.files.items():
        top, _, below = path.partition("/")
        files[top][below], stamps[top][below] = size, listing.stamps[path]
    for path in listing.folders:
        top, _, below = path.partition("/")
        folders[top] |= {below} - {""}
    return {
        top: Listing(files[top], frozenset(below), stamps[top]) for top, below in folders.items()
    }


def _misplaced(files: list[str]) -> str | None:
    model = find_model(files)
    if model is None:
        return None
    return SAVED_MODEL if model.format == "savedmodel" else model.path
