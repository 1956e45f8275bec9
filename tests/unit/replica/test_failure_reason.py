"""What Ray Serve says of a failure, in one sentence."""

import pytest

from serve.replica.failure_reason import failure_reason

TRACEBACK = """\
The deployment failed to start 3 times in a row.
Traceback (most recent call last):
  File "worker.pyx", line 1, in ray._raylet.execute_task
serve.errors.RepositoryError: model 'digits' has no version
  to serve
ray.exceptions.RayTaskError: more of Ray's"""


@pytest.mark.parametrize(
    ("message", "reason"),
    [
        (TRACEBACK, "model 'digits' has no version"),
        ("Traceback:\n  File 'x'\nImportError: no module\n  named y\n\n", "ImportError: no module"),
        ("waiting for   resources\nof 2 CPUs", "waiting for resources of 2 CPUs"),
        ("", "Ray Serve does not say why"),
    ],
)
def test_the_reason_is_the_sentence_for_people(message, reason):
    assert failure_reason(message) == reason
