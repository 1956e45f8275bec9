"""Has HAProxy's certificates be what the files of `strata.yaml` are, while it runs.

What HAProxy has taken is written into its own files, which it begins with. What cannot be used, or
what HAProxy refuses, leaves those as they are: a renewal that goes wrong costs a line of log and a
metric, and no connection.
"""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from serve.edge.haproxy.admin_socket import AdminSocket
from serve.edge.haproxy.agent_metrics import AgentMetrics
from serve.edge.haproxy.settings import Tls
from serve.edge.haproxy.transport import certificate_file, client_ca_file, why_file
from serve.edge.haproxy.whole_files import write_whole
from serve.errors import ConfigError

log = logging.getLogger("strata.edge")


@dataclass(frozen=True, slots=True)
class _Kept:
    """One of HAProxy's own files, and what its admin socket calls such files."""

    name: str
    kind: str
    file: Callable[[Path], Path]


_SERVER = _Kept("server", "cert", certificate_file)
_CLIENT_CA = _Kept("client_ca", "ca-file", client_ca_file)


class CertificateKeeper:
    """Reads the files (`look`), and tells an HAProxy that runs (`tell`)."""

    def __init__(self, configuration: Path, metrics: AgentMetrics) -> None:
        self._configuration = configuration
        self._metrics = metrics
        self._wanted: dict[_Kept, str] = {}
        self._told: dict[_Kept, tuple[int, str]] = {}
        self._refused: dict[_Kept, str] = {}
        self._said: dict[_Kept, str] = {}

    def look(self, tls: Tls | None, now: datetime) -> None:
        """Read what there is; write it where HAProxy has nothing to begin with yet."""
        if tls is None:
            self._forget()
            return
        # Brings cryptography, 8 MB of memory that an agent without TLS need not take.
        from serve.edge.haproxy.certificates import expires, read_certificate, read_client_ca

        readers = {_SERVER: read_certificate}
        if tls.client_ca is not None:
            readers[_CLIENT_CA] = read_client_ca
        else:
            self._drop(_CLIENT_CA)
        for kept, read in readers.items():
            file = kept.file(self._configuration)
            try:
                self._wanted[kept] = read(tls, now)
            except ConfigError as err:
                self._complain(kept, str(err))
                if not file.exists():
                    write_whole(why_file(file), str(err))
            else:
                self._keep(kept, file)
            if file.exists():
                in_use = file.read_text(encoding="utf-8")
                self._metrics.show_certificate(kept.name, expires(in_use))

    def _forget(self) -> None:
        for kept in (_SERVER, _CLIENT_CA):
            self._drop(kept)

    def _drop(self, kept: _Kept) -> None:
        """Look after a file no more: HAProxy has no line with it from its next start on."""
        why_file(kept.file(self._configuration)).unlink(missing_ok=True)
        self._refused.pop(kept, None)
        was_wanted, was_bad = self._wanted.pop(kept, None), self._said.pop(kept, None)
        if was_wanted or was_bad:
            self._metrics.certificate_is_good(kept.name, True)

    def _keep(self, kept: _Kept, file: Path) -> None:
        why_file(file).unlink(missing_ok=True)
        if not file.exists():
            write_whole(file, self._wanted[kept])
        if self._refused.get(kept) != self._wanted[kept]:
            self._metrics.certificate_is_good(kept.name, True)
            self._said.pop(kept, None)

    def tell(self, socket: AdminSocket, pid: int) -> None:
        """Have HAProxy take what it has not yet. Raises OSError if none answers."""
        for kept, wanted in self._wanted.items():
            if self._told.get(kept) == (pid, wanted):
                continue
            file = kept.file(self._configuration)
            refusal = socket.replace_certificate(kept.kind, file, wanted)
            self._told[kept] = pid, wanted
            if refusal:
                self._refused[kept] = wanted
                self._complain(kept, f"HAProxy refuses what is new: {refusal}")
                continue
            self._refused.pop(kept, None)
            if file.read_text(encoding="utf-8") != wanted:
                write_whole(file, wanted)
                log.info("the new %s is in use", kept.name)

    def _complain(self, kept: _Kept, said: str) -> None:
        self._metrics.certificate_is_good(kept.name, False)
        if self._said.get(kept) != said:
            log.error("the certificates stay as they were: %s", said)
        self._said[kept] = said
