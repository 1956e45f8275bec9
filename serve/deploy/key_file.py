"""The file of API keys on this machine: read, changed as a whole, each change written down.

HAProxy's agent looks at it once a second (edge.haproxy.agent).
"""

import getpass
import json
import os
import socket
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import TextIO

from serve.edge.haproxy.whole_files import write_whole
from serve.edge.keys import Key, dump_keys, parse_keys
from serve.errors import ConfigError
from serve.repository.locks import locked

Change = Callable[[tuple[Key, ...]], tuple[Key, ...]]


class KeyFile:
    """The keys in a file, which need not be there yet."""

    def __init__(self, path: Path) -> None:
        self.path = path.resolve()  # a link is not replaced: others may have one to the same file

    @property
    def place(self) -> str:
        """What it is, for messages."""
        return str(self.path)

    def read(self) -> tuple[Key, ...]:
        """Return the keys. Raises ConfigError for a file that is not one of keys."""
        try:
            return parse_keys(self.path.read_bytes())
        except FileNotFoundError:
            return ()
        except OSError as err:
            raise ConfigError(f"{self.path} cannot be read: {err.strerror}") from err
        except ConfigError as err:
            raise ConfigError(f"{self.path} is no file of keys: {err}") from err

    def change(self, change: Change, action: str, ids: tuple[str, ...]) -> None:
        """Replace the keys by what `change` makes of them, and write down who did what to which.

        Raises ConfigError, and changes nothing then.
        """
        lock = self.path.with_name(f".{self.path.name}.lock")
        try:
            with locked(lock), self._audit_log() as audit_log:
                text = dump_keys(change(self.read()))
                _tell(audit_log, action, ids)
                try:
                    write_whole(self.path, text)
                except BaseException:
                    _tell(audit_log, f"{action} failed", ids)
                    raise
        except OSError as err:
            raise ConfigError(f"{self.path} cannot be changed: {err.strerror}") from err

    def _audit_log(self) -> TextIO:
        """Open the file of what is done; it is told first: what nobody hears of is not done."""
        path = self.path.with_name(f"{self.path.name}.audit.log")
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        return open(handle, "a", encoding="utf-8")


def who() -> str:
    """Return the user, by number where it has no name, as in many containers."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return str(os.getuid())


def _tell(audit_log: TextIO, action: str, ids: tuple[str, ...]) -> None:
    told = {
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
        "who": who(),
        "from": socket.gethostname(),
        "action": action,
        "keys": list(ids),
    }
    audit_log.write(json.dumps(told) + "\n")
    audit_log.flush()
