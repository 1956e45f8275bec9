import pytest

from tests.e2e.cluster import Release, eventually
from tests.e2e.load import work
from tests.e2e.models import publish

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(1500)]

BUSY = {
    "name": "busy",
    "ray_actor_options": {"num_cpus": 0.3},
    "batching": {"max_batch_size": 1},
    "autoscaling": {
        "min_replicas": 0,
        "max_replicas": 3,
        "target_ongoing_requests": 1,
        "look_back_period_s": 5,
        "upscale_delay_s": 2,
        "downscale_delay_s": 10,
        "downscale_to_zero_delay_s": 10,
    },
    "graceful_shutdown_timeout_s": 30,
}


def test_replicas_and_workers_follow_the_load_down_to_zero(
    publisher: Release, graphs, digits_call, load_of, record_property
):
    release = publisher
    publish(release, graphs / "busy", "busy")
    release.apply(models=[*release.values["models"], BUSY])
    count = lambda: len(release.replicas("busy"))  # noqa: E731
    eventually(lambda: count() == 0, timeout_s=180)
    workers = len(release.ready("worker"))

    with load_of(work("busy", 400), clients=8, pause_s=0.01, timeout_s=200) as load:
        eventually(lambda: count() == 3, timeout_s=240)
        eventually(lambda: len(release.ready("worker")) > workers, timeout_s=240)
        eventually(load.so_many_more(20), timeout_s=120)
    assert load.failures == []

    with load_of(digits_call("/v2/models/digits/infer")) as others:
        eventually(lambda: count() == 0, timeout_s=240)
        eventually(lambda: len(release.pod_names("worker")) == workers, timeout_s=300)
    assert others.failures == []
    with load_of(work("busy", 1), clients=1) as first:
        eventually(first.so_many_more(1), timeout_s=180)
    assert first.failures == []
    record_property("first answer from zero replicas", f"{first.slowest_s:.1f} s")
