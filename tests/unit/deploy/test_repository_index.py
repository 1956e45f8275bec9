"""Which models of pools are not served, though their pools run."""

import pytest

from serve.config.schema import Config
from serve.deploy.application_status import ApplicationState
from serve.deploy.ingress import Ingress
from serve.deploy.repository_index import read_index, unserved_members
from serve.protocols.metadata_v2 import RESTING
from tests.loopback import serving

_INDEX = [
    {"name": "good", "version": "1", "state": "READY"},
    {"name": "rests", "version": "1", "state": "UNAVAILABLE", "reason": RESTING},
    {"name": "broken", "version": "1", "state": "UNAVAILABLE", "reason": "no graph"},
    {"name": "alone", "state": "UNAVAILABLE", "reason": "DEPLOY_FAILED"},
]


@pytest.fixture
def port():
    with serving(lambda asked: (200, _INDEX)) as port:
        yield port


def _config(port, **more):
    models = [{"name": name, **more} for name in ("good", "rests", "broken")]
    return Config.model_validate({"http": {"port": port}, "models": [{"name": "alone"}, *models]})


def _states(status="RUNNING"):
    return lambda: {"pool-p": ApplicationState("pool-p", status, "said", 1, 1)}


def test_a_model_that_cannot_be_loaded_is_told_and_one_that_rests_is_not(port):
    assert unserved_members(_config(port, pool="p"), _states()) == {"broken": "no graph"}


def test_where_there_are_no_pools_or_a_pool_does_not_run_nothing_is_said(port):
    assert unserved_members(_config(9), _states()) == {}
    assert unserved_members(_config(port, pool="p"), _states("DEPLOYING")) == {}


def test_without_a_gateway_nothing_is_known():
    assert read_index(Ingress("http://127.0.0.1:9")) == {}
    assert unserved_members(_config(9, pool="p"), _states()) == {}
