"""The status of each error, and the tree of them at the top of the module."""

import inspect
import re

import pytest

from serve import errors
from serve.errors import Code, ServeError

_LINE = re.compile(r"^    ([│ ├└─]*)(\w+) +([A-Z_]+)  ", re.MULTILINE)


def _classes():
    return {
        name: value
        for name, value in vars(errors).items()
        if inspect.isclass(value) and issubclass(value, ServeError) and value is not ServeError
    }


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (errors.InvalidRequest, 400),
        (errors.ModelNotFound, 404),
        (errors.ConfigError, 412),
        (errors.RepositoryError, 412),
        (errors.BodyTooLarge, 413),
        (errors.QueueFull, 429),
        (errors.InferenceFailed, 500),
        (errors.Unsupported, 501),
        (errors.ModelNotReady, 503),
        (errors.DeadlineExceeded, 504),
    ],
)
def test_an_error_has_the_status_that_clients_know_it_by(error, status):
    assert error("said").http_status == status


def test_the_tree_at_the_top_has_each_errors_code_and_parent():
    above = [ServeError]
    for indent, name, code in _LINE.findall(errors.__doc__):
        error = _classes()[name]
        depth = len(indent) // 4
        assert error.code.name == code
        assert error.__base__ is above[depth - 1]
        above[depth:] = [error]
    assert len(_LINE.findall(errors.__doc__)) == len(_classes())


def test_every_code_has_a_status_of_its_own():
    assert len(Code) == len(Code.__members__), "one of two with a status is an alias of the other"
