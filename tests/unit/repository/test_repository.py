import os
import shutil
import subprocess
import sys
import threading
import uuid

import pytest

from serve.errors import RepositoryError
from serve.repository import completeness
from serve.repository import manifest as manifests
from serve.repository.layout import BASELINE, MANIFEST, NO_NUMBER
from serve.repository.publish import publish
from serve.repository.repository import Repository
from serve.repository.trust import Trust
from tests.unit.repository.conftest import unprivileged


def test_only_whole_versions_with_a_number_are_listed_and_other_folders_told(
    repository, put, saved_model, tmp_path
):
    for name in (9, 10, "0", "00000123", 2**63 - 1, ".2", "v1", "1.0", "3.tmp", "-4", 2**63):
        put(repository, saved_model, "digits", name)
    (saved_model / "variables/variables.index").unlink()
    put(repository, saved_model, "digits", 11)
    assert repository.versions("digits") == [0, 9, 10, 123, 2**63 - 1]
    others = dict.fromkeys(("-4", "1.0", "3.tmp", "9223372036854775808", "v1"), NO_NUMBER)
    missing = {11: "variables/variables.index is missing"}
    assert repository.incomplete("digits") == {**missing, **others}
    assert repository.models() == ["digits"]
    assert repository.versions("letters") == []


def test_a_version_is_fetched_from_the_folder_that_its_number_stands_for(
    repository, put, make, tmp_path
):
    for name in ("0000", "00000123", "123"):
        (tmp_path / name).mkdir()
        make.keras(tmp_path / name / "model.keras")
        put(repository, tmp_path / name, "digits", name)
    for number, name in ((0, "0000"), (123, "123")):
        fetched = repository.fetch("digits", number) / "model.keras"
        assert fetched.read_bytes() == (tmp_path / name / "model.keras").read_bytes()
        assert repository.path("digits", number).endswith(f"digits/{name}")
    assert repository.choose("digits", 0) == 0
    with pytest.raises(RepositoryError, match="has a version 123 already"):
        publish(tmp_path / "0000", repository, "digits", 123)
    assert publish(tmp_path / "0000", repository, "digits").manifest.version == 124


def test_a_broken_manifest_hides_its_version_and_no_other(repository, keras_file, tmp_path):
    for _ in range(2):
        publish(keras_file, repository, "digits")
    (tmp_path / "cut").write_bytes(b'{"model": "dig')
    repository.store.upload(tmp_path / "cut", f"digits/2/{MANIFEST}")
    assert repository.versions("digits") == [1]
    assert "manifest.json is broken" in repository.incomplete("digits")[2]


def test_a_manifest_cannot_reach_out_of_its_folder(repository, keras_file, tmp_path):
    publish(keras_file, repository, "digits")
    text = repository.store.read(f"digits/1/{MANIFEST}").replace(b"model.keras", b"../../secret")
    (tmp_path / "evil").write_bytes(text)
    repository.store.upload(tmp_path / "evil", f"digits/1/{MANIFEST}")
    with pytest.raises(RepositoryError, match="leaves the version's folder"):
        repository.fetch("digits", 1)


def test_a_tampered_file_is_refused_with_both_hashes(repository, keras_file, tmp_path):
    published = publish(keras_file, repository, "digits")
    altered = bytearray(keras_file.read_bytes())
    altered[100] ^= 1
    (tmp_path / "altered").write_bytes(altered)
    repository.store.upload(tmp_path / "altered", "digits/1/model.keras")
    expected = published.manifest.files["model.keras"].sha256
    with pytest.raises(
        RepositoryError, match=rf"model\.keras.*expected {expected}, found [0-9a-f]"
    ):
        repository.fetch("digits", 1)


def test_an_added_model_file_does_not_replace_the_published_one(
    local, keras_file, saved_model, put
):
    publish(keras_file, local, "digits")
    put(local, saved_model, "digits", 1)
    with pytest.raises(RepositoryError, match="another model"):
        local.fetch("digits", 1)


def test_a_fetched_copy_is_reused_and_a_spoilt_one_made_anew(keras_file, tmp_path, monkeypatch):
    repository = Repository("memory://reused", tmp_path / "cache")
    publish(keras_file, repository, "digits")
    first = repository.fetch("digits", 1)
    download = repository.store.download
    downloads = []
    monkeypatch.setattr(
        repository.store, "download", lambda *a: (downloads.append(a), download(*a))
    )
    assert repository.fetch("digits", 1) == first
    assert downloads == []
    (first / "model.keras").write_bytes(b"spoilt")
    assert (repository.fetch("digits", 1) / "model.keras").read_bytes() == keras_file.read_bytes()
    assert len(downloads) == 2


def test_replicas_that_fetch_at_once_share_one_copy(keras_file, tmp_path):
    publish(keras_file, Repository("memory://shared", tmp_path / "cache"), "digits")
    paths = []

    def fetch():
        paths.append(Repository("memory://shared", tmp_path / "cache").fetch("digits", 1))

    threads = [threading.Thread(target=fetch) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(paths) == 8
    assert len(set(paths)) == 1
    visible = [p.name for p in paths[0].parent.iterdir() if not p.name.startswith(".")]
    assert visible == [paths[0].name]


def test_an_unknown_version_names_those_there_are(repository, keras_file):
    publish(keras_file, repository, "digits", 4)
    with pytest.raises(RepositoryError, match=r"no version 7 .*\(available: 4\)"):
        repository.fetch("digits", 7)


def test_a_missing_root_is_an_error_and_a_missing_model_is_not(tmp_path):
    with pytest.raises(RepositoryError, match=r"nowhere.*no such folder"):
        Repository(str(tmp_path / "nowhere"), tmp_path).versions("digits")


def test_a_missing_library_says_what_to_install(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "gcsfs", None)
    with pytest.raises(RepositoryError, match=r"pip install 'strata-serve\[gs\]'"):
        Repository("gs://bucket", tmp_path)


def test_versions_are_read_over_http(http_root, keras_file, saved_model, put, tmp_path):
    folder, url = http_root
    publish(keras_file, Repository(str(folder), tmp_path), "digits")
    put(Repository(str(folder), tmp_path), saved_model, "digits", 2)
    repository = Repository(url, tmp_path / "cache")
    assert repository.models() == ["digits"]
    assert repository.versions("digits") == [1, 2]
    assert (repository.fetch("digits", 1) / "model.keras").read_bytes() == keras_file.read_bytes()
    fetched = repository.fetch("digits", 2) / "variables/variables.index"
    assert fetched.read_bytes() == (saved_model / "variables/variables.index").read_bytes()
    with pytest.raises(RepositoryError, match="read-only"):
        publish(keras_file, repository, "digits")


def test_a_server_that_is_away_is_an_error_that_names_the_root(tmp_path):
    with pytest.raises(RepositoryError, match=r"repository 'http://127\.0\.0\.1:9'"):
        Repository("http://127.0.0.1:9", tmp_path).versions("digits")


def test_a_version_that_was_completed_later_appears(repository, put, keras_file, make, tmp_path):
    source = tmp_path / "s"
    source.mkdir()
    (source / "m.keras").write_bytes(keras_file.read_bytes()[:500])
    put(repository, source, "digits", 1)
    assert repository.versions("digits") == []
    make.keras(source / "m.keras")
    put(repository, source, "digits", 1)
    assert repository.versions("digits") == [1]


def _put_file(repository, path, target):
    if repository.is_local:
        repository.store.local_path(target).parent.mkdir(parents=True, exist_ok=True)
    repository.store.upload(path, target)


def test_one_number_with_other_files_has_another_revision_and_is_fetched_anew(
    repository, make, tmp_path
):
    fetched = []
    for name in ("first.keras", "second.keras"):
        _put_file(repository, make.keras(tmp_path / name), "digits/1/model.keras")
        fetched.append((repository.look("digits").revisions[1], repository.fetch("digits", 1)))
        assert (fetched[-1][1] / "model.keras").read_bytes() == (tmp_path / name).read_bytes()
    assert fetched[0][0] != fetched[1][0]
    assert repository.is_local or fetched[0][1] != fetched[1][1]


def test_s3_objects_that_were_overwritten_have_another_revision(s3, make, tmp_path):
    repository = Repository(s3, tmp_path / "cache")
    revisions = []
    for name in ("first.keras", "second.keras"):
        repository.store.upload(make.keras(tmp_path / name), "digits/1/model.keras")
        revisions.append(repository.look("digits").revisions[1])
    assert repository.look("digits").revisions[1] == revisions[1] != revisions[0]
    fetched = repository.fetch("digits", 1) / "model.keras"
    assert fetched.read_bytes() == (tmp_path / "second.keras").read_bytes()


def test_a_page_that_says_when_a_file_changed_tells_its_revisions_apart(http_root, make, tmp_path):
    folder, url = http_root
    (folder / "digits/1").mkdir(parents=True)
    file = make.keras(folder / "digits/1/model.keras")
    repository = Repository(url, tmp_path / "cache")
    before = repository.look("digits").revisions[1]
    os.utime(file, (1, 1))
    assert repository.look("digits").revisions[1] != before


def test_a_version_that_changes_while_it_is_read_is_not_loaded_from_both(
    local, put, make, keras_file, tmp_path
):
    _put_file(local, keras_file, "digits/1/model.keras")
    changed = pytest.raises(RepositoryError, match=r"digits/1' changed while it was read")
    with changed, local.reading("digits", 1):
        _put_file(local, make.keras(tmp_path / "b.keras"), "digits/1/model.keras")
    with changed, local.reading("digits", 1):
        _put_file(local, make.keras(tmp_path / "c.keras"), "digits/1/model.keras")
        raise ValueError("half of one and half of the other")
    with pytest.raises(ValueError, match="a fault of its own"), local.reading("digits", 1):
        raise ValueError("a fault of its own")
    with local.reading("digits", 1) as fetched:
        assert fetched.revision == local.look("digits").revisions[1]


def test_a_link_that_is_swapped_while_it_is_read_is_a_change_though_both_look_the_same(
    local, make, tmp_path
):
    root = local.store.local_path("")
    for name in "ab":
        (root / "digits" / name).mkdir(parents=True)
    file = make.keras(root / "digits/a/model.keras")
    os.link(file, root / "digits/b/model.keras")
    link = local.store.local_path("digits/1")
    link.symlink_to("a")

    def swap():
        link.unlink()
        link.symlink_to("b")

    with pytest.raises(RepositoryError, match="changed"), local.reading("digits", 1):
        swap()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may put a process into another root")
def test_a_root_that_leads_into_the_root_of_another_process_is_read_there(make, tmp_path):
    """As KServe's model cars do: the path of what it leads to is one of the other process's."""
    make.saved_model(tmp_path / "jail/models/digits/1")
    program = f"import os; os.chroot({str(tmp_path / 'jail')!r}); print(flush=True); os.read(0, 1)"
    car = subprocess.Popen(
        [sys.executable, "-S", "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    with car:
        car.stdout.readline()
        (tmp_path / "mnt").symlink_to(f"/proc/{car.pid}/root/models")
        repository = Repository(str(tmp_path / "mnt"), tmp_path)
        with repository.reading("digits", 1) as fetched:
            assert (fetched.path / "saved_model.pb").is_file()
        car.communicate()


def test_an_object_that_changes_while_it_is_copied_is_not_kept(keras_file, make, tmp_path):
    repository = Repository(f"memory://{uuid.uuid4().hex}", tmp_path / "cache")
    repository.store.upload(keras_file, "digits/1/model.keras")
    download = repository.store.download

    def overtaken(path, target, *rest):
        download(path, target, *rest)
        repository.store.upload(make.keras(tmp_path / "b.keras"), "digits/1/model.keras")

    repository.store.download = overtaken
    with pytest.raises(RepositoryError, match="changed while it was copied"):
        repository.fetch("digits", 1)
    repository.store.download = download
    fetched = repository.fetch("digits", 1) / "model.keras"
    assert fetched.read_bytes() == (tmp_path / "b.keras").read_bytes()


def _harm(file):
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(data)


@pytest.mark.parametrize("large_bytes", [0, 10**9])
def test_a_file_that_is_not_what_was_published_is_told_before_or_once_it_was_read(
    large_bytes, local, saved_model, monkeypatch
):
    monkeypatch.setattr(manifests, "LARGE_BYTES", large_bytes)
    publish(saved_model, local, "digits")
    shard = next(local.store.local_path("digits/1").glob("variables/*.data-*"))
    _harm(shard)
    entered = []
    with (
        pytest.raises(RepositoryError, match=f"{shard.name}' is not the file that was published"),
        local.reading("digits", 1),
    ):
        entered.append("its engine is loaded")
    assert bool(entered) == (large_bytes == 0)
    with pytest.raises(RepositoryError, match="is not the file that was published"):
        local.fetch("digits", 1)


def test_a_large_file_that_cannot_be_loaded_is_told_by_its_hash(local, saved_model, monkeypatch):
    monkeypatch.setattr(manifests, "LARGE_BYTES", 0)
    publish(saved_model, local, "digits")
    _harm(next(local.store.local_path("digits/1").glob("variables/*.data-*")))
    with (
        pytest.raises(RepositoryError, match="is not the file that was published"),
        local.reading("digits", 1),
    ):
        raise RepositoryError("cannot be loaded as a SavedModel")


def test_a_published_version_that_was_overwritten_says_so_and_not_that_it_is_missing(
    repository, keras_file, make, tmp_path
):
    publish(keras_file, repository, "digits")
    repository.store.upload(make.h5(tmp_path / "other.h5"), "digits/1/model.keras")
    said = repository.incomplete("digits")[1]
    assert "model.keras is not the file that was published: it has" in said
    assert "publish it as a new version" in said
    assert said in repository.look("digits").absence
    for ask in (lambda: repository.choose("digits", None), lambda: repository.choose("digits", 1)):
        with pytest.raises(RepositoryError, match="not the file that was published"):
            ask()


def test_one_unreadable_version_or_file_is_told_and_the_others_are_served(readable_root, make):
    for model in "abc":
        for number in "12":
            make.saved_model(readable_root / model / number)
    closed = [
        readable_root / "a/2",
        readable_root / "b/2/saved_model.pb",
        readable_root / "c/2/variables/variables.data-00001-of-00002",
    ]
    for path in closed:
        path.chmod(0)
    with unprivileged():
        repository = Repository(str(readable_root), readable_root)
        looks = {model: repository.look(model) for model in repository.models()}
    assert {model: list(found.revisions) for model, found in looks.items()} == {
        "a": [1], "b": [1], "c": [1]
    }  # fmt: skip
    assert [found.problems[2] for found in looks.values()] == [
        "the folder cannot be read: permission denied",
        "saved_model.pb cannot be read: permission denied",
        "variables/variables.data-00001-of-00002 cannot be read: permission denied",
    ]
    for path in closed:
        path.chmod(0o755)


def test_a_file_that_is_not_the_models_may_be_unreadable(readable_root, make):
    make.saved_model(readable_root / "m/1")
    (readable_root / "m/1/train.log").write_bytes(b"x")
    (readable_root / "m/1/train.log").chmod(0)
    (readable_root / "m/1/README").symlink_to("/nowhere")
    with unprivileged():
        assert Repository(str(readable_root), readable_root).versions("m") == [1]


def test_one_object_that_may_not_be_read_does_not_take_the_others_along(
    repository, put, keras_file, tmp_path, monkeypatch
):
    if repository.is_local:
        pytest.skip("files have their own test")
    for number in (1, 2):
        repository.store.upload(keras_file, f"digits/{number}/model.keras")
    opened = repository.store._fs.open

    def forbidding(path, *arguments, **options):
        if "/digits/2/" in path:
            raise PermissionError(13, "Access Denied")
        return opened(path, *arguments, **options)

    monkeypatch.setattr(repository.store._fs, "open", forbidding)
    assert repository.versions("digits") == [1]
    assert repository.incomplete("digits") == {2: "it cannot be read: Access Denied"}


def test_a_store_that_is_away_is_an_error_and_no_version_that_is_not_there(
    repository, keras_file, monkeypatch
):
    if repository.is_local:
        pytest.skip("a disk has no network")
    repository.store.upload(keras_file, "digits/1/model.keras")

    def away(*arguments, **options):
        raise ConnectionError("the network is away")

    monkeypatch.setattr(repository.store._fs, "open", away)
    with pytest.raises(RepositoryError, match="the network is away"):
        repository.versions("digits")


def test_folders_that_hold_no_model_say_why(local, make, saved_model):
    (local.store.local_path("")).rmdir()
    saved_model.rename(local.store.local_path(""))  # a model where the models should be
    root = local.store.local_path("")
    make.saved_model(root / "flat")
    (root / "named/v1").mkdir(parents=True)
    (root / "empty").mkdir()
    make.saved_model(root / "fine/1")
    folders = local.folders()
    assert folders["fine"] is None
    assert (
        f"holds saved_model.pb itself; move what is in it into a version folder, '{root}/flat/1'"
        in folders["flat"]
    )
    assert "'v1': its name is no version" in folders["named"]
    assert "holds no complete version; publish one" in folders["empty"]
    assert local.models() == ["fine"]


def test_a_misspelt_model_is_told_from_one_without_a_version(local, keras_file):
    publish(keras_file, local, "digits")
    with pytest.raises(RepositoryError, match=r"no folder 'digit' .*did you mean 'digits'\?"):
        local.choose("digit", None)


def _swap_bytes(file):
    """Write other bytes of the same size into a file, and give it the times that it had."""
    before = file.stat()
    _harm(file)
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))


@pytest.mark.parametrize("harmed", ["model.keras", MANIFEST])
def test_a_copy_that_was_altered_in_the_cache_is_found_by_its_hash_and_made_anew(
    harmed, keras_file, tmp_path
):
    root = f"memory://{uuid.uuid4().hex}"
    publish(keras_file, Repository(root, tmp_path / "cache"), "digits")
    copy = Repository(root, tmp_path / "cache").fetch("digits", 1)
    whole = (copy / harmed).read_bytes()
    _swap_bytes(copy / harmed)
    with Repository(root, tmp_path / "cache").reading("digits", 1) as fetched:
        assert (fetched.path / harmed).read_bytes() == whole


def test_variables_that_were_altered_in_the_cache_are_found_once_they_are_read_and_made_anew(
    saved_model, tmp_path, monkeypatch
):
    monkeypatch.setattr(manifests, "LARGE_BYTES", 0)
    root = f"memory://{uuid.uuid4().hex}"
    publish(saved_model, Repository(root, tmp_path / "cache"), "digits")
    copy = Repository(root, tmp_path / "cache").fetch("digits", 1)
    _swap_bytes(next(copy.glob("variables/*.data-*")))
    repository, reads = Repository(root, tmp_path / "cache"), []
    with pytest.raises(RepositoryError, match="not the file that was published"):
        repository.fetch("digits", 1)
    assert not any(repository._cache._held.values())
    _swap_bytes(next(repository.fetch("digits", 1).glob("variables/*.data-*")))
    with (
        pytest.raises(RepositoryError, match="not the file that was published"),
        repository.reading("digits", 1),
    ):
        reads.append("half")
    with repository.reading("digits", 1):
        reads.append("whole")
    assert reads == ["half", "whole"]


@pytest.mark.parametrize("where", ["local", "memory"])
def test_a_file_that_is_altered_after_it_was_verified_is_not_served(
    where, keras_file, tmp_path, local
):
    """Also with its size and its times as they were: the kernel's own time of change tells."""
    memory = Repository(f"memory://{uuid.uuid4().hex}", tmp_path / "cache")
    repository = local if where == "local" else memory
    publish(keras_file, repository, "digits")
    with (
        pytest.raises(RepositoryError, match="changed while it was read"),
        repository.reading("digits", 1) as fetched,
    ):
        _swap_bytes(fetched.path / "model.keras")


@pytest.mark.parametrize("kind", ["keras", "saved_model"])
def test_of_a_large_version_all_is_verified_first_but_the_numbers_of_its_variables(
    kind, local, make, tmp_path, monkeypatch
):
    monkeypatch.setattr(manifests, "LARGE_BYTES", 0)
    source = getattr(make, kind)(tmp_path / ("m.keras" if kind == "keras" else "saved"))
    publish(source, local, "digits")
    file = "model.keras" if kind == "keras" else "saved_model.pb"
    _harm(local.store.local_path(f"digits/1/{file}"))
    with pytest.raises(RepositoryError, match="not the file"), local.reading("digits", 1):
        pytest.fail("it is loaded before it is known to be what was published")


@pytest.mark.parametrize(
    "added",
    [
        "sample.npz",
        "assets.extra/tf_serving_warmup_requests",
        "assets/words.txt",
        "variables/more",
        "keras_metadata.pb",
    ],
)
def test_a_file_that_a_load_would_read_and_that_was_not_published_is_refused(
    added, repository, saved_model, tmp_path
):
    publish(saved_model, repository, "digits")
    (tmp_path / "added").write_bytes(b"x")
    if repository.is_local:
        repository.store.local_path(f"digits/1/{added}").parent.mkdir(exist_ok=True)
    repository.store.upload(tmp_path / "added", f"digits/1/{added}")
    assert (
        f"it holds {added}, which manifest.json does not list"
        in (repository.incomplete("digits")[1])
    )


def test_a_note_beside_a_published_model_is_nobodys_business(repository, saved_model, tmp_path):
    publish(saved_model, repository, "digits")
    (tmp_path / "README").write_text("what this is")
    repository.store.upload(tmp_path / "README", "digits/1/README")
    assert repository.fetch("digits", 1)


def test_a_baseline_that_was_not_published_is_not_read(local, keras_file):
    publish(keras_file, local, "digits")
    (local.store.local_path("digits/1") / BASELINE).write_text("{}")
    with pytest.raises(RepositoryError, match="not in manifest"):
        local.baseline(local.fetch("digits", 1))


def test_a_version_whose_manifest_was_removed_is_none_until_its_folder_was_gone(
    local, keras_file, put, tmp_path
):
    publish(keras_file, local, "digits")
    assert local.versions("digits") == [1]
    folder = local.store.local_path("digits/1")
    (folder / MANIFEST).unlink()
    assert (
        "its manifest.json, which vouched for its files, is gone" in (local.incomplete("digits")[1])
    )
    with pytest.raises(RepositoryError, match="vouched"):
        local.fetch("digits", 1)
    folder.rename(tmp_path / "aside")
    assert local.versions("digits") == []
    (tmp_path / "aside").rename(folder)
    assert local.versions("digits") == [1]


def test_a_manifest_too_large_to_be_one_is_not_read(repository, keras_file, tmp_path, monkeypatch):
    publish(keras_file, repository, "digits")
    monkeypatch.setattr(completeness, "MOST_BYTES", 10)
    with pytest.raises(RepositoryError, match=r"manifest\.json has more than 10 bytes"):
        repository.fetch("digits", 1)


def _linked(root, kind, saved_model):
    """Make version 1 of `m` a valid one but for a link that leads out of the root; return that."""
    outside = root.parent / "outside"
    outside.mkdir()
    version = root / "m/1"
    if kind == "model":
        shutil.copytree(saved_model, outside / "m/1")
        link = root / "m"
        link.symlink_to(outside / "m")
        return link, outside / "m"
    if kind == "version":
        version.parent.mkdir()
        shutil.copytree(saved_model, outside / "a")
        version.symlink_to(outside / "a")
        return version, outside / "a"
    shutil.copytree(saved_model, version)
    moved = version / ("variables" if kind == "folder" else "saved_model.pb")
    shutil.move(moved, outside / moved.name)
    (root / "hop").symlink_to(outside)
    moved.symlink_to(f"../../hop/{moved.name}" if kind == "hop" else outside / moved.name)
    return moved, outside / moved.name


@pytest.mark.parametrize("kind", ["model", "version", "folder", "file", "hop"])
def test_a_link_out_of_the_root_is_told_with_its_target_and_the_key_that_allows_it(
    kind, tmp_path, saved_model
):
    root = tmp_path / "root"
    root.mkdir()
    link, target = _linked(root, kind, saved_model)
    repository = Repository(str(root), tmp_path / "cache")
    with pytest.raises(RepositoryError) as caught:
        repository.fetch("m", 1)
    for part in (f"'{link}' is a link to '{target}'", "repository.allow_outside_links: true"):
        assert part in str(caught.value)
        told = repository.folders() if kind == "model" else repository.incomplete("m")
        assert part in told["m" if kind == "model" else 1]
    trusting = Repository(str(root), tmp_path / "cache", trust=Trust(allow_outside_links=True))
    assert (trusting.fetch("m", 1) / "saved_model.pb").is_file()


def test_links_within_the_root_and_to_the_root_go_on_working(tmp_path, saved_model):
    root = tmp_path / "root"
    shutil.copytree(saved_model, root / ".store/a/1")
    (root / "m").symlink_to(".store/a")
    (root / "n").mkdir()
    (root / "n/1").symlink_to(root / ".store/a/1")
    (tmp_path / "link").symlink_to(root)
    for place in (root, tmp_path / "link"):
        repository = Repository(str(place), tmp_path / "cache")
        for model in "mn":
            assert (repository.fetch(model, 1) / "saved_model.pb").is_file()


def test_a_link_that_a_published_version_was_given_is_not_followed(tmp_path, local, saved_model):
    publish(saved_model, local, "m")
    (tmp_path / "extra").mkdir()
    (local.store.local_path("m/1") / "assets.extra").symlink_to(tmp_path / "extra")
    with pytest.raises(RepositoryError, match=r"assets\.extra, which manifest\.json does not list"):
        local.fetch("m", 1)


def test_a_baseline_that_leads_out_of_the_root_is_not_read(tmp_path, local, put, saved_model):
    put(local, saved_model, "m", 1)
    (tmp_path / "secret").write_text("{}")
    (local.store.local_path("m/1") / BASELINE).symlink_to(tmp_path / "secret")
    with pytest.raises(RepositoryError, match="outside of the repository"):
        local.baseline(local.fetch("m", 1))
