"""A stand-in for wrk, which not every machine has, and servers on loopback."""

from contextlib import ExitStack

import pytest

from tests.loopback import serving

# What wrk 4.1.0 printed of a server on loopback.
REPORT = """\
Running 2s test @ http://127.0.0.1:18200/x
  1 threads and 4 connections
  Thread Stats   Avg      Stdev     Max   +/- Stdev
    Latency    43.23ms    6.11ms  48.05ms   97.50%
    Req/Sec    92.10     17.88   121.00     75.99%
  Latency Distribution
     50%   43.96ms
     75%   44.01ms
     90%   44.09ms
     99%   48.03ms
  184 requests in 2.00s, 20.74KB read
Requests/sec:     91.78
Transfer/sec:     10.34KB
"""


class Wrk:
    """A `wrk` on PATH that prints `report` and keeps what it was given."""

    def __init__(self, folder):
        self._folder = folder
        self.report = REPORT
        script = folder / "wrk"
        script.write_text(
            "#!/bin/sh\n"
            f"cd {folder}\n"
            'printf "%s\\n" "$@" > arguments; printf "%s" "$JSON_LENGTH" > json_length\n'
            'printf "%s" "$CONTENT_TYPE" > content_type; printf "%s" "$PATHS" > paths\n'
            'IFS=:; for path in $BODIES; do cat "$path" >> bodies; echo >> bodies; done\n'
            "if [ -e failure ]; then cat failure >&2; exit 1; fi\n"
            "cat report\n"
        )
        script.chmod(0o755)

    @property
    def report(self):
        return (self._folder / "report").read_text()

    @report.setter
    def report(self, text):
        (self._folder / "report").write_text(text)

    @property
    def fails_with(self):
        return (self._folder / "failure").read_text()

    @fails_with.setter
    def fails_with(self, text):
        (self._folder / "failure").write_text(text)

    @property
    def was_run(self):
        return (self._folder / "arguments").exists()

    @property
    def arguments(self):
        return (self._folder / "arguments").read_text().splitlines()

    @property
    def bodies(self):
        return (self._folder / "bodies").read_text().splitlines()

    @property
    def paths(self):
        return (self._folder / "paths").read_text()

    @property
    def json_length(self):
        return (self._folder / "json_length").read_text()

    @property
    def content_type(self):
        return (self._folder / "content_type").read_text()


@pytest.fixture
def wrk(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    return Wrk(tmp_path)


@pytest.fixture
def serve_on_loopback():
    """Return what starts a server of `respond(asked)`; it returns the URL."""
    with ExitStack() as servers:
        yield lambda respond: f"http://127.0.0.1:{servers.enter_context(serving(respond))}"
