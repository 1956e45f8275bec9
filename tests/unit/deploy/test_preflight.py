"""What is known of pipelines before a config is applied."""

import json

import h5py
import pytest

from serve.config.schema import Config
from serve.deploy.preflight import awaited, check_pipelines, check_versions
from serve.errors import ConfigError, RepositoryError
from serve.repository.publish import publish
from serve.repository.repository import Repository
from serve.types import Signature, TensorSpec


def _signature(name, shape):
    x = TensorSpec("x", "FP32", (-1, 4))
    return Signature("serving_default", (x,), (TensorSpec(name, "FP32", shape),), True)


@pytest.fixture
def repository(tmp_path):
    source = tmp_path / "model.h5"
    with h5py.File(source, "w") as file:
        file.create_group("model_weights")
        file.attrs["model_config"] = "{}"
    repository = Repository(str(tmp_path / "models"), tmp_path / "cache")
    signatures = {"encode": _signature("x", (-1, 4)), "score": _signature("p", (-1, 3))}
    for name, signature in signatures.items():
        publish(source, repository, name, validate=lambda path, s=signature: [s])
    publish(source, repository, "unread")
    return repository


def _check(repository, *pipelines, load=None):
    config = Config.model_validate({"pipelines": pipelines})
    check_pipelines(config, repository, load or _never)


def _never(model, version):
    raise AssertionError(f"{model} {version} was loaded")


def _sequence(*models, name="p"):
    return {"name": name, "kind": "sequence", "steps": [{"model": model} for model in models]}


def test_a_pipeline_that_fits_is_checked_without_loading_a_model(repository):
    _check(repository, _sequence("encode", "score"), _sequence("encode", "p", name="q"))


def test_a_wire_that_does_not_fit_is_refused_with_both_ends(repository):
    with pytest.raises(
        ConfigError, match=r"pipelines\[p\]\.steps\[1\]\.inputs\.x: score\.p .* does not fit 'x'"
    ):
        _check(repository, _sequence("score", "encode"))


def test_a_model_without_a_manifest_signature_is_loaded_once(repository):
    loaded = []

    def load(model, version):
        loaded.append((model, version))
        return _signature("x", (-1, 4))

    _check(repository, _sequence("unread", "score"), _sequence("unread", name="q"), load=load)
    assert loaded == [("unread", 1)]


@pytest.mark.parametrize(
    ("member", "said"),
    [
        ({"model": "no"}, r"pipelines\[p\]: there is no model or pipeline 'no' .*encode, score"),
        ({"model": "score", "version": 7}, r"'score' has no version 7 \(available: 1\)"),
    ],
)
def test_what_the_repository_does_not_have_is_refused(repository, member, said):
    with pytest.raises(ConfigError, match=said):
        _check(repository, {"name": "p", "kind": "sequence", "steps": [member]})


def test_the_manifest_says_the_signature(repository):
    text = (repository.store.local_path("score/1") / "manifest.json").read_text()
    assert json.loads(text)["signature"]["outputs"] == [
        {"name": "p", "datatype": "FP32", "shape": [-1, 3]}
    ]
    assert repository.manifest("score", 1).signature == _signature("p", (-1, 3))


def _versions(repository, **model):
    return check_versions(
        Config.model_validate({"models": [{"name": "score", **model}]}), repository
    )


@pytest.mark.parametrize(
    ("model", "place"),
    [
        ({"version_labels": {"stable": 7}}, "version_labels.stable"),
        ({"version_policy": {"specific": [1, 7]}}, "version_policy.specific"),
    ],
)
def test_a_version_that_is_not_there_is_refused_with_its_place(repository, model, place):
    said = rf"models\[0\]\.{place}: model 'score' has no version 7 \(available: 1\)"
    with pytest.raises(ConfigError, match=said):
        _versions(repository, **model)


def test_a_label_that_the_policy_does_not_load_and_a_model_without_versions_are_doubtful(
    repository, tmp_path
):
    assert _versions(repository, version_labels={"stable": 1}) == []
    publish(tmp_path / "model.h5", repository, "score")
    (doubt,) = _versions(repository, version_labels={"stable": 1})
    assert "nobody is served by this label" in doubt
    (doubt,) = _versions(repository, name="absent", version_labels={"stable": 1})
    assert doubt.startswith("models[0]: ")
    assert "has no folder 'absent' (there are: " in doubt


def test_a_repository_that_does_not_answer_refuses_nothing(repository, monkeypatch):
    def away(model):
        raise RepositoryError("the store is away")

    monkeypatch.setattr(repository, "look", away)
    (doubt,) = _versions(repository, version_labels={"stable": 7})
    assert doubt == "versions and labels were not checked: the store is away"


def _awaited(repository, *models, running=(), pipelines=()):
    tree = {"models": [{"name": name} for name in models], "pipelines": pipelines}
    return awaited(Config.model_validate(tree), repository, running)


def test_what_has_no_version_waits_and_so_do_the_pipelines_of_it(repository):
    pipelines = [
        _sequence("encode", "late", name="p"),
        _sequence("p", name="outer"),
        _sequence("score", name="here"),
    ]
    found = _awaited(repository, "encode", "late", pipelines=pipelines)
    assert list(found) == ["late", "p", "outer"]
    assert found["late"].startswith("waits for its first version: ")
    assert "has no folder 'late' (there are: encode, score, unread)" in found["late"]
    assert found["p"] == found["outer"] == "waits for the first version of late"


def test_a_model_that_only_a_pipeline_names_is_told_with_what_there_is(repository):
    found = _awaited(repository, pipelines=[_sequence("scores", name="p")])
    assert "did you mean 'score'?" in found["p"]


def test_what_runs_does_not_wait_though_its_versions_are_gone(repository):
    pipelines = [_sequence("late", name="p")]
    found = _awaited(repository, "late", running={"late"}, pipelines=pipelines)
    assert list(found) == ["p"]


def test_where_there_is_no_repository_yet_everything_waits(tmp_path):
    repository = Repository(str(tmp_path / "later"), tmp_path / "cache")
    assert list(_awaited(repository, "encode")) == ["encode"]


def test_nothing_waits_for_a_repository_that_does_not_answer(repository, monkeypatch):
    def away(model):
        raise RepositoryError("the store is away")

    monkeypatch.setattr(repository, "look", away)
    assert _awaited(repository, "late", pipelines=[_sequence("late", name="p")]) == {}


def test_what_waits_is_neither_checked_nor_doubtful(repository):
    pipelines = [_sequence("late", name="p"), _sequence("score", "encode", name="wrong")]
    config = Config.model_validate({"models": [{"name": "late"}], "pipelines": pipelines})
    assert check_versions(config, repository, {"late"}) == []
    check_pipelines(config, repository, _never, {"p", "wrong"})
    with pytest.raises(ConfigError, match=r"pipelines\[wrong\]"):
        check_pipelines(config, repository, _never, {"p"})
