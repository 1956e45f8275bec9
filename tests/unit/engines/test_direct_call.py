"""Concrete functions of every kind: called directly they compute what they compute when called."""

import numpy as np
import pytest


@pytest.fixture
def loaded(tf, many_signatures):
    return tf.saved_model.load(str(many_signatures)).signatures


def _counted(monkeypatch, function):
    """Return the list that grows with each call which goes TensorFlow's ordinary way."""
    calls = []
    ordinary = type(function)._call_impl
    monkeypatch.setattr(
        type(function),
        "_call_impl",
        lambda self, args, kwargs: calls.append(kwargs) or ordinary(self, args, kwargs),
    )
    return calls


def test_a_signature_is_called_with_its_inputs_in_the_functions_own_order(tf, loaded, monkeypatch):
    from serve.engines.direct_call import direct_call

    function = loaded["serving_default"]
    tensors = {"alpha": tf.constant([10, 20], tf.int64), "zeta": tf.constant([[1.0, 2.0], [3, 4]])}
    expected = function(**tensors)["total"].numpy()
    ordinary_calls = _counted(monkeypatch, function)
    for names in (["alpha", "zeta"], ["zeta", "alpha"]):
        outputs = direct_call(function, names)(tensors)
        assert list(outputs) == ["total"]
        np.testing.assert_array_equal(outputs["total"].numpy(), expected)
    assert not ordinary_calls


@pytest.mark.parametrize(
    ("name", "inputs"),
    [
        ("upper", {"text": np.array([b"a", "\u00e9".encode(), b""], object)}),
        ("double", {"x": np.float32(3)}),
        ("double", {"x": np.ones((2, 3), np.float32)}),
        ("no_zero", {"n": np.array([1, 2], np.int32)}),
    ],
)
def test_outputs_are_those_of_the_ordinary_call(tf, loaded, monkeypatch, name, inputs):
    from serve.engines.direct_call import direct_call

    function = loaded[name]
    tensors = {key: tf.convert_to_tensor(value) for key, value in inputs.items()}
    expected = function(**tensors)
    ordinary_calls = _counted(monkeypatch, function)
    outputs = direct_call(function, list(inputs))(tensors)
    assert not ordinary_calls
    assert outputs.keys() == expected.keys()
    for key, output in outputs.items():
        np.testing.assert_array_equal(output.numpy(), expected[key].numpy())


def test_what_the_model_raises_is_raised(tf, loaded):
    from serve.engines.direct_call import direct_call

    with pytest.raises(tf.errors.InvalidArgumentError):
        direct_call(loaded["no_zero"], ["n"])({"n": tf.constant([1, 0])})


def test_inputs_by_position_may_have_any_names(tf, monkeypatch):
    from serve.engines.direct_call import direct_call

    specs = [tf.TensorSpec([None], tf.float32), tf.TensorSpec([None], tf.float32)]

    @tf.function(input_signature=specs)
    def difference(*tensors):
        return {"y": tensors[0] - tensors[1]}

    function = difference.get_concrete_function()
    ordinary_calls = _counted(monkeypatch, function)
    call = direct_call(function, ["second letter", "a"], by_position=True)
    outputs = call({"a": tf.constant([1.0]), "second letter": tf.constant([5.0])})
    assert outputs["y"].numpy().tolist() == [4.0]
    assert not ordinary_calls


def test_a_variable_has_the_value_that_it_has_at_the_call(tf):
    from serve.engines.direct_call import direct_call

    weight = tf.Variable(2.0)

    @tf.function(input_signature=[tf.TensorSpec([None], tf.float32, name="x")])
    def scaled(x):
        weight.assign_add(1.0)
        return {"y": weight * x}

    call = direct_call(scaled.get_concrete_function(), ["x"], by_position=True)
    results = [float(call({"x": tf.ones([1])})["y"].numpy()[0]) for _ in range(2)]
    weight.assign(10.0)
    assert [*results, float(call({"x": tf.ones([1])})["y"].numpy()[0])] == [3.0, 4.0, 11.0]


def test_within_a_graph_the_function_becomes_a_part_of_it(tf, loaded):
    from serve.engines.direct_call import direct_call

    call = direct_call(loaded["double"], ["x"])
    outer = tf.function(lambda x: call({"x": x})["y"] + 1)
    assert float(outer(tf.constant(3.0)).numpy()) == 7.0


@pytest.mark.parametrize("lacking", ["_inference_function", "function_type", "_captured_inputs"])
def test_a_function_of_another_tensorflow_is_called_as_everybody_calls_it(tf, loaded, lacking):
    from serve.engines.direct_call import direct_call

    class Other:
        def __getattr__(self, name):
            if name == lacking:
                raise AttributeError(name)
            return getattr(loaded["double"], name)

        def __call__(self, **tensors):
            return loaded["double"](**tensors)

    assert float(direct_call(Other(), ["x"])({"x": tf.constant(3.0)})["y"].numpy()) == 6.0


def test_what_a_function_captures_anew_for_each_call_is_not_kept(tf, loaded):
    from serve.engines.direct_call import direct_call

    class Deferred:
        def __init__(self, function):
            self._function = function
            self._captured_inputs = [lambda: tf.constant(1.0)]

        def __getattr__(self, name):
            return getattr(self._function, name)

        def __call__(self, **tensors):
            return {"y": "by the ordinary call"}

    call = direct_call(Deferred(loaded["double"]), ["x"])
    assert call({"x": tf.constant(3.0)})["y"] == "by the ordinary call"
