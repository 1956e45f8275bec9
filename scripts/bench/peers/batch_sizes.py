"""How many rows the engine's calls had on average, from the counters of Strata's replicas.

What the engine itself costs a row depends on it.
"""

import time
from dataclasses import dataclass

import requests
from prometheus_client.parser import text_string_to_metric_families

_ROWS, _BATCHES = "ray_model_batch_rows_sum", "ray_model_batch_rows_count"
_POLL_S = 0.5
_PATIENCE_S = 25.0  # Ray brings figures from its processes every ten seconds


@dataclass(frozen=True, slots=True)
class Totals:
    """Rows and batches since the replica started."""

    rows: float
    batches: float


class BatchSizes:
    """Follows a platform's counters from row to row of the measurement."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._known_rows = 0
        self._last = Totals(0.0, 0.0)

    def asked(self, rows: int) -> None:
        """Take note of rows that the platform has answered."""
        self._known_rows += rows

    def mean_since_last(self) -> float | None:
        """Return the mean rows of the batches since the last call, None if they do not arrive."""
        before = self._last
        deadline = time.monotonic() + _PATIENCE_S
        while (now := read(self._url)) is None or now.rows < self._known_rows:
            if time.monotonic() > deadline:
                return None
            time.sleep(_POLL_S)
        self._last = now
        batches = now.batches - before.batches
        return (now.rows - before.rows) / batches if batches else None


def read(url: str) -> Totals | None:
    """Return the totals of all replicas, None if the metrics cannot be read."""
    try:
        response = requests.get(url, timeout=10)
        response.raise_for_status()
    except requests.RequestException:
        return None
    return totals(response.text)


def totals(text: str) -> Totals:
    """Return the totals in metrics as Prometheus reads them."""
    sums = {_ROWS: 0.0, _BATCHES: 0.0}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            if sample.name in sums:  # Ray gives each of them a family of its own
                sums[sample.name] += sample.value
    return Totals(sums[_ROWS], sums[_BATCHES])
