from datetime import date

import pytest
from supply.locks import LOCKS, made_on, pinned


def test_pins_are_read_with_names_as_the_index_compares_them(tmp_path):
    lock = tmp_path / "x.lock"
    lock.write_text("# Made\nPy_YAML==6.0 \\\n    --hash=sha256:ab\ngrafana.sdk==1!2.0\n")
    assert pinned(lock) == {"py-yaml": "6.0", "grafana-sdk": "1!2.0"}


@pytest.mark.parametrize("lock", LOCKS, ids=lambda path: path.name)
def test_every_lock_says_when_it_was_made_and_pins_what_the_tests_have(lock):
    assert date(2026, 1, 1) < made_on(lock)
    assert pinned(lock).items() <= pinned(LOCKS[0]).items()
    assert pinned(lock)


def test_a_lock_without_a_day_is_refused(tmp_path):
    lock = tmp_path / "x.lock"
    lock.write_text("# Made by scripts/lock; a hash\n")
    with pytest.raises(SystemExit, match="run scripts/lock"):
        made_on(lock)
