"""Where a repository's files are: a local folder or an object store, through fsspec.

The one edge to fsspec and the libraries behind it (s3fs, gcsfs, aiohttp): whatever they raise
becomes a RepositoryError that names the root and the reason. Paths are relative to the root, with
`/`. Nothing is cached here, a listing is always what the store says now.
"""

import errno
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO, cast
from urllib.parse import quote, unquote

import fsspec

from serve.errors import RepositoryError, ServeError
from serve.repository import local_files
from serve.repository.layout import MANIFEST, SIGNATURE, Entry, Listing, is_hidden, is_inside

_EXTRAS = {"s3": "s3", "s3a": "s3", "gs": "gs", "gcs": "gs", "http": "http", "https": "http"}
_MAX_DEPTH = 8  # folders in a version; ends the walk where the links of web pages form a circle
FULL = (errno.ENOSPC, errno.EDQUOT)  # what a disk without room says
# What stores call the things that change with a file's content.
_STAMPS = ("ETag", "etag", "md5Hash", "generation", "Content-MD5")
_TIMES = ("LastModified", "last_modified", "Last-Modified", "updated", "created", "mtime")


class Store:
    """A root folder in a file system; every method raises RepositoryError.

    `is_closed` says that links of a local one lead nowhere out of it.
    """

    def __init__(self, root: str, *, is_closed: bool = False) -> None:
        self.root = root.rstrip("/") or root
        self.protocol = root.partition("://")[0] if "://" in root else "file"
        self.is_local = self.protocol in ("file", "local")
        self.is_http = self.protocol in ("http", "https")
        with self._translated():
            self._fs, self._base = self._connect()
        self._bound = Path(self._base) if self.is_local and is_closed else None

    def local_path(self, path: str) -> Path:
        """Return the path of a file or folder of a local store."""
        return Path(self._base) / path

    def leads_out(self, path: str) -> str | None:
        """Say that a path of a local store leads out of it where it must not, else None.

        Raises OSError.
        """
        return local_files.leads_out(self.local_path(path), self._bound)

    def url(self, path: str) -> str:
        """Return the path of a file or folder as messages show it: local, or a URL."""
        return str(self.local_path(path)) if self.is_local else f"{self.root}/{path}"

    def children(self, path: str) -> dict[str, Entry]:
        """Return what a folder holds by name; nothing if there is no such folder."""
        with self._translated():
            try:
                return self._children(path)
            except (FileNotFoundError, NotADirectoryError):
                self._require_root(path)
                return {}

    def walk(self, path: str) -> Listing:
        """List all files and folders below a folder, hidden ones left out.

        Of a local folder that cannot be read the listing says why; other stores raise. An object
        store is asked once, however deep the folder is.
        """
        if self.is_local:
            return local_files.walk(self.local_path(path), self._bound)
        if not self.is_http:
            return self._objects(path)
        files: dict[str, int | None] = {}
        folders: set[str] = set()
        self._pages(path, "", files, folders)
        return Listing(files, frozenset(folders), self._page_stamps(path, files))

    def exists(self, path: str) -> bool:
        with self._translated():
            return bool(self._fs.exists(self._full(path)))

    def read(self, path: str) -> bytes:
        with self._translated():
            return cast(bytes, self._fs.cat_file(self._full(path)))

    @contextmanager
    def open(self, path: str) -> Iterator[BinaryIO]:
        """Open a file for reading at any position; what the block raises is translated too."""
        with self._translated(), self._fs.open(self._full(path), "rb") as file:
            yield file

    def download(
        self,
        path: str,
        target: Path,
        size: int | None = None,
        told: Callable[[int], None] = lambda size: None,
    ) -> None:
        """Copy a file to the disk; `size` are the bytes that it has, None if that is unknown.

        `told` gets the bytes of parts that have come. Raises RepositoryError, and OSError if the
        disk is full.
        """
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            with self._translated():
                self._fs.get_file(self._full(path), str(target), callback=_Parts(told))
        except RepositoryError as err:
            if isinstance(err.__cause__, OSError) and err.__cause__.errno in FULL:
                raise err.__cause__ from None  # the disk's error, and none of the store
            raise
        found = target.stat().st_size
        if size is not None and found != size:
            raise RepositoryError(
                f"repository '{self.root}' cannot be used: {found} of {size} bytes of "
                f"'{self.url(path)}' came"
            )

    def upload(
        self, source: Path, path: str, told: Callable[[int], None] = lambda size: None
    ) -> None:
        with self._translated():
            self._fs.put_file(str(source), self._full(path), callback=_Parts(told))

    def create(self, path: str) -> bool:
        """Make a file and tell whether it was this call that made it.

        Object stores do it with a condition on the write, which of two writers only one passes.
        """
        token = uuid.uuid4().hex.encode()
        with self._translated():
            try:
                self._fs.pipe_file(self._full(path), token, mode="create")
            except FileExistsError:
                return False
            except OSError:  # some stores say "precondition failed" in their own way
                if not self._fs.exists(self._full(path)):
                    raise
                return bool(self._fs.cat_file(self._full(path)) == token)
            try:
                return bool(self._fs.cat_file(self._full(path)) == token)
            except Exception:
                with suppress(Exception):  # it was made, and nobody is told so
                    self._fs.rm_file(self._full(path))
                raise

    def remove(self, path: str) -> None:
        with self._translated():
            self._fs.rm_file(self._full(path))

    def _connect(self) -> tuple[Any, str]:
        # Not resolved: a model car's link leads through /proc/N/root, which has no path of its own.
        root = self.root if "://" in self.root else str(Path(self.root).expanduser().absolute())
        try:
            # Another process's new version must be seen, so listings are not remembered.
            fs, base = fsspec.url_to_fs(root, use_listings_cache=False)
        except ImportError as err:
            extra = _EXTRAS.get(self.protocol, self.protocol)
            raise RepositoryError(
                f"repository '{self.root}' needs a library for {self.protocol}://; "
                f"pip install 'strata-serve[{extra}]'"
            ) from err
        return fs, base.rstrip("/")

    def _full(self, path: str) -> str:
        if not path:
            return self._base
        return f"{self._base}/{quote(path) if self.is_http else path}"

    def _children(self, path: str) -> dict[str, Entry]:
        if self.is_local:
            return local_files.children(self.local_path(path), self._bound)
        full = self._full(path)
        entries = (self._entry(full, info) for info in self._fs.ls(full, detail=True))
        return {name: entry for name, entry in entries if name and is_inside(name)}

    def _entry(self, folder: str, info: dict[str, Any]) -> tuple[str, Entry]:
        name = str(info["name"]).rstrip("/").removeprefix(folder.rstrip("/")).lstrip("/")
        if self.is_http:
            name = "" if set("?#") & set(name) else unquote(name)  # a page has other links too
        name = name if "/" not in name else ""
        return name, Entry(info["type"] == "directory", info.get("size"), _stamp(info))

    def _require_root(self, path: str) -> None:
        """Tell a missing folder, which is normal, from a missing root or bucket."""
        if self.is_local or self.is_http:
            if not self._fs.exists(self._base):
                raise FileNotFoundError(errno.ENOENT, "no such folder")
        elif path or "/" in self._base:
            self._fs.ls(self._base.partition("/")[0])
        else:
            raise FileNotFoundError(errno.ENOENT, "no such bucket")

    def _objects(self, path: str) -> Listing:
        full = self._full(path)
        with self._translated():
            try:
                found = self._fs.find(full, detail=True, withdirs=True)
            except FileNotFoundError:
                self._require_root(path)
                found = {}
        files, stamps, folders = dict[str, int | None](), dict[str, str](), set[str]()
        for key, info in found.items():
            name = key.removeprefix(full).removeprefix("/")
            is_folder = name.endswith("/") or info["type"] == "directory"
            name = name.rstrip("/")
            if not is_inside(name):
                continue
            parents = {str(parent) for parent in PurePosixPath(name).parents} - {"."}
            within = parents | {name} if is_folder else parents
            folders |= {path for path in within if not is_hidden(path)}
            if not is_folder and not is_hidden(name):
                files[name], stamps[name] = info.get("size"), _stamp(info)
        return Listing(files, frozenset(folders), stamps)

    def _pages(
        self, root: str, below: str, files: dict[str, int | None], folders: set[str]
    ) -> None:
        for name, entry in self.children(f"{root}/{below}" if below else root).items():
            path = f"{below}/{name}" if below else name
            if is_hidden(name):
                continue
            if not entry.is_folder:
                files[path] = entry.bytes
            elif path.count("/") < _MAX_DEPTH:
                folders.add(path)
                self._pages(root, path, files, folders)

    def _page_stamps(self, root: str, files: Iterable[str]) -> dict[str, str]:
        """Ask for each file's own head: pages name files and nothing else.

        The manifest of a published version stands for all its files, whose hashes it has.
        """
        stamps, files = {}, list(files)
        if MANIFEST in files:
            files = [path for path in (MANIFEST, SIGNATURE) if path in files]
        with self._translated():
            for path in files:
                info = self._fs.info(self._full(f"{root}/{path}"))
                stamps[path] = f"{info.get('size')} {_stamp(info)}"
        return stamps

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except ServeError:
            raise
        except Exception as err:
            raise RepositoryError(
                f"repository '{self.root}' cannot be used: {reason(err)}"
            ) from err


class _Parts(fsspec.Callback):  # type: ignore[misc]  # fsspec has no types
    """Tells the bytes of parts as a store moves them."""

    def __init__(self, told: Callable[[int], None]) -> None:
        super().__init__()
        self._told = told

    def relative_update(self, inc: int = 1) -> None:
        self._told(inc)


def _stamp(info: Mapping[str, Any]) -> str:
    """Return what a store says of a file's content; its times only where it says no more."""
    strong = [str(info[key]) for key in _STAMPS if info.get(key) is not None]
    times = [str(info[key]) for key in _TIMES if info.get(key) is not None]
    return "|".join(strong or times)


def is_denied(err: RepositoryError) -> bool:
    """Tell whether a file may not be read, while the store as a whole may be there."""
    cause = err.__cause__
    return isinstance(cause, PermissionError) or getattr(cause, "status", None) in (401, 403)


def reason(err: Exception) -> str:
    """Return the first line of what an exception says, or its name if it says nothing."""
    if isinstance(err, OSError) and err.strerror:
        text = err.strerror if err.filename is None else f"{err.strerror}: '{err.filename}'"
    else:
        text = str(err)
    return (text.strip() or type(err).__name__).splitlines()[0]
