"""Where a repository's files are: a local folder or an object store, through fsspec.

The one edge to fsspec and the libraries behind it (s3fs, gcsfs, aiohttp): whatever they raise
becomes a RepositoryError that names the root and the reason. Paths are relative to the root, with
`/`. Nothing is cached here, a listing is always what the store says now.
"""

import errno
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, cast
from urllib.parse import quote, unquote

import fsspec

from serve.errors import RepositoryError, ServeError
from serve.repository.layout import Listing, is_hidden, is_inside

_EXTRAS = {"s3": "s3", "s3a": "s3", "gs": "gs", "gcs": "gs", "http": "http", "https": "http"}
_MAX_DEPTH = 8  # folders in a version; ends the walk where links form a circle


@dataclass(frozen=True, slots=True)
class Entry:
    """A name in a folder; `stamp` changes when a local folder is replaced or changed."""

    is_folder: bool
    bytes: int | None
    stamp: object


class Store:
    """A root folder in a file system; every method raises RepositoryError."""

    def __init__(self, root: str) -> None:
        self.root = root.rstrip("/") or root
        self.protocol = root.partition("://")[0] if "://" in root else "file"
        self.is_local = self.protocol in ("file", "local")
        self.is_http = self.protocol in ("http", "https")
        with self._translated():
            self._fs, self._base = self._connect()

    def local_path(self, path: str) -> Path:
        """Return the path of a file or folder of a local store."""
        return Path(self._base) / path

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
        """List all files and folders below a folder, hidden ones left out."""
        files: dict[str, int | None] = {}
        folders: set[str] = set()
        self._walk(path, "", files, folders)
        return Listing(files, frozenset(folders))

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

    def stamp(self, path: str) -> str:
        """Return a text that changes with a file's content, as far as the store tells."""
        with self._translated():
            info = self._fs.info(self._full(path))
        keys = ("ETag", "etag", "md5Hash", "LastModified", "created", "mtime", "size")
        return "|".join(str(info.get(key)) for key in keys)

    def download(self, path: str, target: Path) -> None:
        with self._translated():
            target.parent.mkdir(parents=True, exist_ok=True)
            self._fs.get_file(self._full(path), str(target))

    def upload(self, source: Path, path: str) -> None:
        with self._translated():
            self._fs.put_file(str(source), self._full(path))

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

    def remove(self, path: str) -> None:
        with self._translated():
            self._fs.rm_file(self._full(path))

    def _connect(self) -> tuple[Any, str]:
        root = self.root if "://" in self.root else str(Path(self.root).expanduser().resolve())
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
        full = self._full(path)
        entries = (self._entry(full, info) for info in self._fs.ls(full, detail=True))
        return {name: entry for name, entry in entries if name and is_inside(name)}

    def _entry(self, folder: str, info: dict[str, Any]) -> tuple[str, Entry]:
        name = str(info["name"]).rstrip("/").removeprefix(folder.rstrip("/")).lstrip("/")
        if self.is_http:
            name = "" if set("?#") & set(name) else unquote(name)  # a page has other links too
        stamp = (info.get("ino"), info.get("mtime"))
        name = name if "/" not in name else ""
        return name, Entry(info["type"] == "directory", info.get("size"), stamp)

    def _require_root(self, path: str) -> None:
        """Tell a missing folder, which is normal, from a missing root or bucket."""
        if self.is_local or self.is_http:
            if not self._fs.exists(self._base):
                raise FileNotFoundError(errno.ENOENT, "no such folder")
        elif path or "/" in self._base:
            self._fs.ls(self._base.partition("/")[0])
        else:
            raise FileNotFoundError(errno.ENOENT, "no such bucket")

    def _walk(self, root: str, below: str, files: dict[str, int | None], folders: set[str]) -> None:
        for name, entry in self.children(f"{root}/{below}" if below else root).items():
            path = f"{below}/{name}" if below else name
            if is_hidden(name):
                continue
            if not entry.is_folder:
                files[path] = entry.bytes
            elif path.count("/") < _MAX_DEPTH:
                folders.add(path)
                self._walk(root, path, files, folders)

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


def reason(err: Exception) -> str:
    """Return the first line of what an exception says, or its name if it says nothing."""
    if isinstance(err, OSError) and err.strerror:
        text = err.strerror if err.filename is None else f"{err.strerror}: '{err.filename}'"
    else:
        text = str(err)
    return (text.strip() or type(err).__name__).splitlines()[0]
