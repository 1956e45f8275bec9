"""What waited for a version is added to what runs, and to what was applied meanwhile."""

import copy

import h5py
import pytest

from serve.config.schema import Config
from serve.deploy.applications import GATEWAY, deploy_config
from serve.deploy.arrivals import put_in_place, served_in, waiting_in
from serve.deploy.changes import members_in
from serve.deploy.preflight import awaited
from serve.repository.publish import publish
from serve.repository.repository import Repository


class FakeApi:
    """Ray Serve's REST API; a deploy is as good as done, and remembered."""

    def __init__(self, deploy_config):
        self.deployed = []
        self.deploy(deploy_config)

    def deploy(self, deploy_config):
        self.deployed.append([each["name"] for each in deploy_config["applications"]])
        self._configs = {
            each["name"]: {**copy.deepcopy(each), "logging_config": {}}
            for each in deploy_config["applications"]
        }

    def configs(self):
        return self._configs

    @property
    def waits(self):
        return [each["name"] for each in waiting_in(self._configs)]


@pytest.fixture
def put(tmp_path):
    """Return a function that publishes a version of a model."""
    source = tmp_path / "model.h5"
    with h5py.File(source, "w") as file:
        file.create_group("model_weights")
        file.attrs["model_config"] = "{}"
    repository = Repository(str(tmp_path / "models"), tmp_path / "cache")
    return lambda name: publish(source, repository, name)


@pytest.fixture
def platform(tmp_path):
    """Return a function that starts a platform of models a and b, and of a pipeline of both."""

    def start(*more, pooled=()):
        steps = [{"model": "a"}, {"model": "b"}]
        tree = {
            "repository": {"root": str(tmp_path / "models")},
            "models": [
                *({"name": name} for name in ("a", "b", *more)),
                *({"name": name, "pool": "p"} for name in pooled),
            ],
            "pipelines": [{"name": "both", "kind": "sequence", "steps": steps}],
        }
        config = Config.model_validate(tree)
        repository = Repository(str(tmp_path / "models"), tmp_path / "cache")
        return FakeApi(deploy_config(config, awaited(config, repository)))

    return start


def test_a_model_joins_with_its_first_version_and_a_pipeline_with_the_last_of_its_models(
    platform, put
):
    api = platform()
    assert api.waits == ["a", "b", "both"]
    assert put_in_place(api) == {}
    put("b")
    assert put_in_place(api) == {"b": None}
    assert api.waits == ["a", "both"]
    assert put_in_place(api) == {}
    put("a")
    assert put_in_place(api) == {"a": None, "both": None}
    assert api.waits == []
    assert api.deployed == [[GATEWAY], [GATEWAY, "b"], [GATEWAY, "b", "a", "both"]]


def test_what_runs_already_is_put_as_it_is(platform, put):
    put("a")
    api = platform()
    before = copy.deepcopy(api.configs())
    put("b")
    put_in_place(api)
    assert api.configs()["a"] == before["a"]
    gateways = [tree[GATEWAY]["deployments"][0] for tree in (before, api.configs())]
    for gateway in gateways:
        gateway["user_config"].pop("awaited", None)
    assert gateways[0] == gateways[1]


def test_what_was_applied_since_counts_and_not_what_the_platform_was_started_with(platform, put):
    started = platform()
    applied = platform("late")
    started.deploy({"applications": list(applied.configs().values())})
    put("late")
    assert put_in_place(started) == {"late": None}


def test_a_model_joins_the_replicas_of_its_pool(platform, put):
    put("a")
    put("b")
    api = platform(pooled=["late", "later"])
    assert api.waits == ["late", "later"]
    assert api.deployed == [[GATEWAY, "a", "b", "pool-p", "both"]], "the pool is there before them"
    assert _members(api) == []
    put("late")
    assert put_in_place(api) == {"late": "p"}
    assert (api.waits, _members(api)) == (["later"], ["late"])
    put("later")
    assert put_in_place(api) == {"later": "p"}
    assert (api.waits, _members(api)) == ([], ["late", "later"])
    whole = platform(pooled=["late", "later"]).configs()
    assert api.configs() == whole, "it is what it would have been from the start"


def _members(api):
    return [each["served"]["name"] for each in members_in(api.configs()["pool-p"])]


def test_what_is_served_are_applications_and_models_in_pools_that_are_not_awaited(platform, put):
    put("a")
    put("here")
    api = platform(pooled=["here", "late"])
    assert served_in(api.configs()) == {GATEWAY, "a", "pool-p", "here"}
    assert served_in({"unknown": None}) == {"unknown"}


def test_where_ray_does_not_say_how_all_is_configured_nothing_is_changed(platform, put):
    api = platform()
    put("a")
    api.configs()["unknown"] = None
    assert put_in_place(api) == {}
    assert api.deployed == [[GATEWAY]]


def test_a_repository_that_does_not_answer_is_asked_again_later(platform, put, monkeypatch):
    api = platform()
    put("a")
    with monkeypatch.context() as away:
        away.setattr("serve.repository.folders._in_folders", _away)
        assert put_in_place(api) == {}
    assert put_in_place(api) == {"a": None}


def _away(*_):
    from serve.errors import RepositoryError

    raise RepositoryError("the store is away")


def test_a_platform_that_is_not_there_yet_waits_for_nothing():
    assert waiting_in({}) == []
    assert waiting_in({GATEWAY: None}) == []
