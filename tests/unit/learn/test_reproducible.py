import pytest


@pytest.fixture(scope="module")
def begin():
    from serve.learn.reproducible import begin

    return begin


def _weights():
    import keras

    return keras.layers.Dense(3).build((None, 2)) or keras.random.normal((4,)).numpy().tolist()


def test_what_was_trained_before_makes_no_difference(begin):
    import keras

    begin()
    first, name = _weights(), keras.layers.Dense(1).name
    assert _weights() != first
    begin()
    assert (_weights(), keras.layers.Dense(1).name) == (first, name)
