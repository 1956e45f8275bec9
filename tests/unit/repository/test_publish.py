import contextlib
import errno
import multiprocessing
import os
import threading
import time
import uuid
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from serve.errors import ConfigError, RepositoryError
from serve.repository import publish as publishing
from serve.repository.progress import heard_by
from serve.repository.publish import publish
from serve.repository.repository import Repository
from serve.repository.store import Store
from serve.types import Signature, TensorSpec
from tests.stores import ERRORS, Outage, away
from tests.unit.repository.conftest import unprivileged

CONTEXT = multiprocessing.get_context("spawn")


def test_a_published_version_is_fetched_as_it_was(repository, saved_model):
    published = publish(saved_model, repository, "digits", metadata={"accuracy": 0.97})
    assert published.manifest.format == "savedmodel"
    assert published.path == repository.path("digits", 1)
    fetched = repository.fetch("digits", 1)
    for path in published.manifest.files:
        assert (fetched / path).read_bytes() == (saved_model / path).read_bytes()
    assert repository.manifest("digits", 1) == published.manifest
    assert repository.manifest("digits", 1).metadata == {"accuracy": 0.97}


def test_progress_of_each_step_is_told_up_to_the_last_byte(repository, saved_model):
    heard = []
    with heard_by(lambda *told: heard.append(told)):
        manifest = publish(saved_model, repository, "digits", validate=lambda staging: []).manifest
        repository.fetch("digits", 1)
    size = manifest.size_bytes
    phases = list(dict.fromkeys(phase for phase, *_ in heard))
    assert phases[:2] == ["copying", "trying"]
    assert ("copying", size, size) in heard
    if not repository.is_local:
        assert phases[2:4] == ["uploading", "fetching"]
        *_, (_, done, total) = (each for each in heard if each[0] == "uploading")
        assert done == total > size


def test_files_beside_the_model_are_kept_and_hidden_ones_left_out(repository, make, tmp_path):
    source = tmp_path / "trained"
    source.mkdir()
    make.keras(source / "model.keras")
    (source / "learning_curves.png").write_bytes(b"png")
    (source / ".DS_Store").write_bytes(b"x")
    published = publish(source, repository, "digits")
    assert set(published.manifest.files) == {"model.keras", "learning_curves.png"}


def test_the_next_number_is_above_incomplete_ones(repository, keras_file, put, tmp_path):
    (tmp_path / "half").mkdir()
    (tmp_path / "half/model.keras").write_bytes(b"PK")
    put(repository, tmp_path / "half", "digits", 6)
    assert publish(keras_file, repository, "digits").manifest.version == 7


def test_a_version_never_changes(repository, make, keras_file):
    before = publish(keras_file, repository, "digits", 3).manifest
    with pytest.raises(RepositoryError, match="has a version 3 already"):
        publish(make.keras(keras_file), repository, "digits", 3)
    assert repository.manifest("digits", 3) == before
    assert repository.versions("digits") == [3]


@pytest.mark.parametrize("name", ["", "a/b", "a:b", "../a", ".a", "a" * 64, "gateway", "a b"])
def test_a_name_that_cannot_be_served_is_refused(local, keras_file, name):
    with pytest.raises(RepositoryError, match="cannot name a model"):
        publish(keras_file, local, name)


@pytest.mark.parametrize("version", [-1, 2**63])
def test_a_number_that_is_no_version_is_refused(local, keras_file, version):
    with pytest.raises(RepositoryError, match="must be a number from 0 to 9223372036854775807"):
        publish(keras_file, local, "digits", version)


def test_a_model_that_does_not_validate_leaves_nothing(repository, keras_file):
    seen = []

    def validate(folder):
        seen.append((folder / "model.keras").read_bytes())
        raise RepositoryError("a layer is unknown")

    with pytest.raises(RepositoryError, match="a layer is unknown"):
        publish(keras_file, repository, "digits", validate=validate)
    assert seen == [keras_file.read_bytes()]
    assert repository.numbers("digits") == []


def test_a_version_published_again_keeps_its_baseline(repository, keras_file):
    def validate(folder):
        (folder / "drift-baseline.json").write_bytes(b"{}")
        return []

    before = publish(keras_file, repository, "digits", validate=validate).manifest
    again = publish(repository.fetch("digits", 1), repository, "copy").manifest
    assert again.files["drift-baseline.json"] == before.files["drift-baseline.json"]


def test_a_source_that_is_cut_off_is_refused(repository, keras_file):
    keras_file.write_bytes(keras_file.read_bytes()[:-30])
    with pytest.raises(RepositoryError, match="cut off"):
        publish(keras_file, repository, "digits")


def test_metadata_that_is_not_json_is_refused(repository, keras_file):
    with pytest.raises(RepositoryError, match="metadata is not JSON"):
        publish(keras_file, repository, "digits", metadata={"accuracy": object()})


def test_a_full_disk_is_said_and_leaves_nothing(local, keras_file, monkeypatch):
    def full(source, target, told):
        raise OSError(errno.ENOSPC, "No space left on device", str(target))

    monkeypatch.setattr(publishing, "copy_file", full)
    with pytest.raises(RepositoryError, match="no space is left"):
        publish(keras_file, local, "digits")
    assert not local.store.local_path("digits").exists()


class Interrupted(BaseException):
    """Like KeyboardInterrupt: nothing catches it on the way."""


@settings(max_examples=40, suppress_health_check=list(HealthCheck))
@given(local=st.booleans(), at=st.integers(0, 12), killed=st.booleans())
def test_no_interruption_leaves_a_broken_version(tmp_path_factory, make, local, at, killed):
    """`killed` also takes away the clearing up, as the end of the process does."""
    tmp_path = tmp_path_factory.mktemp("publish")
    source = make.saved_model(tmp_path / "source")
    root = str(tmp_path / "root") if local else f"memory://{tmp_path.name}-{at}-{killed}"
    repository = Repository(root, tmp_path / "cache")
    with pytest.MonkeyPatch.context() as patch:
        _interrupt(patch, at, killed)
        with contextlib.suppress(Interrupted):
            publish(source, repository, "digits")
    watcher = Repository(root, tmp_path / "cache")
    (tmp_path / "root").mkdir(exist_ok=True)
    for version in watcher.versions("digits"):
        fetched = watcher.fetch("digits", version)
        for path in (p for p in source.rglob("*") if p.is_file()):
            assert (fetched / path.relative_to(source)).read_bytes() == path.read_bytes()
    again = publish(source, watcher, "digits").manifest.version
    assert again in watcher.versions("digits")


def _interrupt(patch, at, killed):
    """Stop at the `at`-th step, a step being a file copied, uploaded, made or removed."""
    steps = iter(range(1000))

    def stopping(action):
        def step(*args):
            number = next(steps)
            if number == at or (killed and number > at):
                raise Interrupted
            return action(*args)

        return step

    patch.setattr(publishing, "copy_file", stopping(publishing.copy_file))
    patch.setattr(publishing.os, "rename", stopping(publishing.os.rename))
    for name in ("create", "upload", "remove"):
        patch.setattr(Store, name, stopping(getattr(Store, name)))
    if killed:
        patch.setattr(publishing.shutil, "rmtree", lambda *args, **kwargs: None)


@pytest.mark.parametrize("for_good", [False, True], ids=["once", "from then on"])
@pytest.mark.parametrize("is_local", [True, False], ids=["local", "memory"])
def test_a_store_that_goes_away_at_any_step_leaves_a_whole_version_or_none(
    tmp_path, make, is_local, for_good
):
    for at in range(100):
        folder = tmp_path / str(at)
        source = make.saved_model(folder / "source")
        (folder / "root").mkdir()
        root = str(folder / "root") if is_local else f"memory://{uuid.uuid4().hex}"
        repository = Repository(root, folder / "cache")
        outage = Outage(at, ERRORS["a broken connection"], for_good=for_good)
        published = None
        with away(repository, outage), contextlib.suppress(RepositoryError):
            published = publish(source, repository, "digits").manifest.version
        if published is None and not for_good:
            assert not repository.store.walk("digits").files
            assert ".publishing" not in repository.store.children("digits/1")  # its number is free
        again = publish(source, repository, "digits").manifest.version
        # A store that went away with the manifest may have it, though nobody heard so.
        unheard = {1} if for_good and not is_local else set()
        expected = {again, published} - {None}
        assert expected <= set(repository.versions("digits")) <= expected | unheard
        for version in repository.versions("digits"):
            fetched = repository.fetch("digits", version)
            for path in (p for p in source.rglob("*") if p.is_file()):
                assert (fetched / path.relative_to(source)).read_bytes() == path.read_bytes()
        staged = folder / ("root/digits" if is_local else "cache")
        assert list(staged.glob(".publishing-*")) == []
        if not outage.has_come:
            assert at > 3
            return


def test_a_replica_sees_nothing_of_an_upload_before_its_manifest(make, tmp_path, monkeypatch):
    repository = Repository(f"memory://{uuid.uuid4().hex}", tmp_path / "cache")
    upload, seen = Store.upload, []

    def watched(store, source, path, told):
        upload(store, source, path, told)
        seen.append((path.rpartition("/")[2], Repository(repository.root, tmp_path).versions("d")))

    monkeypatch.setattr(Store, "upload", watched)
    publish(make.keras(tmp_path / "a.keras"), repository, "d")
    assert seen == [("model.keras", []), ("manifest.json", [1])]


def test_a_rival_that_takes_the_number_first_keeps_it(local, make, tmp_path, monkeypatch):
    rename = publishing.os.rename

    def slow(staging, target):
        monkeypatch.setattr(publishing.os, "rename", rename)
        publish(make.keras(tmp_path / "rival.keras"), local, "digits")
        rename(staging, target)

    monkeypatch.setattr(publishing.os, "rename", slow)
    second = publish(make.keras(tmp_path / "own.keras"), local, "digits")
    assert second.manifest.version == 2
    first = local.fetch("digits", 1) / "model.keras"
    assert first.read_bytes() == (tmp_path / "rival.keras").read_bytes()


def _publish_some(root, cache, source, count, numbers):
    for _ in range(count):
        numbers.put(publish(source, Repository(root, cache), "digits").manifest.version)


def test_processes_that_publish_at_once_get_a_number_each(tmp_path, keras_file):
    numbers = CONTEXT.Queue()
    arguments = (str(tmp_path / "root"), tmp_path / "cache", keras_file, 8, numbers)
    workers = [CONTEXT.Process(target=_publish_some, args=arguments) for _ in range(3)]
    for worker in workers:
        worker.start()
    taken = sorted(numbers.get(timeout=60) for _ in range(24))
    for worker in workers:
        worker.join()
    assert taken == list(range(1, 25))
    assert Repository(str(tmp_path / "root"), tmp_path).versions("digits") == taken


@pytest.mark.parametrize("prefix", ["", "/some/prefix"])
def test_s3_holds_a_repository_from_an_empty_bucket_on(
    s3, prefix, saved_model, keras_file, tmp_path
):
    repository = Repository(s3 + prefix, tmp_path / "cache")
    assert repository.versions("digits") == []
    publish(saved_model, repository, "digits")
    publish(keras_file, repository, "digits")
    assert repository.models() == ["digits"]
    assert repository.versions("digits") == [1, 2]
    assert (repository.fetch("digits", 2) / "model.keras").read_bytes() == keras_file.read_bytes()
    with pytest.raises(RepositoryError, match="s3://elsewhere"):
        Repository("s3://elsewhere", tmp_path).versions("digits")


def test_publishers_to_s3_at_once_get_a_number_each(s3, keras_file, tmp_path):
    taken = []

    def some():
        for _ in range(3):
            repository = Repository(s3, tmp_path / "cache")
            taken.append(publish(keras_file, repository, "digits").manifest.version)

    threads = [threading.Thread(target=some) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(taken)) == 9
    assert Repository(s3, tmp_path / "cache").versions("digits") == sorted(taken)


def _refusal(source, repository, **options):
    with pytest.raises(RepositoryError) as refused:
        publish(source, repository, "digits", **options)
    said = str(refused.value)
    assert ".publishing" not in said
    assert str(source) in said
    assert repository.numbers("digits") == []
    return said


@pytest.mark.parametrize("kind", ["file", "folder"])
def test_whatever_loading_raises_becomes_a_sentence_about_the_source(
    repository, make, tmp_path, kind
):
    (tmp_path / "mine").mkdir()
    file = make.keras(tmp_path / "mine/digits.keras")

    def raises(staging):
        (model,) = staging.glob("*.keras")
        raise TypeError(f"cannot make a tensor of None in {model}\nStack trace:\n...")

    source = file if kind == "file" else file.parent
    said = _refusal(source, repository, validate=raises)
    assert "loading or running it fails: TypeError: cannot make a tensor of None" in said
    assert "Stack" not in said


def test_an_error_of_the_models_own_names_the_source_and_stays_what_it_is(repository, keras_file):
    def refuses(staging):
        raise ConfigError(f"{staging}/model.keras: the rows do not fit")

    with pytest.raises(ConfigError) as refused:
        publish(keras_file, repository, "digits", validate=refuses)
    assert str(refused.value) == f"{keras_file}: the rows do not fit"


def test_links_are_published_as_what_they_point_to(repository, make, tmp_path):
    model = make.saved_model(tmp_path / "model")
    (model / "variables").rename(tmp_path / "elsewhere")
    (model / "variables").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "linked").symlink_to(model)
    publish(tmp_path / "linked", repository, "digits")
    fetched = repository.fetch("digits", 1)
    assert not (fetched / "variables").is_symlink()
    index = "variables/variables.index"
    assert (fetched / index).read_bytes() == (model / index).read_bytes()


def test_what_cannot_be_read_of_a_source_is_said(readable_root, repository, make):
    circle = make.saved_model(readable_root / "circle")
    (circle / "assets/again").symlink_to("..")
    nowhere = make.saved_model(readable_root / "nowhere")
    (nowhere / "assets/words.txt").symlink_to("/nowhere")
    loop = readable_root / "loop.keras"
    loop.symlink_to(loop)
    odd = make.saved_model(readable_root / "odd")
    (odd / "assets" / os.fsdecode(b"w\xff")).write_bytes(b"x")
    weights = make.h5(readable_root / "digits.weights.h5")
    os.mkfifo(readable_root / "pipe.keras")
    graph = make.saved_model(readable_root / "whole") / "saved_model.pb"
    cut = make.saved_model(readable_root / "cut")
    (cut / "saved_model.pb").write_bytes(graph.read_bytes()[:-9])
    said = {
        source: _refusal(source, repository)
        for source in (circle, nowhere, loop, odd, weights, graph, cut)
    }
    said |= {name: _refusal(readable_root / name, repository) for name in ("gone", "pipe.keras")}
    assert "assets/again cannot be read: it is a link to a folder that it is in" in said[circle]
    assert "assets/words.txt cannot be read: it is a link to '/nowhere', which" in said[nowhere]
    assert "Too many levels of symbolic links" in said[loop]
    assert "rename its file 'assets/w\\udcff'" in said[odd]
    assert "it holds weights alone" in said[weights]
    assert "No such file or directory" in said["gone"]
    assert "it is neither a file nor a folder" in said["pipe.keras"]
    assert "publish its folder" in said[graph]
    assert "saved_model.pb is cut off or corrupt" in said[cut]


def test_a_source_that_may_not_be_read_is_refused_for_that(readable_root, make):
    folder, file = make.saved_model(readable_root / "a"), make.keras(readable_root / "b.keras")
    (readable_root / "models").mkdir()
    for path, mode in ((readable_root / "models", 0o777), (folder / "variables", 0), (file, 0)):
        path.chmod(mode)
    with unprivileged():
        repository = Repository(str(readable_root / "models"), readable_root)
        assert "variables cannot be read: permission denied" in _refusal(folder, repository)
        assert "Permission denied" in _refusal(file, repository)
    (folder / "variables").chmod(0o755)


def test_a_number_whose_folder_has_zeros_in_front_is_taken(repository, put, keras_file, tmp_path):
    (tmp_path / "one").mkdir()
    (tmp_path / "one/model.keras").write_bytes(keras_file.read_bytes())
    put(repository, tmp_path / "one", "digits", "0007")
    with pytest.raises(RepositoryError, match="has a version 7 already"):
        publish(keras_file, repository, "digits", 7)
    assert publish(keras_file, repository, "digits", 0).manifest.version == 0
    assert publish(keras_file, repository, "digits").manifest.version == 8


def test_after_the_last_number_there_is_no_next_one(repository, keras_file):
    publish(keras_file, repository, "digits", 2**63 - 1)
    with pytest.raises(RepositoryError, match="after which there is no next number"):
        publish(keras_file, repository, "digits")


def test_what_a_version_changes_is_told_by_the_signature_before_it(repository, keras_file):
    def signature(name):
        specs = (TensorSpec(name, "FP32", (-1,)),)
        return lambda staging: [Signature("serving_default", specs, specs, True)]

    first = publish(keras_file, repository, "digits", validate=signature("a"))
    second = publish(keras_file, repository, "digits", validate=signature("b"))
    without = publish(keras_file, repository, "digits")
    after_it = publish(keras_file, repository, "digits", validate=signature("b"))
    assert (first.changes, first.before) == ((), None)
    assert second.changes == ("input 'a' is now 'b'", "output 'a' is now 'b'")
    assert second.before == 1
    assert (without.changes, after_it.changes) == ((), ())


def _stage_and_wait(root, cache, source, pipe):
    def validate(staging):
        pipe.send(str(staging))
        pipe.recv()

    publish(source, Repository(root, cache), "digits", validate=validate)


def test_what_a_killed_publisher_staged_is_removed_by_a_later_one(repository_url, make, tmp_path):
    source = make.keras(tmp_path / "a.keras")
    pipe, theirs = CONTEXT.Pipe()
    arguments = (repository_url, tmp_path / "cache", source, theirs)
    publisher = CONTEXT.Process(target=_stage_and_wait, args=arguments)
    publisher.start()
    staging = Path(pipe.recv())

    def publish_after(seconds):
        written = time.time() - seconds
        for path in (staging / "model.keras", staging.with_name(f"{staging.name}.lock")):
            os.utime(path, (written, written))
        publish(source, Repository(repository_url, tmp_path / "cache"), "digits")
        return staging.is_dir()

    assert publish_after(7200)  # its publisher lives
    publisher.kill()
    publisher.join()
    assert publish_after(60)  # it may live on another machine
    assert not publish_after(7200)
    left = [path.name for path in staging.parent.iterdir() if path.name.startswith(".publishing")]
    assert left == []
