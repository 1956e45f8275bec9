from serve.config.access import Quota
from serve.quotas import limits as limits_module
from serve.quotas.limits import COMPUTE, ROWS, Limits

EVERY = Quota(rows_per_s=5)
WEB = Quota(tenant="web", rows_per_s=50, compute_s_per_day=9)
WEB_DIGITS = Quota(tenant="web", model="digits", compute_s_per_day=3)
OTHER_MODEL = Quota(tenant="web", model="text", rows_per_s=1)


def told(limits, header):
    return [(each.kind, each.tenant, each.model, each.amount) for each in limits.of(header)]


def test_a_tenant_falls_under_its_own_quotas_of_all_models_and_of_this_one():
    limits = Limits([EVERY, WEB, WEB_DIGITS, OTHER_MODEL], "digits")
    assert told(limits, b"web") == [
        (ROWS, "web", None, 50),
        (COMPUTE, "web", None, 9),
        (COMPUTE, "web", "digits", 3),
    ]


def test_who_has_no_quota_by_name_has_that_of_every_tenant_each_by_itself():
    limits = Limits([EVERY, WEB], "digits")
    assert told(limits, b"lab") == [(ROWS, "lab", None, 5)]
    assert limits.of(b"lab")[0].key != limits.of(b"school")[0].key


def test_a_quota_of_ones_own_is_in_place_of_that_of_every_tenant_as_a_whole():
    limits = Limits([EVERY, Quota(tenant="web", requests_per_s=9)], "digits")
    assert told(limits, b"web") == []


def test_what_is_no_tenant_is_none():
    limits = Limits([EVERY], "digits")
    for header in (None, b"", b"a b", b"x" * 64, "ü".encode(), b"{web}:rows"):
        assert told(limits, header) == [(ROWS, "none", None, 5)]


def test_what_is_no_tenant_takes_no_memory_and_no_tenants_place(monkeypatch):
    monkeypatch.setattr(limits_module, "MOST_TENANTS", 1)
    limits = Limits([EVERY], "digits")
    for number in range(10):
        limits.of(b"%d junk" % number)
    assert told(limits, b"lab") == [(ROWS, "lab", None, 5)]
    assert told(limits, b"web") == [(ROWS, "other", None, 5)]


def test_a_limit_of_zero_is_one():
    assert told(Limits([Quota(rows_per_s=0)], "m"), b"a") == [(ROWS, "a", None, 0)]


def test_beyond_many_tenants_those_without_a_quota_by_name_are_one(monkeypatch):
    monkeypatch.setattr(limits_module, "MOST_TENANTS", 2)
    limits = Limits([EVERY, WEB], "digits")
    assert [told(limits, name)[0][1] for name in (b"a", b"b", b"c", b"d")] == [
        *("a", "b", "other", "other")
    ]
    assert told(limits, b"web")[0] == (ROWS, "web", None, 50)
    assert told(limits, b"a")[0][1] == "a"


def test_every_limit_counts_under_a_key_of_its_own():
    limits = Limits([WEB, WEB_DIGITS], "digits").of(b"web")
    assert len({limit.key for limit in limits}) == len(limits)
