import pytest
from pydantic import ValidationError

from serve.config.schema import Config


def refused(tree):
    with pytest.raises(ValidationError) as err:
        Config.model_validate({"models": [{"name": "m"}], **tree})
    return str(err.value)


def test_nobody_is_asked_for_anything_unless_it_is_written():
    access = Config().access
    assert (access.keys, access.quotas) == (None, ())


@pytest.mark.parametrize(
    ("quotas", "said"),
    [
        ([{}], "give a quota a limit"),
        ([{"tenant": "web"}], "give a quota a limit"),
        ([{"requests_per_s": -1}], "greater than or equal to 0"),
        ([{"tenant": "a b", "requests_per_s": 1}], "tenant"),
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


@pytest.mark.parametrize("access", [{"keys": "k"}, {"quotas": [{"requests_per_s": 1}]}])
def test_without_haproxy_nobody_would_be_asked(access):
    said = refused({"access": access, "http": {"haproxy": False}})
    assert "lets everybody in" in said


def test_quotas_of_one_tenant_may_be_of_several_models_and_of_all():
    quotas = [{"requests_per_s": 1}, {"model": "m", "requests_per_s": 0}]
    tree = {"models": [{"name": "m"}], "access": {"quotas": quotas}}
    assert len(Config.model_validate(tree).access.quotas) == 2
