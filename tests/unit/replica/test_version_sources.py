"""Where engines come from; repositories are real, and the engines of all tests but one numpy."""

import asyncio
import shutil

import numpy as np
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from serve.config.pipelines import PIPELINE
from serve.config.schema import Model
from serve.config.sections import RayActorOptions, VersionPolicy
from serve.errors import RepositoryError
from serve.replica.model import Model as LoadedModel
from serve.replica.version_sources import PipelineSource, RepositorySource, engine_options
from serve.repository.publish import publish
from serve.repository.repository import Repository
from serve.repository.trust import Signer, Trust
from tests.unit.pipelines.fakes import number
from tests.unit.replica.fakes import x
from tests.unit.telemetry.fakes import FakeRecorder


def _pipeline(**changes):
    """Return the config of a sequence `p` of `first` and then version 2 of `second`."""
    steps = [{"model": "first"}, {"model": "second", "version": 2}]
    return PIPELINE.validate_python(
        {"name": "p", "kind": "sequence", "steps": steps, "version": 7, **changes}
    )


def _source(models, pipeline, *others, remote=None):
    by_name = {other.name: other for other in others}
    return PipelineSource(models.repository, pipeline, by_name, remote)


def _infer(engine, *values):
    return engine.infer("serving_default", x(*values))["y"].tolist()


@pytest.mark.parametrize(("num_cpus", "threads"), [(1, 1), (0, 1), (2.5, 3)])
def test_an_engine_may_take_the_cores_of_its_replica_and_its_part_of_a_gpu(num_cpus, threads):
    options = {"num_cpus": num_cpus, "num_gpus": 0.25}
    options = engine_options(Model(name="digits", ray_actor_options=options))
    assert (options.num_threads, options.num_gpus) == (threads, 0.25)


def test_an_engine_may_bring_what_its_section_says():
    allowed = "sha256:" + "0" * 64
    section = {"imports": ("tensorflow_text",), "allowed_code": (allowed,)}
    options = engine_options(Model(name="digits", engine=section))
    assert (options.imports, options.allowed_code) == (("tensorflow_text",), (allowed,))


def test_a_models_config_says_which_library_computes_in_a_word_or_by_a_key():
    for section in ("openvino", {"use": "openvino"}):
        options = engine_options(Model(name="m", engine=section, batching={"max_batch_size": 8}))
        assert options.library == "openvino"
        assert max(options.sizes) == 8
    assert engine_options(Model(name="m")).library == "auto"


def test_a_models_config_says_which_signature_answers_and_what_its_rows_are():
    options = engine_options(Model(name="m", signature="score", batching={"rows": "together"}))
    assert (options.signature, options.rows) == ("score", "together")
    options = engine_options(_pipeline(batching={"rows": "independent"}))
    assert (options.signature, options.rows) == (None, "independent")


def test_a_models_versions_are_the_repositorys_and_another_one_changes_none(models):
    models.put("digits", 1)
    models.put("digits", 3)
    models.put("other", 2)
    source = RepositorySource(models.repository, "digits", RayActorOptions())
    assert source.versions() == [1, 3]
    before = source.revision(1)
    models.put("digits", 4)
    assert source.versions() == [1, 3, 4]
    assert source.revision(1) == before


def test_a_version_is_loaded_with_its_replicas_options(models):
    models.put("digits", 3, factor=5)
    model = Model(name="digits", ray_actor_options={"num_cpus": 2, "num_gpus": 0.5})
    options = engine_options(model)
    source = RepositorySource(models.repository, "digits", model.ray_actor_options, options)
    engine = source.load(3)
    assert _infer(engine, 1) == [5]
    assert models.loaded == [("digits/3", options)]


def test_a_version_without_a_baseline_has_none(models):
    models.put("digits", 3)
    source = RepositorySource(models.repository, "digits", RayActorOptions())
    assert source.baseline(3, source.load(3).signatures) is None


def test_a_version_that_is_not_there_is_refused_by_name(models):
    models.put("digits", 3)
    source = RepositorySource(models.repository, "digits", RayActorOptions())
    with pytest.raises(RepositoryError, match="'digits' has no version 4"):
        source.load(4)


def test_a_version_loads_as_the_model_that_was_saved(tmp_path):
    import keras

    layers = [keras.Input((2,), name="x"), keras.layers.Dense(1, kernel_initializer="ones")]
    folder = tmp_path / "models/tiny/1"
    folder.mkdir(parents=True)
    keras.Sequential(layers).save(folder / "tiny.keras")
    repository = Repository(str(tmp_path / "models"), tmp_path / "cache")
    engine = RepositorySource(repository, "tiny", RayActorOptions()).load(1)
    rows = np.array([[1, 2], [3, 4]], np.float32)
    (outputs,) = engine.infer(engine.default_signature, {"x": rows}).values()
    assert outputs.tolist() == [[3], [7]]


def test_a_pipeline_has_the_one_version_that_its_config_says(models):
    assert _source(models, _pipeline()).versions() == [7]
    assert _source(models, _pipeline()).baseline(7, {}) is None


def test_a_pipelines_revision_changes_with_a_newer_version_of_a_member_that_is_not_pinned(models):
    models.put("first", 1)
    models.put("second", 2)
    source = _source(models, _pipeline())
    before = source.revision(7)
    models.put("second", 3)
    models.put("another", 1)
    assert source.revision(7) == before
    models.put("first", 2)
    assert source.revision(7) != before


def test_a_pipelines_revision_changes_when_a_member_that_was_missing_appears(models):
    models.put("first", 1)
    models.put("second", 1)
    source = _source(models, _pipeline())
    before = source.revision(7)
    models.put("second", 2)
    assert source.revision(7) != before


def test_members_of_nested_pipelines_count_too(models):
    models.put("first", 1)
    models.put("second", 2)
    steps = [{"model": "p"}]
    around = PIPELINE.validate_python({"name": "around", "kind": "sequence", "steps": steps})
    source = _source(models, around, _pipeline(), around)
    before = source.revision(1)
    models.put("first", 2)
    assert source.revision(1) != before


def test_a_pipeline_of_other_replicas_never_changes_by_itself(models):
    models.put("first", 1)
    source = _source(models, _pipeline(placement="deployment"))
    before = source.revision(7)
    models.put("first", 2)
    assert source.revision(7) == before


def test_colocated_members_are_the_newest_versions_unless_pinned_and_share_the_options(models):
    models.put("first", 1, factor=10)
    models.put("first", 2, factor=3)
    models.put("second", 2, factor=5)
    models.put("second", 3, factor=10)
    options = {"num_cpus": 3, "num_gpus": 0.5}
    pipeline = _pipeline(ray_actor_options=options, batching={"max_batch_size": 4})
    engine = _source(models, pipeline).load(7)
    assert _infer(engine, 1, 2) == [15, 30]
    expected = engine_options(pipeline)
    assert models.loaded == [("first/2", expected), ("second/2", expected)]
    engine.warmup([])
    assert [each.warm_sizes for each in models.engines] == [(1, 2, 4)] * 2


def test_a_member_that_cannot_be_read_any_more_is_not_replaced_by_an_older_one(models):
    models.put("first", 1)
    models.put("first", 2)
    models.put("second", 2)
    source = _source(models, _pipeline())
    source.revision(7)
    source.load(7)
    (models.root / "first/2/model.keras").write_bytes(b"cut off")
    before = source.revision(7)
    with pytest.raises(RepositoryError, match=r"version 2 of 'first', which it has, cannot be"):
        source.load(7)
    models.put("first", 2)
    assert source.revision(7) != before
    source.load(7)


def test_a_member_that_is_not_in_the_repository_is_refused_with_its_pipeline_named(models):
    models.put("first", 1)
    models.put("second", 1)
    with pytest.raises(RepositoryError, match=r"pipeline 'p': model 'second' has no version 2"):
        _source(models, _pipeline()).load(7)
    with pytest.raises(RepositoryError, match=r"pipeline 'p': there is no model .* 'third'"):
        _source(models, _pipeline(steps=[{"model": "third"}])).load(7)


def test_members_elsewhere_are_asked_for_by_their_handles_nested_pipelines_among_them(models):
    asked = []

    def remote(label, model, version):
        asked.append((label, model, version))
        return number(label, lambda x: x + 1)

    nested = _pipeline()
    steps = [{"model": "p", "name": "inner"}, {"model": "second", "version": 2}]
    around = PIPELINE.validate_python(
        {"name": "around", "kind": "sequence", "steps": steps, "placement": "deployment"}
    )
    engine = _source(models, around, nested, around, remote=remote).load(1)
    assert _infer(engine, 1) == [3]
    assert asked == [("inner", "p", None), ("second", "second", 2)]
    assert models.loaded == []


def test_members_of_a_pipeline_in_a_colocated_one_are_in_the_same_process(models):
    models.put("first", 1, factor=3)
    models.put("second", 2, factor=5)
    nested = _pipeline(placement="deployment")
    steps = [{"model": "p"}]
    around = PIPELINE.validate_python({"name": "around", "kind": "sequence", "steps": steps})
    assert _infer(_source(models, around, nested, around).load(1), 1) == [15]


def test_a_version_that_is_not_signed_fails_and_the_running_one_goes_on(models, tmp_path):
    key = Ed25519PrivateKey.generate()
    pem = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()
    trust = Trust(require_signed=True, public_keys=(pem,))
    repository = Repository(str(models.root), tmp_path / "cache", trust=trust)
    source_of = tmp_path / "source.keras"
    models.put("other", 1)
    shutil.copy(models.root / "other/1/model.keras", source_of)
    publish(source_of, repository, "digits", signer=Signer(key))
    source = RepositorySource(repository, "digits", RayActorOptions())
    recorder = FakeRecorder()
    model = LoadedModel(Model(name="digits"), source, recorder)
    asyncio.run(model.apply(VersionPolicy(latest=1), {}))
    publish(source_of, Repository(str(models.root), tmp_path / "cache"), "digits")  # by anybody
    asyncio.run(model.refresh())
    assert set(model.versions) == {1}
    assert "it is not signed (it has no manifest.json.sig)" in model.unavailable()[2]
    model.sample()
    assert recorder.gauges[("model_failed_versions",)] == 1
