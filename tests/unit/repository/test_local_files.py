import os

from serve.repository import local_files
from serve.repository.local_files import children, unreadable, walk
from tests.unit.repository.conftest import unprivileged


def _revision(folder):
    return walk(folder).revision


def test_links_to_files_and_folders_count_as_what_they_point_to(tmp_path, saved_model):
    version = tmp_path / "1"
    version.mkdir()
    (version / "saved_model.pb").symlink_to(saved_model / "saved_model.pb")
    (version / "variables").symlink_to(saved_model / "variables")
    (tmp_path / "linked").symlink_to(version)
    listing = walk(tmp_path / "linked")
    expected = walk(saved_model)
    assert listing.files == expected.files
    assert listing.folders == {"variables"}
    assert listing.problems == {}
    assert children(tmp_path)["linked"].is_folder


def test_a_mounted_config_map_is_the_files_that_its_links_show(tmp_path, keras_file):
    (tmp_path / "1/..2026_01_01").mkdir(parents=True)
    keras_file.rename(tmp_path / "1/..2026_01_01/model.keras")
    (tmp_path / "1/..data").symlink_to("..2026_01_01")
    (tmp_path / "1/model.keras").symlink_to("..data/model.keras")
    assert set(walk(tmp_path / "1").files) == {"model.keras"}


def test_the_swap_of_a_link_is_seen_though_both_files_look_the_same(tmp_path):
    for name in "ab":
        (tmp_path / name).mkdir()
        (tmp_path / name / "model.keras").write_bytes(b"x")
        os.utime(tmp_path / name / "model.keras", ns=(1, 1))
    (tmp_path / "1").symlink_to("a")
    before = _revision(tmp_path / "1")
    (tmp_path / "new").symlink_to("b")
    os.rename(tmp_path / "new", tmp_path / "1")
    assert _revision(tmp_path / "1") != before


def test_a_file_that_is_written_again_or_replaced_has_another_revision(tmp_path):
    file = tmp_path / "model.keras"
    file.write_bytes(b"x")
    os.utime(file, ns=(1, 1))
    before = _revision(tmp_path)
    assert _revision(tmp_path) == before
    os.utime(file, ns=(2, 2))
    written = _revision(tmp_path)
    (tmp_path / ".new").write_bytes(b"x")
    os.utime(tmp_path / ".new", ns=(1, 1))
    os.rename(tmp_path / ".new", file)
    assert len({before, written, _revision(tmp_path)}) == 3


def test_another_owner_or_mode_is_no_other_content(tmp_path):
    file = tmp_path / "model.keras"
    file.write_bytes(b"x")
    before = _revision(tmp_path)
    file.chmod(0o640)
    assert _revision(tmp_path) == before


def test_links_in_circles_and_to_nowhere_are_said(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "a/file").write_bytes(b"x")
    (tmp_path / "a/circle").symlink_to(tmp_path / "a")
    (tmp_path / "a/itself").symlink_to("itself")
    (tmp_path / "a/gone").symlink_to("/nowhere/at/all")
    os.mkfifo(tmp_path / "a/pipe")
    listing = walk(tmp_path / "a")
    assert listing.files == {"file": 1}
    assert listing.problems == {
        "circle": "it is a link to a folder that it is in",
        "itself": "too many levels of symbolic links",
        "gone": "it is a link to '/nowhere/at/all', which is not there",
        "pipe": "it is neither a file nor a folder",
    }


def test_two_links_to_one_folder_beside_each_other_are_no_circle(tmp_path):
    (tmp_path / "shared").mkdir()
    (tmp_path / "shared/words.txt").write_bytes(b"x")
    (tmp_path / "1").mkdir()
    for name in "ab":
        (tmp_path / "1" / name).symlink_to(tmp_path / "shared")
    assert set(walk(tmp_path / "1").files) == {"a/words.txt", "b/words.txt"}


def test_a_folder_that_may_not_be_read_hides_itself_and_nothing_else(readable_root):
    for name in ("open", "closed"):
        (readable_root / name).mkdir()
        (readable_root / name / "file").write_bytes(b"x")
    (readable_root / "closed").chmod(0)
    with unprivileged():
        listing = walk(readable_root)
        assert unreadable(readable_root / "open/file") is None
        assert unreadable(readable_root / "closed/file") == "permission denied"
    assert set(listing.files) == {"open/file"}
    assert listing.problems == {"closed": "permission denied"}
    (readable_root / "closed").chmod(0o755)


def test_a_folder_that_is_not_there_is_said(tmp_path):
    assert walk(tmp_path / "nowhere").problems == {"": "no such file or directory"}


def test_an_error_says_what_it_is_without_its_path():
    assert local_files.why(PermissionError(13, "Permission denied", "/a")) == "permission denied"
    assert local_files.why(OSError()) == "OSError".lower()
