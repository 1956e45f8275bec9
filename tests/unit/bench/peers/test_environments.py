import pytest
from bench.peers import environments
from bench.peers.catalogue import PEERS
from bench.peers.environments import python_of

from serve.errors import ServeError


class Uv:
    """Stands in for uv, which fetches gigabytes: makes the interpreter, keeps what it was asked."""

    def __init__(self, fails=False):
        self.calls = []
        self.fails = fails

    def __call__(self, peer, *arguments):
        self.calls.append(arguments)
        if arguments[0] == "pip" and self.fails:
            raise ServeError(f"{peer} cannot be installed")


@pytest.fixture
def uv(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(environments, "_LOCKS", tmp_path)
    (tmp_path / "mosec.lock").write_text("mosec==0.9.8\n")
    fake = Uv()
    monkeypatch.setattr(environments, "_uv", fake)
    return fake


@pytest.fixture(autouse=True)
def _folders_are_made(monkeypatch):
    touch = environments.Path.touch
    monkeypatch.setattr(
        environments.Path,
        "touch",
        lambda self: (self.parent.mkdir(parents=True, exist_ok=True), touch(self))[1],
    )


def test_an_environment_is_made_once(uv):
    first = python_of("mosec")
    assert python_of("mosec") == first
    assert [call[0] for call in uv.calls] == ["venv", "pip"]


def test_another_lock_file_is_another_environment(uv, tmp_path):
    first = python_of("mosec")
    (tmp_path / "mosec.lock").write_text("mosec==0.9.9\n")
    assert python_of("mosec") != first
    assert len(uv.calls) == 4


def test_one_that_was_not_installed_to_its_end_is_made_again(uv):
    uv.fails = True
    with pytest.raises(ServeError, match="mosec cannot be installed"):
        python_of("mosec")
    uv.fails = False
    python_of("mosec")
    assert [call[0] for call in uv.calls] == ["venv", "pip", "venv", "pip"]


def test_what_the_installer_says_is_told(monkeypatch, tmp_path):
    bin_folder = tmp_path / "bin"
    bin_folder.mkdir()
    (bin_folder / "uv").write_text("#!/bin/sh\necho no route to host >&2; exit 2\n")
    (bin_folder / "uv").chmod(0o755)
    monkeypatch.setattr("sys.executable", str(bin_folder / "python"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    with pytest.raises(ServeError, match="triton cannot be installed: no route to host"):
        python_of("triton")


def test_every_environment_has_its_versions_pinned_and_one_tensorflow():
    names = {peer.requirements for peer in PEERS if peer.requirements}
    locks = {name: (environments._LOCKS / f"{name}.lock").read_text() for name in names}
    for name, lock in locks.items():
        lines = [line for line in lock.splitlines() if not line.startswith("#")]
        assert all("==" in line for line in lines), name
    engines = {
        line for lock in locks.values() for line in lock.splitlines() if "tensorflow=" in line
    }
    assert engines == {"tensorflow==2.21.0"}, "the same engine everywhere"
