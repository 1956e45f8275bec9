"""Has HAProxy verify tokens by the keys that their issuer has now, read every few minutes.

What was read last is kept in a file beside HAProxy's configuration and counts until another set is
read whole: an issuer that is down, slow or has no keys costs a metric and a line of log. HAProxy
reads files of keys when it starts only, so a new one needs a start; one that is gone does not count
any more at once, because the map has it no longer.
"""

import hashlib
import logging
import random
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from serve.edge.haproxy.agent_metrics import AgentMetrics
from serve.edge.haproxy.jwks_fetch import Signers, read_signers
from serve.edge.haproxy.settings import Jwt
from serve.edge.haproxy.whole_files import write_whole

log = logging.getLogger("strata.edge")

_EACH_S = 300.0
_SPREAD = 0.1  # so that nodes do not all ask at once
# After one that failed, and at the soonest after tokens of keys that are not known here.
_AGAIN_S = 30.0
_FIRST_S = 5.0
_LOOK_AGAIN_S = 0.05
_NO_KID = "-"


def signers_file(configuration: Path) -> Path:
    """Return the file of what was read last."""
    return configuration.with_name(f"{configuration.name}.signers.json")


def key_file(configuration: Path, pem: str) -> Path:
    """Return the file in which HAProxy finds a key; another key has another one."""
    return configuration.with_name(f"signer-{hashlib.sha256(pem.encode()).hexdigest()[:32]}.pem")


class JwksKeeper:
    """Reads the keys (`look`), and says what HAProxy's map is to have (`entries`)."""

    def __init__(
        self,
        configuration: Path,
        metrics: AgentMetrics,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._configuration = configuration
        self._metrics = metrics
        self._clock = clock
        self._file = signers_file(configuration)
        self._signers: Signers | None = None
        self._jwt: Jwt | None = None
        self._is_first = True
        self._fetching: subprocess.Popen[str] | None = None
        self._began = self._due = clock()
        self._seen: object = None
        self._unknown: object = None
        self._said = ""

    def look(self, jwt: Jwt | None) -> None:
        """Take what was read, and have it read again where that is due. Waits for no issuer.

        But where HAProxy would begin without any key: it is given some seconds then.
        """
        if jwt != self._jwt or self._is_first:
            self._begin(jwt)
        if jwt is None:
            return
        self._take(jwt)
        if self._fetching is None and (self._clock() >= self._due or self._has_changed(jwt)):
            self._fetch(jwt)

    def entries(self) -> dict[str, str]:
        """Return the file of each key by the hash of its id; that of an only key by none, too."""
        if self._signers is None:
            return {}
        files = {key.kid: str(key_file(self._configuration, key.pem)) for key in self._signers.keys}
        found = {_hash(f"={kid}"): file for kid, file in files.items() if kid is not None}
        if len(self._signers.keys) == 1:
            found |= {_hash(_NO_KID): file for file in files.values()}
        return found

    def hear(self, unknown: int) -> None:
        """Have the keys read soon if there were more tokens of keys that are not known here."""
        if self._unknown is not None and unknown != self._unknown and self._fetching is None:
            self._due = min(self._due, self._began + _AGAIN_S)
        self._unknown = unknown

    def _begin(self, jwt: Jwt | None) -> None:
        """Go by another issuer: of the last one's keys none counts any more."""
        self._jwt, self._seen, self._due = jwt, None, self._clock()
        self._end()
        before = read_signers(self._file)
        self._signers = before if jwt is not None and before and before.are_of(jwt) else None
        self._show()
        if jwt is None:
            self._metrics.jwks_is_good(True)
        elif self._signers is None:
            self._fetch(jwt)
            if self._is_first:
                self._wait(jwt)
        self._is_first = False

    def _wait(self, jwt: Jwt) -> None:
        until = time.monotonic() + _FIRST_S
        while self._fetching is not None and time.monotonic() < until:
            time.sleep(_LOOK_AGAIN_S)
            self._take(jwt)

    def _fetch(self, jwt: Jwt) -> None:
        self._began = self._clock()
        self._seen = _stamp(jwt)
        command = [sys.executable, "-m", "serve.edge.haproxy.jwks_fetch", str(self._file)]
        self._fetching = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)

    def _take(self, jwt: Jwt) -> None:
        """Take what a process has read that is at its end."""
        if self._fetching is None or self._fetching.poll() is None:
            return
        _, said = self._fetching.communicate()
        failed, self._fetching = self._fetching.returncode, None
        found = None if failed else read_signers(self._file)
        if found is None or not found.are_of(jwt):
            self._due = self._began + _AGAIN_S
            self._complain(said.strip() or f"{jwt.jwks} cannot be used: it is too slow")
            return
        self._due = self._began + _EACH_S * random.uniform(1 - _SPREAD, 1 + _SPREAD)
        self._keep(found)

    def _keep(self, found: Signers) -> None:
        before = self._files()
        if found != self._signers:
            log.info("the issuer's keys: %s", [key.kid for key in found.keys])
        self._signers, self._said = found, ""
        self._metrics.jwks_is_good(True)
        self._show()
        # One that starts at this moment may read those of before.
        for file in set(self._configuration.parent.glob("signer-*.pem")) - before - self._files():
            file.unlink(missing_ok=True)

    def _show(self) -> None:
        """Write the files of the keys, and say how many and how old they are."""
        keys = self._signers.keys if self._signers else ()
        for key in keys:
            file = key_file(self._configuration, key.pem)
            if not file.exists():
                write_whole(file, key.pem)
        with suppress(FileNotFoundError):
            self._metrics.show_signers(len(keys), self._file.stat().st_mtime)

    def _files(self) -> set[Path]:
        keys = self._signers.keys if self._signers else ()
        return {key_file(self._configuration, key.pem) for key in keys}

    def _complain(self, said: str) -> None:
        self._metrics.jwks_is_good(False)
        if said != self._said:
            log.error("the keys that tokens are verified by stay as they were: %s", said)
        self._said = said

    def _has_changed(self, jwt: Jwt) -> bool:
        return self._seen != _stamp(jwt)

    def _end(self) -> None:
        if self._fetching is not None:
            self._fetching.kill()
            self._fetching.communicate()
            self._fetching = None


def _stamp(jwt: Jwt) -> object:
    """Return what tells a file from the one that was there before; a URL has nothing of it."""
    try:
        status = Path(jwt.jwks).stat()
    except OSError:
        return None
    return status.st_ino, status.st_size, status.st_mtime_ns


def _hash(key_id: str) -> str:
    """Return what jwt.cfg makes of what jwt.lua says."""
    return hashlib.sha256(key_id.encode()).hexdigest().upper()
