"""Which errors are the values' fault; messages are those of TensorFlow 2.20, and real ones."""

import pytest

_NODES = "\n\t [[{{function_node __inference_<lambda>_94}}{{node GatherV2}}]]"
_FUNCTION = "{{function_node __inference_signature_wrapper_<lambda>_100}} "
_OP = " [Op:__inference_signature_wrapper_<lambda>_100]"
_KERAS = """Graph execution error:

Detected at node functional_1/embedding_1/GatherV2 defined at (most recent call last):
  File "serve/engines/loading.py", line 27, in load

  File "keras/src/ops/numpy.py", line 7924, in take
    return take(x, indices)

indices[0,2] = 30 is not in [0, 10)
\t [[{{node functional_1/embedding_1/GatherV2}}]]"""
_NO_TRACES = """Graph execution error:

Detected at node Assert defined at (most recent call last):
<stack traces unavailable>
assertion failed: [must be positive.  ] [x (x:0) = ] [-1]
\t [[{{node Assert}}]]"""
_ROOTS = f"""2 root error(s) found.
  (0) INVALID_ARGUMENT:  indices[0] = 30 is not in [0, 10){_NODES}{_NODES}
  (1) INVALID_ARGUMENT:  indices[0] = 30 is not in [0, 10){_NODES}
0 successful operations.
0 derived errors ignored."""


def _mistake(tf, message, kind="InvalidArgumentError"):
    from serve.engines.tensorflow_errors import client_mistake

    return client_mistake(getattr(tf.errors, kind)(None, None, message))


@pytest.mark.parametrize(
    ("message", "words"),
    [
        (_FUNCTION + "indices[0] = 30 is not in [0, 10)" + _NODES + _OP, "indices[0] = 30 is not"),
        ("Integer division by zero" + _OP, "Integer division by zero"),
        (_KERAS + _OP, "indices[0,2] = 30 is not in [0, 10)"),
        (_NO_TRACES + _OP, "assertion failed: [must be positive.  ] [x (x:0) = ] [-1]"),
        (_ROOTS + _OP, "indices[0] = 30 is not in [0, 10)"),
        ("two lines\nof words" + _NODES, "two lines of words"),
        ("", "InvalidArgumentError"),
    ],
)
def test_tensorflows_words_come_without_its_graph(tf, message, words):
    said = _mistake(tf, message)
    assert said.startswith(words)
    assert not {"{{", "[[", "[Op:", "File", "root error"} & set(said.split())
    assert "\n" not in said


def test_words_are_cut_where_they_quote_too_much(tf):
    assert len(_mistake(tf, "x" * 10_000)) == 500


@pytest.mark.parametrize(
    "message",
    [
        "No OpKernel was registered to support Op 'RegexReplace' used by {{node a}}",
        "Cannot assign a device for operation a: no supported kernel for GPU devices",
        "Detected unsupported operations when trying to compile graph f[] on XLA_CPU_JIT",
        "ValueError: callback pyfunc_0 is not found",
        "cannot compute __inference_f_1 as input #0 was expected to be a float tensor",
    ],
)
def test_what_is_missing_in_the_replica_is_no_clients_mistake(tf, message):
    assert _mistake(tf, message) is None


@pytest.mark.parametrize(
    ("kind", "is_mistake"),
    [
        ("InvalidArgumentError", True),
        ("OutOfRangeError", True),
        ("ResourceExhaustedError", False),
        ("FailedPreconditionError", False),
        ("NotFoundError", False),
        ("InternalError", False),
        ("UnknownError", False),
        ("UnimplementedError", False),
    ],
)
def test_the_code_says_whose_fault_it_is(tf, kind, is_mistake):
    assert (_mistake(tf, "words", kind) is not None) == is_mistake


def test_what_python_raises_is_no_clients_mistake(tf):
    from serve.engines.tensorflow_errors import client_mistake

    assert client_mistake(ValueError("words")) is None


def _raised(tf, call, value):
    from serve.engines.tensorflow_errors import client_mistake

    with pytest.raises(tf.errors.OpError) as caught:
        tf.function(call)(tf.constant(value))
    return client_mistake(caught.value)


def test_values_that_people_send_by_mistake_are_theirs(tf):
    features = {"a": tf.io.FixedLenFeature([2], tf.float32)}
    assert "30 is not in [0, 3)" in _raised(tf, lambda x: tf.gather([1, 2, 3], x), [30])
    assert "file format" in _raised(tf, lambda x: tf.io.decode_jpeg(x[0]), [b"abc"])
    assert "parse example" in _raised(tf, lambda x: tf.io.parse_example(x, features), [b"abc"])
    assert "abc" in _raised(tf, tf.strings.to_number, [b"abc"])
    assert "base64" in _raised(tf, tf.io.decode_base64, [b"*!"])
