"""What an engine's error says, for clients: without the places inside of the library.

Called by row_independence and tensorflow_errors. Knows how TensorFlow writes its messages; those of
other libraries have none of that in them.
"""

import re

_LONGEST = 500

_STACK_LINE = re.compile(r"\s*(?:File \".*|<stack traces unavailable>|Detected at node .*)")
_FIRST_ROOT = re.compile(
    r"root error\(s\) found\.\s*\(0\) [A-Z_ ]+: +(.*?)(?:\n\t \[\[|\n +\(1\)|\Z)", re.DOTALL
)
_NODE = re.compile(r"\{\{[^{}]*\}\} ?|\s*\[Op:[^\]]*\]\s*\Z")


def words(err: BaseException) -> str:
    """Return what an error says, without the names of nodes and the places in Python."""
    return _words(str(getattr(err, "message", err)))[:_LONGEST] or type(err).__name__


def _words(message: str) -> str:
    first = _FIRST_ROOT.search(message)
    # Lines from "\t [[" on name nodes.
    text = first[1] if first else message.partition("\n\t [[")[0]
    lines = text.splitlines()
    stack = [index for index, line in enumerate(lines) if _STACK_LINE.match(line)]
    if stack:
        # Below a place in Python stands its line of code, indented.
        below = lines[stack[-1] + 1 :]
        lines = [line for line in below if not line.startswith((" ", "\t"))]
    return " ".join(_NODE.sub("", line).strip() for line in lines if line.strip())
