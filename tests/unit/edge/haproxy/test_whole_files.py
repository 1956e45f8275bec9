import os
import stat

import pytest

from serve.edge.haproxy.whole_files import write_whole


def test_a_file_is_written_and_is_its_owners_alone(tmp_path):
    path = tmp_path / "file"
    write_whole(path, "text")
    assert path.read_text() == "text"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert list(tmp_path.iterdir()) == [path]


def test_one_that_was_there_keeps_its_mode_and_whoever_has_it_open_reads_the_old_one(tmp_path):
    path = tmp_path / "file"
    path.write_text("old")
    path.chmod(0o640)
    with path.open() as reader:
        write_whole(path, "new")
        assert reader.read() == "old"
    assert path.read_text() == "new"
    assert stat.S_IMODE(path.stat().st_mode) == 0o640


def test_one_that_is_somebody_elses_stays_theirs_or_is_not_written(tmp_path, monkeypatch):
    """Root may give files away, and everybody else may not."""
    path = tmp_path / "file"
    path.write_text("old")
    if os.getuid() == 0:
        os.chown(path, 12345, 12346)
        write_whole(path, "new")
        assert (path.stat().st_uid, path.stat().st_gid) == (12345, 12346)

    def refused(*_):
        raise PermissionError("not yours")

    monkeypatch.setattr(os, "chown", refused)
    write_whole(tmp_path / "own", "1")
    write_whole(tmp_path / "own", "2")  # nothing to give away
    if os.getuid() == 0:
        with pytest.raises(PermissionError):
            write_whole(path, "newer")
        assert path.read_text() == "new"


def test_what_cannot_be_written_leaves_the_old_one_and_nothing_beside_it(tmp_path):
    path = tmp_path / "file"
    path.write_text("old")
    with pytest.raises(UnicodeEncodeError):
        write_whole(path, "\ud800")
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]
