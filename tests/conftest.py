"""What holds for every test."""

import time
from collections.abc import Callable

import pytest
from hypothesis import settings

# A property is about values; how long an example takes is up to the machine, which others share.
settings.register_profile("strata", deadline=None)
settings.load_profile("strata")


@pytest.fixture(scope="session")
def eventually() -> Callable[..., object]:
    """Wait until a check returns something true; return it."""

    def wait(check: Callable[[], object], timeout_s: float = 180.0) -> object:
        deadline = time.monotonic() + timeout_s
        while True:
            value = check()
            if value:
                return value
            if time.monotonic() > deadline:
                raise AssertionError(f"not within {timeout_s} s: {check}")
            time.sleep(0.1)

    return wait
