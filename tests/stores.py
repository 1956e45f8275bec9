"""Stores that go away: their n-th operation fails, or all from it on, until they are back.

An operation is what a store is asked for: a listing, the state of a file, opening one, a read from
it, a write, a copy to the disk (which fails half way).
"""

import errno
import functools
import http.server
import threading
from contextlib import contextmanager
from types import SimpleNamespace

import pytest

from serve.repository import completeness, local_files, repository

# What a store that is away is like. The last one answers as if there were nothing, as the empty
# folder below a mount does.
ERRORS = {
    "an error of the disk": lambda: OSError(errno.EIO, "Input/output error"),
    "too late": lambda: TimeoutError("timed out"),
    "a broken connection": lambda: ConnectionResetError(errno.ECONNRESET, "Connection reset"),
    "nothing there": lambda: FileNotFoundError(errno.ENOENT, "No such file or directory"),
}


class Outage:
    """Which operations of a store fail: the `at`-th, and those after it if it is `for_good`."""

    def __init__(self, at, error, *, for_good=False):
        self.has_come = False
        self._at, self._error, self._for_good = at, error, for_good
        self._asked = 0
        self._is_on = True
        self._counting = threading.Lock()

    @property
    def hides(self):
        """Whether the store says that there is nothing, which may be so."""
        return self._error is ERRORS["nothing there"]

    def end(self):
        self._is_on = False

    def fails(self):
        """Count an operation; tell whether it is to fail."""
        with self._counting:
            number, self._asked = self._asked, self._asked + 1
        fails = self._is_on and (number == self._at or (self._for_good and number > self._at))
        self.has_come |= fails
        return fails

    def step(self):
        if self.fails():
            raise self._error()

    def around(self, action):
        @functools.wraps(action)
        def step(*args, **kwargs):
            self.step()
            return action(*args, **kwargs)

        return step


class _File:
    """A file of which a read may fail."""

    def __init__(self, file, outage):
        self._file, self._outage = file, outage

    def __getattr__(self, name):
        return getattr(self._file, name)

    def read(self, *args):
        self._outage.step()
        return self._file.read(*args)

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self._file.close()


class _FileSystem:
    """An fsspec file system that may fail; a file that is copied from it is then half there."""

    def __init__(self, fs, outage):
        self._fs, self._outage = fs, outage

    def __getattr__(self, name):
        return self._outage.around(getattr(self._fs, name))

    def open(self, path, mode):
        self._outage.step()
        return _File(self._fs.open(path, mode), self._outage)

    def get_file(self, path, target, callback):
        self._outage.step()
        self._fs.get_file(path, target, callback=callback)
        if self._outage.fails():
            with open(target, "r+b") as file:
                file.truncate(file.seek(0, 2) // 2)
            raise ConnectionResetError(errno.ECONNRESET, "Connection reset half way")

    def put_file(self, source, path, callback):
        self._outage.step()
        self._fs.put_file(source, path, callback=callback)
        self._outage.step()  # it is there, and nobody heard that it is


@contextmanager
def away(repo, outage):
    """Have a repository's store fail as `outage` says, for the length of the block and no longer.

    Over HTTP it is the server that fails, which `serve_http` asks.
    """
    with pytest.MonkeyPatch.context() as patch:
        if not repo.store.is_http:
            patch.setattr(repo.store, "_fs", _FileSystem(repo.store._fs, outage))
        if repo.is_local:
            _patch_disk(patch, outage)
        try:
            yield
        finally:
            outage.end()


def _patch_disk(patch, outage):
    """Have what is asked of the disk of a local repository fail, and nothing else on this disk."""
    os = local_files.os
    failing = SimpleNamespace(**vars(os))
    for name in ("scandir", "stat", "open"):
        setattr(failing, name, outage.around(getattr(os, name)))
    patch.setattr(local_files, "os", failing)
    patch.setattr(completeness, "unreadable", _unreadable(outage))
    patch.setattr(repository, "verify", outage.around(repository.verify))


def _unreadable(outage):
    def unreadable(file):
        try:
            outage.step()
        except OSError as err:
            return local_files.why(err)
        return local_files.unreadable(file)

    return unreadable


class _Server(http.server.ThreadingHTTPServer):
    outage = None
    daemon_threads = True


class _Handler(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *args):
        pass

    def do_HEAD(self):
        self._answer(super().do_HEAD)

    def do_GET(self):
        self._answer(super().do_GET)

    def _answer(self, answer):
        outage = self.server.outage
        if outage is not None and outage.fails():
            self.send_error(503)
            return
        answer()

    def copyfile(self, source, target):
        outage = self.server.outage
        if outage is not None and outage.fails():
            data = source.read()
            target.write(data[: len(data) // 2])  # and the connection ends
            return
        super().copyfile(source, target)


@contextmanager
def serve_http(folder):
    """Serve a folder over HTTP; yield the server, whose `outage` may be set, and its URL."""
    handler = functools.partial(_Handler, directory=str(folder))
    with _Server(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server, f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()
        thread.join()
