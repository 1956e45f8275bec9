import os

import pytest
from bench.pools import pool_config, publish_copies, resident_bytes

from serve.errors import ServeError


def test_the_newest_version_is_there_under_every_name_and_takes_no_more_disk(tmp_path):
    model = tmp_path / "models" / "digits"
    for number in (2, 10):
        (model / str(number)).mkdir(parents=True)
        (model / str(number) / "model.keras").write_text(f"version {number}")
    (model / "notes").mkdir()
    folder = tmp_path / "copies"
    names = publish_copies(model, folder, 3)
    assert names == ["digits-000", "digits-001", "digits-002"]
    for name in ("digits", *names):
        copy = folder / name / "10" / "model.keras"
        assert copy.read_text() == "version 10"
        assert os.path.samefile(copy, model / "10" / "model.keras")
        assert [path.name for path in (folder / name).iterdir()] == ["10"]


def test_a_model_without_versions_is_told(tmp_path):
    with pytest.raises(ServeError, match="holds no version; strata train digits"):
        publish_copies(tmp_path / "digits", tmp_path / "copies", 2)


def test_the_copies_share_a_pool_and_the_one_by_itself_has_as_many_cores(tmp_path):
    config = pool_config(tmp_path, ["digits-000", "digits-001"], cpus=2)
    alone, pool = config.processes
    assert (alone.name, pool.name) == ("digits", "many")
    assert alone.ray_actor_options == pool.ray_actor_options
    assert [model.name for model in config.members_of("many")] == ["digits-000", "digits-001"]


def test_a_replica_that_does_not_run_has_no_memory():
    with pytest.raises(ServeError, match="no replica of 'nobody'"):
        resident_bytes("nobody")
