import pytest

from serve.quotas.ledger import REMEMBERED_S, Ledger, Report

KEY = "strata:{web}:compute_s_per_day:"


class Gateway:
    """A gateway's ledger, whose clock a test moves."""

    def __init__(self):
        self.now = 50.0
        self.ledger = Ledger(lambda: self.now)

    def hears(self, replica, own=None, others=0.0, models=("m",), day=7):
        spent = {} if own is None else {KEY: (own, others)}
        return self.ledger.take(Report(replica, models, day, spent, self.ledger.name))


def test_a_new_gateway_says_nothing_until_all_have_had_the_time_to_report():
    gateway = Gateway()
    for _ in range(10):
        told = gateway.hears("a", 1.0)
        assert (told.replicas, told.others) == ({}, {})
        gateway.now += REMEMBERED_S / 10
    assert gateway.hears("a", 1.0).replicas == {None: 1, "m": 1}


def test_replicas_are_counted_by_model_and_in_all_as_long_as_they_report():
    gateway = Gateway()
    gateway.now += REMEMBERED_S
    gateway.hears("a", models=("m",))
    gateway.hears("b", models=("m", "n"))
    assert gateway.hears("c", models=("n",)).replicas == {None: 3, "n": 2}
    gateway.now += REMEMBERED_S - 1
    gateway.hears("b", models=("m", "n"))
    gateway.now += 1
    assert gateway.hears("b", models=("m", "n")).replicas == {None: 1, "m": 1, "n": 1}


def test_each_hears_what_the_others_spent_however_often_it_reports():
    gateway = Gateway()
    gateway.now += REMEMBERED_S
    gateway.hears("a", 2.0)
    for _ in range(3):
        assert gateway.hears("b", 3.0).others == {KEY: 2.0}
    assert gateway.hears("a", 2.5).others == {KEY: 3.0}
    assert gateway.hears("c", 0.0).others == {KEY: 5.5}


def test_what_a_replica_spent_stays_spent_when_it_goes():
    gateway = Gateway()
    gateway.now += REMEMBERED_S
    gateway.hears("gone", 4.0)
    gateway.now += 10 * REMEMBERED_S
    assert gateway.hears("a", 1.0).others == {KEY: 4.0}


def test_a_gateway_that_is_started_anew_comes_to_the_same_sums():
    before = Gateway()
    before.now += REMEMBERED_S
    before.hears("gone", 4.0)
    a = before.hears("a", 1.0).others[KEY]
    b = before.hears("b", 2.0).others[KEY]
    a = before.hears("a", 1.0).others[KEY]
    after = Gateway()
    after.hears("a", 1.0, a)
    after.hears("b", 2.0, b)
    after.now += REMEMBERED_S
    assert after.hears("a", 1.0, a).others == {KEY: 6.0}
    assert after.hears("b", 2.5, b).others == {KEY: 5.0}
    assert after.hears("a", 1.0, a).others == {KEY: 6.5}


def test_days_are_apart_and_few_are_kept():
    gateway = Gateway()
    gateway.now += REMEMBERED_S
    gateway.hears("a", 2.0, day=7)
    assert gateway.hears("b", 1.0, day=8).others == {KEY: 0.0}
    assert gateway.hears("b", 1.0, day=7).others == {KEY: 2.0}
    for day in range(100):
        gateway.hears("a", 1.0, day=day)
    assert len(gateway.ledger._days) == 3


@pytest.mark.parametrize(("reported_to", "same"), [(None, True), ("another", False)])
def test_who_reported_to_another_gateway_is_asked_for_everything(reported_to, same):
    ledger = Ledger()
    told = ledger.take(Report("a", ("m",), 7, {}, reported_to))
    assert told.ledger == (ledger.name if same else None)
