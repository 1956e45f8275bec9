"""A recorder that keeps what it is told, for tests of those that record."""

from types import SimpleNamespace

from serve.telemetry.metrics import METRICS


class FakeRecorder:
    """Keeps sums and gauges by name and tags, in place of those that go to Ray."""

    def __init__(self) -> None:
        self.sums, self.gauges, self.observed = {}, {}, []

    def sum(self, name, **tags):
        assert {"model", *tags} == set(METRICS[name].tags)
        key = (name, *sorted(tags.items()))
        return self.sums.setdefault(key, _Sum())

    def count(self, name, amount=1, **tags):
        self.sum(name, **tags).add(amount)

    def gauge(self, name, value, **tags):
        assert {"model", *tags} == set(METRICS[name].tags)
        self.gauges[(name, *sorted(tags.items()))] = value

    def observe(self, name, value, **tags):
        self.observed.append((name, value))

    def distribution(self, name, **tags):
        assert {"model", *tags} == set(METRICS[name].tags)
        return SimpleNamespace(add=lambda value: self.observe(name, value, **tags))

    def retain(self, versions):
        self.retained = set(versions)

    def value(self, name, **tags):
        """Return the sum of all sums of a name that have these tags; None if there are none."""
        found = [
            total.value
            for (known, *pairs), total in self.sums.items()
            if known == name and tags.items() <= dict(pairs).items()
        ]
        return sum(found) if found else None

    def values(self, tag):
        return {dict(pairs)[tag] for _, *pairs in self.sums if tag in dict(pairs)}


class _Sum:
    value = 0.0

    def add(self, amount=1):
        self.value += amount
