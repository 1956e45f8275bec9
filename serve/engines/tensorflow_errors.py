"""Which of TensorFlow's errors are a client's mistake, and what it says of them.

Called by tensorflow_engine. A value that a model cannot take, an index out of range or bytes
that are no JPEG, shows only as it computes; TensorFlow Serving answers 400 for these codes, too.
"""

import re

import tensorflow as tf

_BY_VALUES = (tf.errors.InvalidArgumentError, tf.errors.OutOfRangeError)

# What has the same code and is no value's fault: a kernel, device or function that is not here, a
# graph that cannot be compiled.
_NOT_BY_VALUES = re.compile(
    r"OpKernel|assign a device|device specification|unsupported operations when trying to compile"
    r"|tf2xla|callback pyfunc_|is neither a type of a primitive operation|cannot compute \w+ as "
)
_LONGEST = 500

_STACK_LINE = re.compile(r"\s*(?:File \".*|<stack traces unavailable>|Detected at node .*)")
_FIRST_ROOT = re.compile(
    r"root error\(s\) found\.\s*\(0\) [A-Z_ ]+: +(.*?)(?:\n\t \[\[|\n +\(1\)|\Z)", re.DOTALL
)
_NODE = re.compile(r"\{\{[^{}]*\}\} ?|\s*\[Op:[^\]]*\]\s*\Z")


def client_mistake(err: Exception) -> str | None:
    """Return TensorFlow's words for what is wrong with the values, None if they are not the cause.

    Without the names of the graph's nodes and the places in Python that they came from.
    """
    if not isinstance(err, _BY_VALUES):
        return None
    message = str(err.message)
    if _NOT_BY_VALUES.search(message):
        return None
    return words(err)


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
