"""What a platform that is hurt is made of, without starting one."""

from pathlib import Path

import pytest
import yaml
from reliability.local import LABELLED, Local, model_of, role_of
from reliability.local_faults import local_faults

from serve.config.schema import Config
from serve.errors import ServeError


def test_its_file_is_a_config_with_every_way_to_serve(tmp_path):
    platform = Local(tmp_path, Path("models"))
    config = Config.model_validate(yaml.safe_load(platform.config.read_text()))
    by_name = {model.name: model for model in config.models}
    assert by_name["digits"].autoscaling.min_replicas == 2
    assert by_name["digits"].engine.use == "openvino"
    assert by_name[LABELLED].engine.use == "tensorflow"
    assert by_name["digits-small"].pool == "shared"
    assert [pipeline.name for pipeline in config.pipelines] == ["digits-layered"]
    assert config.repository.root == str(tmp_path / "models")


def test_a_source_is_its_newest_version(tmp_path):
    for version in ("2", "10", "9"):
        (tmp_path / "digits" / version).mkdir(parents=True)
    platform = Local(tmp_path, tmp_path)
    assert platform.version("digits").name == "10"
    with pytest.raises(ServeError, match="no version of language; strata train language"):
        platform.version("language")


@pytest.mark.parametrize(
    ("command", "role"),
    [
        ("ray::ServeReplica:digits:model", "replica:digits"),
        ("ray::ServeReplica:pool-shared:pool.handle_request", "replica:pool-shared"),
        ("ray::ServeReplica:gateway:gateway", "gateway"),
        ("ray::ServeController.listen_for_change", "controller"),
        ("/x/bin/haproxy -db -f /tmp/strata-1/n/haproxy.cfg -sf 12", "haproxy"),
        ("ray::HAProxyManager", "HAProxyManager"),
        ("/x/raylet/raylet --agent=python /x/dashboard/agent.py --worker=python w.py", "raylet"),
        ("/x/ray/core/src/ray/gcs/gcs_server --log_dir=/tmp/ray", "gcs_server"),
    ],
)
def test_processes_are_told_by_what_they_are(command, role):
    assert role_of(command) == role


def test_a_model_is_found_in_the_file():
    tree = {"models": [{"name": "a"}, {"name": "b", "pool": "p"}]}
    assert model_of(tree, "b") is tree["models"][1]


def test_what_ends_the_platform_is_the_last_fault():
    faults = local_faults()
    assert [each.ends for each in faults] == [False] * (len(faults) - 1) + [True]
    assert len({each.name for each in faults}) == len(faults)


def test_a_version_comes_with_what_was_found_out_of_its_engines(tmp_path):
    models = tmp_path / "from"
    for source in ("digits", "digits-small"):
        (models / source / "1").mkdir(parents=True)
        (models / source / ".engines" / f"files-of-{source}").mkdir(parents=True)
    (tmp_path / "to").mkdir()
    platform = Local(tmp_path / "to", models)
    platform.put("digits", "digits")
    platform.put_engines("digits-small", "digits")
    found = sorted(path.name for path in (platform.repository / "digits" / ".engines").iterdir())
    assert found == ["files-of-digits", "files-of-digits-small"]
    assert platform.newest == {"digits": 1}
