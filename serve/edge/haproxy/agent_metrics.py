"""The metrics of the edge's agent, which Prometheus reads through HAProxy's metrics port.

They are no metrics of Ray's: neither HAProxy nor its agent is a process of Ray's.
"""

import socketserver
import threading
from bisect import bisect_right
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Literal

from prometheus_client import CollectorRegistry, Counter, Gauge, MetricsHandler

from serve.edge.haproxy.access import metrics_socket

_SOON = timedelta(days=7)
# A tenant that nobody has to prove may have any name.
_MOST_SERIES = 1000
_OTHER = "other"


@dataclass(frozen=True, slots=True)
class EdgeMetric:
    """A counter (without its `_total`) or gauge, and what its page in docs/metrics.md says."""

    kind: Literal["counter", "gauge"]
    help: str
    tags: tuple[str, ...] = ()


METRICS = {
    "strata_access_refusals": EdgeMetric(
        "counter", "Requests that HAProxy refused, by why and by tenant.", ("reason", "tenant")
    ),
    "strata_access_keys": EdgeMetric(
        "gauge",
        "API keys by state: valid, expiring (those of them that are over within 7 days), expired.",
        ("state",),
    ),
    "strata_access_keys_readable": EdgeMetric(
        "gauge",
        "1 if the file of keys could be read when it was last looked at, or there is to be none.",
    ),
    "strata_access_jwks_readable": EdgeMetric(
        "gauge",
        "1 if the keys of the issuer of tokens could be read when they were last asked for, or "
        "there is to be none.",
    ),
    "strata_access_jwks_keys": EdgeMetric(
        "gauge", "Keys of the issuer of tokens that HAProxy verifies by; with 0 no token counts."
    ),
    "strata_access_jwks_read_timestamp_seconds": EdgeMetric(
        "gauge", "When the keys that HAProxy verifies tokens by were read; 0 for never."
    ),
    "strata_edge_settings_readable": EdgeMetric(
        "gauge", "1 if the edge's settings could be read when they were last looked at."
    ),
    "strata_edge_certificate_readable": EdgeMetric(
        "gauge",
        "1 if the files of a certificate could be used when they were last looked at.",
        ("certificate",),
    ),
    "strata_edge_certificate_expires_timestamp_seconds": EdgeMetric(
        "gauge", "When the certificate that HAProxy uses is over.", ("certificate",)
    ),
}


def exported_names() -> list[str]:
    """Return the names under which Prometheus finds them, of which no more is worth keeping."""
    return [f"{name}_total" if each.kind == "counter" else name for name, each in METRICS.items()]


class AgentMetrics:
    """What the agent knows of keys, of certificates and of requests that were refused."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._refusals = self._counter("strata_access_refusals")
        self._keys = self._gauge("strata_access_keys")
        self._file_good = self._gauge("strata_access_keys_readable")
        self._jwks_good = self._gauge("strata_access_jwks_readable")
        self._signers = self._gauge("strata_access_jwks_keys")
        self._signers_read = self._gauge("strata_access_jwks_read_timestamp_seconds")
        self._settings_good = self._gauge("strata_edge_settings_readable")
        self._certificate_good = self._gauge("strata_edge_certificate_readable")
        self._certificate_expires = self._gauge("strata_edge_certificate_expires_timestamp_seconds")
        self._pid: int | None = None
        self._counted: dict[str, int] = {}
        self._series: set[tuple[str, str]] = set()

    def _counter(self, name: str) -> Counter:
        return Counter(name, METRICS[name].help, METRICS[name].tags, registry=self.registry)

    def _gauge(self, name: str) -> Gauge:
        return Gauge(name, METRICS[name].help, METRICS[name].tags, registry=self.registry)

    def keys_are_good(self, good: bool) -> None:
        """Say whether the file of keys could be read."""
        self._file_good.set(good)

    def jwks_is_good(self, good: bool) -> None:
        """Say whether the issuer's keys could be read."""
        self._jwks_good.set(good)

    def show_signers(self, number: int, read: float) -> None:
        """Say how many of the issuer's keys there are, and when they were read."""
        self._signers.set(number)
        self._signers_read.set(read)

    def settings_are_good(self, good: bool) -> None:
        """Say whether the settings could be read."""
        self._settings_good.set(good)

    def certificate_is_good(self, name: str, good: bool) -> None:
        """Say whether the files of a certificate could be used."""
        self._certificate_good.labels(name).set(good)

    def show_certificate(self, name: str, expires: datetime) -> None:
        """Say when the certificate that is in use is over."""
        self._certificate_expires.labels(name).set(expires.timestamp())

    def show_keys(self, number: int, ends: Sequence[datetime], now: datetime) -> None:
        """Count the keys that count, that will soon be over, and that are over.

        `ends` are the times, in order, at which those of the keys are over that ever are.
        """
        over, soon = bisect_right(ends, now), bisect_right(ends, now + _SOON)
        self._keys.labels("valid").set(number - over)
        self._keys.labels("expiring").set(soon - over)
        self._keys.labels("expired").set(over)

    def show_refusals(self, pid: int, counts: Mapping[str, int]) -> None:
        """Add what a process of HAProxy refused since it was last asked; `reason|tenant` counts."""
        if pid != self._pid:
            self._pid, self._counted = pid, {}
        for name, count in counts.items():
            reason, _, tenant = name.partition("|")
            before = self._counted.get(name, 0)
            # A row that HAProxy has dropped meanwhile begins anew.
            more = count - before if count >= before else count
            if more > 0:
                self._refusals.labels(*self._bounded(reason, tenant)).inc(more)
        self._counted = dict(counts)

    def _bounded(self, reason: str, tenant: str) -> tuple[str, str]:
        if (reason, tenant) in self._series or len(self._series) < _MOST_SERIES:
            self._series.add((reason, tenant))
            return reason, tenant
        return reason, _OTHER


class _Server(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
    daemon_threads = True


@contextmanager
def serve_metrics(metrics: AgentMetrics, configuration: Path) -> Iterator[None]:
    """Answer at the socket that HAProxy's configuration has for it."""
    path = metrics_socket(configuration)
    path.unlink(missing_ok=True)
    with _Server(str(path), MetricsHandler.factory(metrics.registry)) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield
        server.shutdown()
