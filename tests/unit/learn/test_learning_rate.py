import pytest


@pytest.fixture(scope="module")
def one_cycle():
    from serve.learn.learning_rate import one_cycle

    return one_cycle


def test_the_rate_rises_to_its_peak_and_falls_to_nothing(one_cycle):
    rate = one_cycle(0.01, 100, rising=0.2)
    rates = [float(rate(step)) for step in range(101)]
    assert rates[0] == 0
    assert max(rates) == rates[20] == pytest.approx(0.01)
    assert rates[60] == pytest.approx(0.005)
    assert rates[100] == pytest.approx(0, abs=1e-9)
    assert rates == sorted(rates[:20]) + sorted(rates[20:], reverse=True)


def test_a_training_of_a_step_has_a_rate_too(one_cycle):
    assert float(one_cycle(0.01, 1)(1)) == pytest.approx(0.01)
