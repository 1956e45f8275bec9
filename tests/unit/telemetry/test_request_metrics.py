"""Requests are entered under bounded names, and their parts add up to the whole."""

import asyncio
import itertools
import json
import math
from types import SimpleNamespace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from serve.config.schema import Model as ModelConfig
from serve.config.sections import Prices, RayActorOptions, Slo, Tenants, VersionPolicy
from serve.edge.http import HttpRequest
from serve.engines.engine import NoLayers
from serve.errors import InferenceFailed, RepositoryError
from serve.replica.endpoint import ModelEndpoint
from serve.replica.model import Model
from serve.telemetry.metrics import METRICS, TAG_VALUES, series
from serve.telemetry.request_metrics import RequestMetrics
from serve.types import Signature, TensorSpec
from tests.unit.telemetry.fakes import FakeRecorder

_FIGURES = "serving_default"


class Engine:
    """Doubles x in version 1; refuses 13."""

    platform, default_signature, may_block_loop, retraces = "fake", _FIGURES, True, 0
    pads_itself, layers = False, NoLayers()
    name, reason = "tensorflow", "set by a test"
    signatures = {  # noqa: RUF012
        _FIGURES: Signature(
            _FIGURES, (TensorSpec("x", "FP32", (-1,)),), (TensorSpec("y", "FP32", (-1,)),), True
        )
    }

    def warmup(self, sizes):
        pass

    def close(self):
        pass

    def infer(self, signature, inputs):
        if (inputs["x"] == 13).any():
            raise InferenceFailed("thirteen")
        return {"y": inputs["x"] * 2}


class Served:
    """An endpoint with a model that has version 1, and what it has recorded."""

    def __init__(self, slo=None, names=(), **keys):
        self.recorder = FakeRecorder()
        config = ModelConfig.model_validate({"name": "m", **keys})
        source = SimpleNamespace(
            versions=lambda: [1],
            revision=lambda version: 0,
            load=lambda version: Engine(),
            baseline=lambda version, signatures: None,
        )
        self.model = Model(config, source, self.recorder)
        self.accounts = RequestMetrics(self.recorder, config.ray_actor_options)
        self.accounts.apply(slo or Slo(), Tenants(names=names), Prices(), 1)
        self.endpoint = ModelEndpoint(self.model, 1000, self.accounts)

    def ask(self, *requests):
        async def scenario():
            await self.model.apply(VersionPolicy(latest=1), {})
            return await asyncio.gather(*map(self.endpoint.respond, requests))

        return [response.status for response in asyncio.run(scenario())]


def infer(*values, path="/infer", tenant=None):
    headers = {} if tenant is None else {b"x-tenant": tenant}
    tensor = {"name": "x", "datatype": "FP32", "shape": [len(values)], "data": values}
    body = json.dumps({"inputs": [tensor]}).encode()
    return HttpRequest("POST", f"/v2/models/m{path}", headers, body)


def predict(*values, tenant=None):
    headers = {} if tenant is None else {b"x-tenant": tenant}
    body = json.dumps({"instances": values}).encode()
    return HttpRequest("POST", "/v2/models/m/v1:predict", headers, body)


def test_the_parts_of_requests_add_up_to_their_seconds():
    served = Served()
    assert served.ask(infer(1), infer(2, 3), predict(4), infer(*range(100, 300))) == [200] * 4
    seconds = [value for name, value in served.recorder.observed if "request_dur" in name]
    assert len(seconds) == 4
    parts = served.recorder.value("model_request_part_seconds", version="1")
    assert math.isclose(parts, sum(seconds), rel_tol=1e-9)
    for name, *pairs in served.recorder.sums:
        if name == "model_request_part_seconds":
            assert served.recorder.value(name, **dict(pairs)) >= 0, pairs


@pytest.mark.parametrize(
    ("request_", "code", "version"),
    [
        (infer(1), 200, "1"),
        (infer(13), 500, "1"),
        (infer(1, path="/versions/1/infer"), 200, "1"),
        (infer(1, path="/versions/99/infer"), 404, "none"),
        (infer(1, path="/labels/odd/infer"), 404, "none"),
        (infer(1, path="/teapot"), 404, "none"),
        (HttpRequest("POST", "/v2/models/m/infer", {}, b"{"), 400, "1"),
        (HttpRequest("GET", "/v2/models/m/ready", {}), 200, "none"),
    ],
)
def test_a_request_is_counted_under_its_code_and_the_version_that_it_reached(
    request_, code, version
):
    served = Served()
    assert served.ask(request_) == [code]
    counted = served.recorder.value("model_requests")
    assert counted == 1
    assert served.recorder.value("model_requests", code=str(code), version=version) == 1


def test_errors_begin_at_zero_where_there_are_requests():
    served = Served(Slo(latency_ms=50, latency_target=99))
    served.ask()
    served.accounts.sample(served.model.versions)
    for version, code in itertools.product(("1", "none"), ("200", "429", "500", "503", "504")):
        assert served.recorder.value("model_requests", version=version, code=code) == 0
    assert served.recorder.value("model_slow_requests", version="1") == 0
    assert served.recorder.value("model_loads", version="1", outcome="failed") == 0
    assert served.recorder.value("model_compute_seconds", version="1") == 0
    served.ask(predict(1, tenant=b"a"))
    assert served.recorder.value("model_requests", protocol="v1", tenant="other", code="500") == 0


def test_the_gauges_of_a_version_that_is_unloaded_are_zero():
    served = Served()
    served.ask()
    served.model._source.versions = lambda: [2]
    served.model.versions[1].engine.retraces = 3
    served.model.sample()
    served.ask()
    assert list(served.model.versions) == [2]
    served.model.sample()
    gauges = served.recorder.gauges
    assert gauges["model_ready", ("version", "2")] == 1
    for name in ("model_ready", "model_retraces", "model_requests_queued"):
        assert gauges[name, ("version", "1")] == 0


def test_every_gauge_of_a_version_is_told_every_second():
    served = Served()
    served.ask()
    served.recorder.gauges.clear()
    served.model.sample()
    names = {name for name, *tags in served.recorder.gauges if ("version", "1") in tags}
    assert names == {
        *("model_ready", "model_requests_queued", "model_retraces"),
        *("model_engine", "model_memory_bytes"),
    }


def test_a_version_that_cannot_be_loaded_shows_until_it_is_gone():
    def load(version):
        if version == 2:
            raise RepositoryError("half a file")
        return Engine()

    served = Served()
    served.model._source.load = load
    served.model._source.versions = lambda: [1, 2]
    served.ask()
    served.model.sample()
    assert served.recorder.gauges[("model_failed_versions",)] == 1
    assert served.recorder.value("model_loads", outcome="failed") == 1
    served.model._source.versions = lambda: [1]
    served.ask()
    served.model.sample()
    assert served.recorder.gauges[("model_failed_versions",)] == 0


def test_slow_requests_are_counted_only_where_there_is_an_objective():
    slow = Slo(latency_ms=1e-6, latency_target=99)
    for slo, counted in ((slow, 2), (Slo(latency_ms=1e6, latency_target=99), 0), (Slo(), None)):
        served = Served(slo)
        served.ask(infer(1), infer(13), infer(2))
        assert served.recorder.value("model_slow_requests") == counted


def test_objectives_and_reservations_are_told_every_second_as_long_as_there_are_any():
    recorder = FakeRecorder()
    accounts = RequestMetrics(recorder, RayActorOptions(num_cpus=2, num_gpus=0.5))
    accounts.apply(
        Slo(availability=99.9, latency_ms=5, latency_target=95),
        Tenants(),
        Prices(cpu_hour=0.1, gpu_hour=4),
        max_replicas=7,
    )
    accounts.sample([1])
    objective = "model_slo_objective_ratio"
    assert math.isclose(recorder.gauges[objective, ("slo", "availability")], 0.999)
    assert math.isclose(recorder.gauges[objective, ("slo", "latency")], 0.95)
    assert recorder.gauges[("model_reserved_cpus",)] == 2
    assert recorder.gauges[("model_max_replicas",)] == 7
    assert recorder.gauges[("model_reserved_gpus",)] == 0.5
    assert math.isclose(recorder.gauges[("model_reserved_cost_per_hour",)], 2.2)
    recorder.gauges.clear()
    accounts.apply(Slo(availability=99), Tenants(), Prices(), 1)
    accounts.sample([1])
    assert math.isclose(recorder.gauges[objective, ("slo", "availability")], 0.99)
    assert (objective, ("slo", "latency")) not in recorder.gauges


@pytest.mark.parametrize(
    ("header", "tenant"),
    [
        (None, "none"),
        (b"", "none"),
        (b"a", "a"),
        (b"b", "other"),
        (b"A", "other"),
        (b"\xff", "other"),
    ],
)
def test_a_tenant_is_one_of_the_names_or_other_or_none(header, tenant):
    served = Served(names=("a",))
    served.ask(infer(1, tenant=header), predict(1, tenant=header))
    assert served.recorder.value("model_requests", tenant=tenant, code="200") == 2
    assert served.recorder.value("model_compute_seconds", tenant=tenant) > 0


def test_another_header_names_the_tenant_in_place():
    served = Served(names=("a",))
    served.accounts.apply(Slo(), Tenants(header="X-Team", names=("b",)), Prices(), 1)
    assert served.accounts.tenant({b"x-team": b"b", b"x-tenant": b"a"}) == "b"


def test_the_engines_seconds_are_shared_by_rows_and_all_of_them_are_somebodys():
    served = Served(names=("a", "b"))
    assert served.ask(infer(1, tenant=b"a"), infer(1, 2, 3, tenant=b"b"), infer(13)) == [
        200,
        200,
        500,
    ]
    engine = [value for name, value in served.recorder.observed if "engine" in name]
    assert len(engine) == 1, "they ride in one batch"
    shares = {
        tenant: served.recorder.value("model_compute_seconds", tenant=tenant)
        for tenant in ("a", "b", "none")
    }
    assert math.isclose(sum(shares.values()), engine[0])
    assert math.isclose(shares["b"], 3 * shares["a"])


_TEXT = st.text(st.characters(codec="latin-1", exclude_characters="/"), max_size=12)


@settings(max_examples=50)
@given(
    st.lists(
        st.builds(
            lambda tenant, path, method, body: HttpRequest(
                method, f"/v2/models/m{path}", {b"x-tenant": tenant}, body
            ),
            st.binary(max_size=9),
            st.one_of(
                st.just("/infer"),
                st.builds("/versions/{}/infer".format, st.integers(0, 10**20)),
                st.builds("/labels/{}/infer".format, _TEXT),
                st.builds("/v1/versions/{}:predict".format, st.integers(0, 10**20)),
                st.builds("/v1:{}".format, _TEXT),
                st.builds("/{}".format, _TEXT),
            ),
            st.sampled_from(["GET", "POST", "BREW"]),
            st.sampled_from([b"", b"{", infer(1).body, predict(1).body]),
        ),
        max_size=12,
    )
)
def test_no_request_makes_a_series_that_is_not_reckoned_with(requests):
    served = Served(names=("a",))
    served.ask(*requests)
    assert served.recorder.values("tenant") <= {"a", "other", "none"}
    assert served.recorder.values("version") <= {"1", "none"}
    assert served.recorder.values("protocol") <= {"v1", "v2"}
    for name in ("model_requests", "model_request_part_seconds", "model_compute_seconds"):
        made = sum(known == name for known, *_ in served.recorder.sums)
        assert made <= series(METRICS[name], dict(TAG_VALUES, tenant=3, version=2))


def test_the_counters_of_quotas_begin_at_zero_for_every_tenant_that_has_a_name():
    recorder = FakeRecorder()
    metrics = RequestMetrics(recorder, RayActorOptions())
    metrics.apply(Slo(), Tenants(names=("blue",)), Prices(), max_replicas=1)
    metrics.begin_quotas()
    assert recorder.value("model_quota_uncounted") == 0
    for tenant in ("blue", "other", "none"):
        for reason in ("rows_per_s", "compute_s_per_day", "uncounted"):
            assert recorder.value("model_quota_refusals", tenant=tenant, reason=reason) == 0
