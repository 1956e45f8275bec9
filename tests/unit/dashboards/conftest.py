"""A Prometheus that answers every query with what a test gives it."""

from urllib.parse import parse_qs

import pytest
from dashboards.query import Moment, Prometheus

from tests.loopback import serving

END, RANGE_S = 1_700_000_000.0, 1800.0


class FakePrometheus:
    """Keeps what it was asked; `series` are labels and a value that does not change."""

    def __init__(self):
        self.series = [({}, 1.0)]
        self.asked = []
        self.status = 200
        self.url = ""

    def respond(self, asked):
        form = {key: values[0] for key, values in parse_qs(asked.body.decode()).items()}
        self.asked.append(form)
        return self.status, {"data": {"result": self.answer(form)}}

    def answer(self, form):
        if "start" not in form:
            return [{"metric": labels, "value": [END, str(v)]} for labels, v in self.series]
        times = [float(form["start"]), float(form["end"])]
        return [
            {"metric": labels, "values": [[time, str(v)] for time in times]}
            for labels, v in self.series
        ]


@pytest.fixture
def prometheus():
    fake = FakePrometheus()
    with serving(fake.respond) as port:
        fake.url = f"http://127.0.0.1:{port}"
        yield fake


@pytest.fixture
def moment(prometheus):
    return Moment(Prometheus(prometheus.url), {"model": "digits"}, END, RANGE_S)
