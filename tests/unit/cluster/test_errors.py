"""What is raised between us and a cluster reaches the person as a message."""

import pickle

import pytest

from serve.cluster import errors
from serve.errors import ServeError

_ERRORS = [
    value
    for value in vars(errors).values()
    if isinstance(value, type) and issubclass(value, errors.ClusterError)
]


@pytest.mark.parametrize("error", _ERRORS)
def test_every_error_survives_a_process_and_stands_in_the_tree(error):
    assert str(pickle.loads(pickle.dumps(error("why")))) == "why"
    assert error.__name__ in errors.__doc__


@pytest.mark.parametrize("error", _ERRORS)
def test_the_command_prints_every_error_without_a_traceback(error):
    assert issubclass(error, ServeError), "what serve.cli.main prints as one line"
