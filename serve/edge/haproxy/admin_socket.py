"""HAProxy's admin socket: its maps, tables and certificates while it runs.

Source: HAProxy's management guide, "9.3. Unix Socket commands".
"""

import re
import socket
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Self

_TIMEOUT_S = 10.0
_COMMANDS_AT_ONCE = 200
_ENTRY = re.compile(r"0x[0-9a-f]+ (\S+) (.*)")
_ROW = re.compile(r"0x[0-9a-f]+: key=(.*?) use=\d+.* gpc0=(\d+)")
_AT_ONCE = re.compile(
    r"0x[0-9a-f]+: key=(?P<key>\S+) .* gpt0=(?P<told>\d+) .* conn_cur=(?P<are>\d+)"
)
_DONE = re.compile(
    r"^(?:Success|Transaction (?:created|updated) for)", re.MULTILINE | re.IGNORECASE
)
# What HAProxy ends each answer with, and what it says to each line of what a command is given.
_PROMPT, _MORE = b"\n> ", b"+ "
_SOCKET = re.compile(r"^\s+stats socket (\S+) ", re.MULTILINE)


class AdminSocket:
    """A conversation with one HAProxy, which goes on when another one takes over from it.

    HAProxy ends it where it is asked nothing for ten seconds. Every method raises OSError, the
    constructor if none listens at the path.
    """

    def __init__(self, path: Path) -> None:
        self._connection = socket.socket(socket.AF_UNIX)
        self._connection.settimeout(_TIMEOUT_S)
        try:
            self._connection.connect(str(path))
            self.ask("prompt")  # without it HAProxy hangs up after its first answer
        except OSError:
            self.close()
            raise

    @classmethod
    def of(cls, configuration: str) -> "AdminSocket":
        """Return one with the HAProxy that listens where the text of a configuration says."""
        found = _SOCKET.search(configuration)
        if found is None:
            raise OSError("the configuration names no admin socket")
        return cls(Path(found[1]))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End the conversation."""
        self._connection.close()

    def ask(self, *commands: str) -> str:
        """Return what HAProxy answers to commands, all together."""
        self._connection.sendall(f"{'; '.join(commands)}\n".encode())
        said = b""
        while said.count(_PROMPT) < len(commands):
            more = self._connection.recv(65536)
            if not more:
                raise OSError("HAProxy has ended the conversation")
            said += more
        return said.replace(_PROMPT, b"\n").replace(_MORE, b"").decode()

    def info(self) -> dict[str, str]:
        """Return what HAProxy says of itself: Pid, Jobs and the like."""
        lines = self.ask("show info").splitlines()
        return dict(line.split(": ", 1) for line in lines if ": " in line)

    def entries(self, map_file: Path) -> dict[str, str]:
        """Return what a map has."""
        lines = self.ask(f"show map {map_file}").splitlines()
        return {found[1]: found[2] for line in lines if (found := _ENTRY.match(line))}

    def make(self, map_file: Path, wanted: Mapping[str, str]) -> None:
        """Make a map have what is wanted, what it must not have any more first.

        Raises OSError, too, where HAProxy takes one of the changes amiss.
        """
        has = self.entries(map_file)
        commands = list(_changes(map_file, has, wanted))
        for at in range(0, len(commands), _COMMANDS_AT_ONCE):
            said = self.ask(*commands[at : at + _COMMANDS_AT_ONCE]).strip()
            if said:
                raise OSError(f"HAProxy does not change {map_file}: {said[:200]}")

    def replace_certificate(self, kind: str, file: Path, pem: str) -> str:
        """Have a file of certificates, of the kind `cert` or `ca-file`, be this text from now on.

        Connections that are open keep what they began with. Returns why HAProxy refuses, which then
        keeps what it had; empty if it does not.
        """
        self.ask(f"abort ssl {kind} {file}")  # what somebody may have left half done
        text = "\n".join(line for line in pem.splitlines() if line)  # an empty line would end it
        for command in (f"set ssl {kind} {file} <<\n{text}\n", f"commit ssl {kind} {file}"):
            said = self.ask(command)
            if not _DONE.search(said):
                self.ask(f"abort ssl {kind} {file}")
                return " ".join(said.split())
        return ""

    def settle(self, table: str) -> None:
        """Have the tag gpt0 of each key of a stick table be how many requests it has under way.

        The rules set it as requests come and go. Where responses overlap the last of them cannot
        know that it is, and leaves some.
        """
        for line in self.ask(f"show table {table} data.gpt0 gt 0").splitlines():
            found = _AT_ONCE.match(line)
            if found and found["told"] != found["are"]:
                self.ask(f"set table {table} key {found['key']} data.gpt0 {found['are']}")

    def counts(self, table: str) -> dict[str, int]:
        """Return the counter gpc0 of each key of a stick table."""
        lines = self.ask(f"show table {table}").splitlines()
        return {found[1]: int(found[2]) for line in lines if (found := _ROW.match(line))}


def _changes(map_file: Path, has: Mapping[str, str], wanted: Mapping[str, str]) -> Iterator[str]:
    yield from (f"del map {map_file} {key}" for key in has if key not in wanted)
    for key, value in wanted.items():
        if key not in has:
            yield f"add map {map_file} {key} {value}"
        elif has[key] != value:
            yield f"set map {map_file} {key} {value}"
