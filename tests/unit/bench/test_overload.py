from bench.open_load import Sent
from bench.overload import figures_of, overload_config, rows


def test_the_platform_serves_one_model(tmp_path):
    config = overload_config(tmp_path, "digits-large")
    assert [model.name for model in config.models] == ["digits-large"]
    assert config.models[0].limits.max_queue_wait_s is not None


def test_figures_are_medians_and_the_ratio_is_of_each_round():
    calm = [Sent(1.0, {200: [ms]}) for ms in (10.0, 20.0, 40.0)]
    busy = [Sent(1.0, {200: [1.5 * ms], 429: [2.0, 4.0], 503: [9.0]}) for ms in (10.0, 20.0, 40.0)]
    figures = figures_of([100.0, 300.0, 200.0], calm, busy)
    assert (figures.bears_per_s, figures.calm_p99_ms, figures.busy_p99_ms) == (200.0, 20.0, 30.0)
    assert (figures.longer, figures.refused_per_s, figures.refusal_p50_ms) == (1.5, 3.0, 3.0)
    assert figures.other_statuses == ()
    assert ("p99 over that at 80 %", "1.50", "<= 1.5") in rows(figures)


def test_other_statuses_are_told():
    figures = figures_of([1.0], [Sent(1.0, {200: [1.0]})], [Sent(1.0, {200: [1.0], 0: [1.0]})])
    assert figures.other_statuses == (0,)
