"""What a library's error says, without the places inside of it."""

import pytest

from serve.engines.error_words import words

_ROOTS = (
    "2 root error(s) found.\n  (0) INVALID_ARGUMENT: indices[0] = 9 is not in [0, 5)\n"
    "\t [[{{node a}}]]"
    "\n\t [[b]]\n  (1) INVALID_ARGUMENT: indices[0] = 9\n0 successful operations."
)


@pytest.mark.parametrize(
    ("message", "said"),
    [
        (
            "indices[0] = 9 is not in [0, 5)\n\t [[{{node Gather}}]]",
            "indices[0] = 9 is not in [0, 5)",
        ),
        ("{{function_node f}} wrong [Op:Gather]", "wrong"),
        (_ROOTS, "indices[0] = 9 is not in [0, 5)"),
        ('Detected at node g\n  File "/a.py", line 1\n    call()\nbad value', "bad value"),
        ("Non-zero status code returned by Gather", "Non-zero status code returned by Gather"),
        ("", "ValueError"),
    ],
)
def test_words_are_those_of_the_cause(message, said):
    assert words(ValueError(message)) == said


def test_words_are_not_without_end():
    assert len(words(ValueError("a" * 10_000))) == 500
