"""Which of TensorFlow's errors are a client's mistake, and what it says of them.

Called by tensorflow_engine. A value that a model cannot take, an index out of range or bytes
that are no JPEG, shows only as it computes; TensorFlow Serving answers 400 for these codes, too.
"""

import re

import tensorflow as tf

from serve.engines.error_words import words

_BY_VALUES = (tf.errors.InvalidArgumentError, tf.errors.OutOfRangeError)

# What has the same code and is no value's fault: a kernel, device or function that is not here, a
# graph that cannot be compiled.
_NOT_BY_VALUES = re.compile(
    r"OpKernel|assign a device|device specification|unsupported operations when trying to compile"
    r"|tf2xla|callback pyfunc_|is neither a type of a primitive operation|cannot compute \w+ as "
)


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
