"""HAProxy's admin socket: its maps, tables and certificates while it runs.

Source: HAProxy's management guide, "9.3. Unix Socket commands".
"""

import re
import socket
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Self

_TIMEOUT_S = 10.0
_BRIEFLY_S = 1.0
_ONE_BY_ONE = 20  # changes of a map; of more it is made anew
_ENTRIES_AT_ONCE = 200  # a turn of HAProxy's event loop, some milliseconds
_VERSION = re.compile(r"^New version created: (\d+)$", re.MULTILINE)
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

    HAProxy ends it where it is asked nothing for some seconds. Every method raises OSError, the
    constructor if none listens at the path; after a TimeoutError the conversation goes on with the
    next question, after any other it is over.
    """

    def __init__(self, path: Path) -> None:
        self._heard, self._due = bytearray(), 0  # of answers, and how many are to come
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

    def be_brief(self) -> None:
        """Wait for a second, no more, for each answer from now on."""
        self._connection.settimeout(_BRIEFLY_S)

    def ask(self, *commands: str) -> str:
        """Return what HAProxy answers to commands, all together."""
        try:
            self._connection.sendall(f"{'; '.join(commands)}\n".encode())
            self._due += len(commands)
            while not self._heard.endswith(_PROMPT) or self._heard.count(_PROMPT) < self._due:
                more = self._connection.recv(65536)
                if not more:
                    raise OSError("HAProxy has ended the conversation")
                self._heard += more
        except TimeoutError:
            raise
        except OSError:
            self.close()
            raise
        answers = bytes(self._heard).split(_PROMPT)
        late = self._due - len(commands)  # answers to questions whose time was over
        self._heard, self._due = bytearray(), 0
        return b"\n".join(answers[late:]).replace(_MORE, b"").decode()

    def info(self) -> dict[str, str]:
        """Return what HAProxy says of itself: Pid, Jobs and the like."""
        lines = self.ask("show info").splitlines()
        said = dict(line.split(": ", 1) for line in lines if ": " in line)
        if not {"Pid", "Jobs"} <= said.keys():
            raise OSError("HAProxy does not say which process it is")
        return said

    def entries(self, map_file: Path) -> dict[str, str]:
        """Return what a map has."""
        lines = self.ask(f"show map {map_file}").splitlines()
        return {found[1]: found[2] for line in lines if (found := _ENTRY.match(line))}

    def make(self, map_file: Path, wanted: Mapping[str, str], has: Mapping[str, str]) -> None:
        """Make a map that `has` these entries have what is wanted.

        What it must not have any more goes first. Raises OSError, too, where HAProxy takes one of
        the changes amiss.
        """
        commands = list(_changes(map_file, has, wanted))
        if len(commands) > _ONE_BY_ONE:
            self._replace(map_file, wanted)
        elif commands:
            self._change(map_file, *commands)

    def _replace(self, map_file: Path, wanted: Mapping[str, str]) -> None:
        """Put another map in the place of one, all at once.

        To set an entry takes HAProxy as long as to look through all of them, and it does nothing
        else meanwhile.
        """
        said = self.ask(f"prepare map {map_file}")
        found = _VERSION.search(said)
        if found is None:
            raise _unchanged(map_file, said)
        version = f"@{found[1]} {map_file}"
        lines = [f"{key} {value}" for key, value in wanted.items()]
        for at in range(0, len(lines), _ENTRIES_AT_ONCE):
            entries = "\n".join(lines[at : at + _ENTRIES_AT_ONCE])
            self._change(map_file, f"add map {version} <<\n{entries}\n")
        self._change(map_file, f"commit map {version}")

    def _change(self, map_file: Path, *commands: str) -> None:
        said = self.ask(*commands).strip()
        if said:
            raise _unchanged(map_file, said)

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

        The rules set it as requests come and responses begin. Where these overlap the last of them
        cannot know that it is, and leaves some; and one that takes long to send is not counted.
        """
        for some in ("gpt0", "conn_cur"):
            for line in self.ask(f"show table {table} data.{some} gt 0").splitlines():
                found = _AT_ONCE.match(line)
                if found and found["told"] != found["are"]:
                    self.ask(f"set table {table} key {found['key']} data.gpt0 {found['are']}")

    def counts(self, table: str) -> dict[str, int]:
        """Return the counter gpc0 of each key of a stick table."""
        lines = self.ask(f"show table {table}").splitlines()
        return {found[1]: int(found[2]) for line in lines if (found := _ROW.match(line))}


def _unchanged(map_file: Path, said: str) -> OSError:
    return OSError(f"HAProxy does not change {map_file}: {said[:200]}")


def _changes(map_file: Path, has: Mapping[str, str], wanted: Mapping[str, str]) -> Iterator[str]:
    yield from (f"del map {map_file} {key}" for key in has if key not in wanted)
    for key, value in wanted.items():
        if key not in has:
            yield f"add map {map_file} {key} {value}"
        elif has[key] != value:
            yield f"set map {map_file} {key} {value}"
