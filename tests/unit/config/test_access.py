import pytest
from pydantic import ValidationError

from serve.config.schema import Config

JWT = {"issuer": "https://x.example/", "jwks": "https://x.example/jwks", "audience": "strata"}


def refused(tree):
    with pytest.raises(ValidationError) as err:
        Config.model_validate({"models": [{"name": "m"}], **tree})
    return str(err.value)


def test_nobody_is_asked_for_anything_unless_it_is_written():
    access = Config().access
    assert (access.keys, access.jwt, access.quotas) == (None, None, ())
    assert not access.asks_who


@pytest.mark.parametrize(
    ("quotas", "said"),
    [
        ([{}], "give a quota a limit"),
        ([{"tenant": "web"}], "give a quota a limit"),
        ([{"requests_per_s": -1}], "greater than or equal to 0"),
        ([{"tenant": "a b", "requests_per_s": 1}], "tenant"),
        ([{"tenant": "none", "requests_per_s": 1}], "'none' is reserved"),
        ([{"rows_per_s": -1}], "greater than or equal to 0"),
        ([{"rows_per_s": 1.5}], "valid integer"),
        ([{"compute_s_per_day": -0.1}], "greater than or equal to 0"),
        ([{"compute_s_per_day": float("nan")}], "finite number"),
        ([{"compute_s_per_day": float("inf")}], "finite number"),
        ([{"rows_per_s": 1}, {"compute_s_per_day": 1}], "'*' has more than one"),
        ([{"model": "other", "requests_per_s": 1}], "'other' is not among models or pipelines"),
        ([{"requests_per_s": 1}, {"concurrent_requests": 1}], "'*' has more than one"),
        (
            [{"model": "m", "requests_per_s": 1}, {"model": "m", "requests_per_s": 2}],
            "'*' has more than one of the model 'm'",
        ),
    ],
)
def test_a_quota_that_makes_no_sense_is_refused(quotas, said):
    assert said in refused({"access": {"quotas": quotas}})


@pytest.mark.parametrize(
    "access", [{"keys": "k"}, {"quotas": [{"requests_per_s": 1}]}, {"jwt": JWT}]
)
def test_without_haproxy_nobody_would_be_asked(access):
    said = refused({"access": access, "http": {"haproxy": False}})
    assert "lets everybody in" in said


def test_quotas_of_one_tenant_may_be_of_several_models_and_of_all():
    quotas = [{"requests_per_s": 1}, {"model": "m", "requests_per_s": 0}]
    tree = {"models": [{"name": "m"}], "access": {"quotas": quotas}}
    assert len(Config.model_validate(tree).access.quotas) == 2


def jwt(**changed):
    return {"access": {"jwt": {k: v for k, v in (JWT | changed).items() if v is not ...}}}


def test_tokens_are_signed_by_a_pair_of_keys_open_every_model_and_no_more():
    read = Config.model_validate(jwt()).access
    assert read.asks_who
    assert (read.jwt.algorithm, read.jwt.tenant_claim) == ("RS256", "tenant")
    assert (read.jwt.models_claim, read.jwt.admin_scope) == (None, None)


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        *(({"algorithm": name}, "algorithm") for name in ("none", "HS256", "rs256", "EdDSA", "")),
        *(({name: ...}, name) for name in ("issuer", "jwks", "audience")),
        *(({"issuer": text}, "issuer") for text in ("", "a b", "a\nb", "it's", "é", "x" * 256)),
        *(({name: "a b"}, name) for name in ("audience", "tenant_claim", "models_claim")),
        *(({name: ""}, name) for name in ("scope_claim", "admin_scope", "jwks")),
        ({"jwks": "http://login.example.com/jwks"}, "must be https://"),
        ({"jwks": "http://localhost.example.com/jwks"}, "must be https://"),
        ({"jwks": "http://127.0.0.1.example.com/jwks"}, "must be https://"),
        ({"jwks": "http://10.0.0.1/jwks"}, "must be https://"),
        ({"jwks": "file:///etc/jwks"}, "must be https://"),
        ({"jwks": "ftp://localhost/jwks"}, "must be https://"),
        ({"jwks": "https://user:word@x.example/jwks"}, "write it plainly"),
        ({"jwks": "https:///jwks"}, "write it plainly"),
        ({"jwks": "https://x.example/a b"}, "write it plainly"),
        ({"jwks": "https://x.example:port/"}, "no URL"),
        ({"jwks": "https://[::1/"}, "no URL"),
        ({"jwks": "jwks.json", "jwks_ca": "ca.pem"}, "needs a jwks that begins with https://"),
        ({"secret": "x"}, "secret"),
    ],
)
def test_tokens_that_would_prove_nothing_are_refused(changed, said):
    assert said in refused(jwt(**changed))


@pytest.mark.parametrize(
    "place",
    [
        *(
            "https://x.example/jwks?a=b",
            "http://localhost:1/",
            "http://127.0.0.1/",
            "http://[::1]:8/",
        ),
        *("http://dex.auth.svc/keys", "http://dex.auth.svc.cluster.local:5556/keys", "jwks.json"),
    ],
)
def test_keys_come_by_https_or_from_near_by(place):
    assert Config.model_validate(jwt(jwks=place)).access.jwt.jwks == place


@pytest.mark.parametrize("limit", ["rows_per_s", "compute_s_per_day"])
def test_a_quota_may_be_of_rows_or_of_seconds_alone(limit):
    (quota,) = Config.model_validate({"access": {"quotas": [{limit: 0}]}}).access.quotas
    assert (quota.limits_compute, quota.limits_requests) == (True, False)


@pytest.mark.parametrize(
    "url",
    [
        *("redis://counts", "redis://10.0.0.1:6379", "rediss://user@counts.example:6380/3"),
        "redis://[fd00::1]:6379/0",
    ],
)
def test_counts_are_in_a_redis_by_its_url(url):
    counts = Config.model_validate({"access": {"counts": {"redis": url}}}).access.counts
    assert (counts.redis, counts.when_uncounted) == (url, "allow")


@pytest.mark.parametrize(
    ("counts", "said"),
    [
        ({"redis": "redis://user:hush@counts"}, "STRATA_COUNTS_PASSWORD"),
        ({"redis": "redis://:hush@counts"}, "STRATA_COUNTS_PASSWORD"),
        ({"redis": "http://counts"}, "should match pattern"),
        ({"redis": "redis://counts?db=1"}, "should match pattern"),
        ({"redis": "unix:///var/run/redis"}, "should match pattern"),
        ({"timeout_s": 0}, "greater than 0"),
        ({"timeout_s": 60}, "less than or equal to 5"),
        ({"when_uncounted": "share"}, "'allow' or 'refuse'"),
    ],
)
def test_counts_that_make_no_sense_are_refused(counts, said):
    assert said in refused({"access": {"counts": counts}})


def test_a_password_in_the_url_is_not_told_again(refusal):
    text = "access: {counts: {redis: 'redis://user:hush@counts'}}"
    assert "hush" not in refusal(text)
