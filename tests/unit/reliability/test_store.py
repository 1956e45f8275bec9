"""A store that hangs takes connections, answers none, and goes on with all that it had."""

from concurrent.futures import ThreadPoolExecutor

import pytest
from reliability.store import running_store


def test_a_store_that_hung_answers_what_was_asked_meanwhile(tmp_path):
    pytest.importorskip("moto.server")
    pytest.importorskip("s3fs")
    (tmp_path / "digits" / "1").mkdir(parents=True)
    (tmp_path / "digits" / "1" / "saved_model.pb").write_bytes(b"graph")
    with running_store() as store, ThreadPoolExecutor(1) as executor:
        store.upload(tmp_path)
        files = store.files()
        store.hang()
        asked = executor.submit(files.cat, f"{store.root}/digits/1/saved_model.pb")
        assert store.takes_connections()
        assert not asked.done()
        store.go_on()
        assert asked.result(60) == b"graph"
