"""The kernel itself ends what takes more memory than it may."""

import subprocess
import sys

import pytest
from reliability.local_faults import local_faults, starve, store_faults

from serve.errors import ServeError

_EATS = (
    "import time\nkept = []\nwhile True: kept.append(bytearray(b'x') * 100_000); time.sleep(0.01)"
)


def test_a_process_that_is_starved_is_killed():
    with subprocess.Popen([sys.executable, "-c", _EATS]) as process:
        try:
            starve(process.pid)
        except ServeError as err:
            process.kill()
            pytest.skip(str(err))
        assert process.wait(60) == -9


def test_no_two_faults_have_one_name():
    names = [each.name for each in [*local_faults(), *store_faults()]]
    assert len(set(names)) == len(names)
