"""The edge's agent: beside each HAProxy, a process that keeps it up to date on who may how much.

Once a second it looks at the file of keys, the certificates and the settings. What changed goes
into files of HAProxy's own, which a restart begins with, and through the admin socket into the one
that runs: nothing is started anew and no connection is dropped. A file that cannot be read, or is
not whole, leaves the last keys and certificates that were; metrics say so. What needs other lines
of configuration has Ray start HAProxy anew, which is asked of the gateway.
"""

import logging
import math
import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path

import requests

from serve.edge.haproxy import grants, tokens
from serve.edge.haproxy.access import REFUSED, Maps, shared_tables
from serve.edge.haproxy.admin_socket import AdminSocket
from serve.edge.haproxy.agent_metrics import AgentMetrics, serve_metrics
from serve.edge.haproxy.agent_start import ready_file
from serve.edge.haproxy.certificate_keeper import CertificateKeeper
from serve.edge.haproxy.configuration import gateway_addresses, is_whole
from serve.edge.haproxy.jwks_keeper import JwksKeeper
from serve.edge.haproxy.map_files import entries_in, write_entries
from serve.edge.haproxy.processes import Processes
from serve.edge.haproxy.settings import SECRET_VARIABLE, Jwt, read_settings
from serve.edge.keys import Key, parse_keys
from serve.edge.routes import EDGE_CHANGED
from serve.errors import ConfigError

log = logging.getLogger("strata.edge")

_Wanted = dict[Path, dict[str, str]]  # the entries of each map

_LOOK_EACH_S = 1.0
_MEET_EACH_S = 0.05
_STARTS_WITHIN_S = 30.0
_LAST_S = 60.0  # without an HAProxy
# To connect, and to answer: a node that is lost does neither, and keys wait meanwhile.
_GATEWAY_TIMEOUTS_S = (1.0, 5.0)
# That a start takes at most, before it is asked for again.
_START_S = 10.0


class Agent:
    """What the process does; `look` is one round of it."""

    def __init__(self, configuration: Path, metrics: AgentMetrics) -> None:
        self._configuration = configuration
        self._maps = Maps.beside(configuration)
        self._metrics = metrics
        self._certificates = CertificateKeeper(configuration, metrics)
        self._settings = read_settings()
        self._signers = JwksKeeper(configuration, metrics)
        self._tls, self._jwt = self._settings.tls, self._settings.jwt
        self._keys: tuple[Key, ...] = ()
        self._ends: list[datetime] = []
        self._keys_seen: object = None
        # What the one before this agent wrote, until the keys can be read.
        self._keys_before: dict[str, str] | None = entries_in(self._maps.keys)
        self._said = ""
        self._asked_for_start = -math.inf
        self._pid = 0
        self._made: _Wanted = {}
        self._made_of: object = None
        self._written: dict[Path, dict[str, str]] = {}
        self._processes = Processes()
        self._pushed: dict[int, _Wanted] = {}
        self._issuers: dict[int, Jwt | None] = {}  # by the pids of HAProxys
        self._marks: dict[int, str] = {}
        self._heard = time.monotonic()

    def look(self) -> None:
        """Read what there is, write what changed, and tell the HAProxy that runs."""
        self._look_at_settings()
        self._look_at_keys()
        with self._whatever_the_disk_says():
            self._certificates.look(self._tls, datetime.now(UTC))
        with self._whatever_the_disk_says():
            self._signers.look(self._jwt)
        wanted = self._wanted()
        with self._whatever_the_disk_says():
            self._write(wanted)
        self._have_keys_read(wanted.get(self._maps.signers, {}))
        with suppress(OSError):  # none runs yet, or one takes over from another
            self._tell_haproxy(wanted)
        self._metrics.show_keys(len(self._keys), self._ends, datetime.now(UTC))

    def is_needed(self) -> bool:
        """Tell whether there is something to look after, and an HAProxy or soon will be."""
        has_haproxy = time.monotonic() < self._heard + _LAST_S or _is_alive(self._pid)
        return self._settings.needs_agent and self._configuration.exists() and has_haproxy

    def wait(self) -> None:
        """Wait for the next round; meet each HAProxy that is started meanwhile.

        One that was not met while it listened can be told nothing once it is replaced. Each is
        started for a configuration that was written for it.
        """
        until = time.monotonic() + _LOOK_EACH_S
        while (left := until - time.monotonic()) > 0:
            time.sleep(min(left, _MEET_EACH_S))
            with suppress(OSError):
                if time.time() - self._configuration.stat().st_mtime < _STARTS_WITHIN_S:
                    self._meet()

    def _look_at_settings(self) -> None:
        try:
            settings = read_settings()
        except ConfigError as err:
            self._metrics.settings_are_good(False)
            self._say(f"the settings stay as they are: {err}")
            return
        self._metrics.settings_are_good(True)
        # HAProxy cannot be started anew without its files.
        self._tls, self._jwt = settings.tls, settings.jwt
        if settings.lines != self._settings.lines and not self._ask_for_a_restart():
            return  # the next round tries again
        self._settings = settings

    def _look_at_keys(self) -> None:
        file = self._settings.keys
        if file is None:
            self._keys, self._ends, self._keys_seen, self._keys_before = (), [], None, None
            self._metrics.keys_are_good(True)
            return
        try:
            status = file.stat()
            seen = (file, status.st_ino, status.st_size, status.st_mtime_ns)
            if seen == self._keys_seen:
                return
            keys = parse_keys(file.read_bytes())
        except (OSError, ConfigError) as err:
            self._metrics.keys_are_good(False)
            if self._keys_seen != str(err):
                log.error("the keys stay as they were, %s cannot be used: %s", file, err)
            self._keys_seen = str(err)
            return
        self._log_changes(keys)
        self._metrics.keys_are_good(True)
        self._keys, self._keys_seen, self._keys_before = keys, seen, None
        self._ends = sorted(key.expires for key in keys if key.expires)

    @contextmanager
    def _whatever_the_disk_says(self) -> Iterator[None]:
        """Go on where a file cannot be written: the HAProxy that runs needs none to be told."""
        try:
            yield
        except OSError as err:
            self._say(f"what HAProxy begins with stays as it was: {err}")

    def _say(self, problem: str) -> None:
        """Log a problem, once as long as it lasts."""
        if problem != self._said:
            log.error("%s", problem)
        self._said = problem

    def _log_changes(self, keys: tuple[Key, ...]) -> None:
        """Say which keys came and went; the ids are no secrets."""
        before, after = {key.id for key in self._keys}, {key.id for key in keys}
        for word, ids in (("new", after - before), ("revoked", before - after)):
            for name in sorted(ids):
                log.info("key %s: %s", name, word)

    def _wanted(self) -> _Wanted:
        """Return what each map is to have: the same object as long as nothing changes."""
        made_of = (self._settings, self._keys, self._keys_before, self._signers.entries())
        if self._made_of != made_of:
            self._made_of, self._made = made_of, self._make_maps()
        return self._made

    def _make_maps(self) -> _Wanted:
        if not self._settings.has_access:
            return {}
        wanted = {self._maps.quotas: grants.of_quotas(self._settings.quotas)}
        # An HAProxy that still asks for keys, when it need not any more, goes on with those it has.
        if self._settings.asks_who:
            keys = grants.of_keys(self._keys, self._settings.own_key)
            wanted[self._maps.keys] = {**(self._keys_before or {}), **keys}
        if self._settings.jwt is not None:  # last: an HAProxy from before may not have this map
            wanted[self._maps.signers] = self._signers.entries()
        return wanted

    def _write(self, wanted: Mapping[Path, dict[str, str]]) -> None:
        for file, entries in wanted.items():
            if self._written.get(file) is not entries:
                write_entries(file, entries)
                self._written[file] = entries

    def _meet(self) -> tuple[str, int, AdminSocket]:
        """Return the configuration's text and the HAProxy that listens; note its issuer."""
        text = self._configuration.read_text(encoding="utf-8")
        pid, socket = self._processes.listening(text)
        self._issuers.setdefault(pid, self._settings.jwt)
        return text, pid, socket

    def _tell_haproxy(self, wanted: _Wanted) -> None:
        self._forget_those_that_ended()
        text, pid, socket = self._meet()
        self._pid, self._heard = pid, time.monotonic()
        self._have_settings_taken(pid, socket)
        if self._settings.tls is not None:
            self._certificates.tell(socket, pid)
        if not self._settings.has_access:
            return
        self._push(pid, socket, wanted)
        for table in shared_tables(text):
            socket.settle(table)
        refused = socket.counts(REFUSED)
        self._metrics.show_refusals(pid, refused)
        self._signers.hear(refused.get(tokens.UNKNOWN_SIGNER, 0))
        self._tell_replaced(wanted)

    def _forget_those_that_ended(self) -> None:
        for pid in [each for each in self._issuers if not _is_alive(each)]:
            del self._issuers[pid]
            self._pushed.pop(pid, None)
            self._marks.pop(pid, None)

    def _tell_replaced(self, wanted: _Wanted) -> None:
        # Whose tokens one takes, and what they have to say, is in its lines: those of before.
        of_no_issuer = {**wanted, self._maps.signers: {}}
        for pid, socket in self._processes.replaced():
            has_the_issuer = self._issuers.get(pid) == self._settings.jwt
            with suppress(OSError):  # it ends, takes long, or began without these maps
                self._push(pid, socket, wanted if has_the_issuer else of_no_issuer)

    def _push(self, pid: int, socket: AdminSocket, wanted: _Wanted) -> None:
        before = self._pushed.pop(pid, {})  # what it has is not known where a change goes wrong
        for file, entries in wanted.items():
            has = before.get(file)
            if has is not entries:
                socket.make(file, entries, socket.entries(file) if has is None else has)
        self._pushed[pid] = wanted

    def _have_settings_taken(self, pid: int, socket: AdminSocket) -> None:
        """Have HAProxy started anew where it has begun with other settings.

        Who asked before may have been another agent, and Ray may have failed to start it.
        """
        if pid not in self._marks:
            self._marks[pid] = socket.info().get("description", "")
        if self._marks[pid] != self._settings.mark and not self._is_being_started():
            self._ask_for_a_restart()

    def _is_being_started(self) -> bool:
        return time.monotonic() < self._asked_for_start + _START_S

    def _have_keys_read(self, key_files: Mapping[str, str]) -> None:
        """Have HAProxy started anew where there are keys of the issuer that it has not read."""
        if not key_files or self._is_being_started():
            return
        with suppress(OSError):  # the configuration is gone
            text = self._configuration.read_text(encoding="utf-8")
            if is_whole(text) and not tokens.reads(text, key_files.values()):
                self._ask_for_a_restart()

    def _ask_for_a_restart(self) -> bool:
        """Have this HAProxy started anew with the settings as they are; tell whether it worked."""
        self._asked_for_start = time.monotonic()
        headers = {"X-Strata-Edge": os.environ.get(SECRET_VARIABLE, "")}
        node = self._configuration.parent.name  # Ray has a folder for each
        with requests.Session() as session:
            session.trust_env = False  # no proxy on the way to a replica is told the edge's secret
            for address in gateway_addresses(self._configuration.read_text(encoding="utf-8")):
                with suppress(requests.RequestException):
                    url = f"http://{address}{EDGE_CHANGED}"
                    answer = session.post(url, node, headers=headers, timeout=_GATEWAY_TIMEOUTS_S)
                    if answer.ok and answer.json().get("restarted"):
                        return True
        self._say("HAProxy has not the new settings yet: no gateway starts it anew")
        return False


def _is_alive(pid: int) -> bool:
    """Tell whether a process is there, be it one that does not answer."""
    return pid > 0 and Path(f"/proc/{pid}").exists()


def run(configuration: Path) -> None:
    """Do rounds as long as there is an HAProxy with this configuration."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    metrics = AgentMetrics()
    agent = Agent(configuration, metrics)
    agent.look()
    ready_file(configuration).touch()
    with serve_metrics(metrics, configuration):
        while agent.is_needed():
            agent.wait()
            agent.look()
    log.info("there is nothing to look after any more")
