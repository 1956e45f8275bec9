"""Data read once a session, and little of it where something is only trained for a moment."""

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import pytest

from serve.learn import data as learn_data
from serve.learn.data import Split
from serve.learn.recipes import train


@pytest.fixture(scope="session")
def all_digits():
    return learn_data.digits()


@pytest.fixture(scope="session")
def known_words():
    return learn_data.words()


@pytest.fixture(scope="session")
def few_digits(all_digits):
    """Every twentieth digit to train on, 20 of each class; those to measure on are all there."""
    x, y = all_digits.x_train[::20], all_digits.y_train[::20]
    return Split(x, y, all_digits.x_test, all_digits.y_test)


@pytest.fixture
def trained_on_few(few_digits, monkeypatch, tmp_path):
    """Train a classifier of digits by its name for an epoch on a few; return its folder."""
    from serve.learn import classifier

    monkeypatch.setattr(classifier, "digits", lambda: few_digits)
    return lambda name: train(name, tmp_path / name, 1, quietly).folder


def quietly(done, text):
    """Report no progress."""


def loaded(folder):
    """Load what a training left; return the engine, its inputs and the shapes of its outputs."""
    from serve.engines.engine import EngineOptions
    from serve.engines.loading import load

    engine = load(folder, EngineOptions())
    signature = engine.signatures[engine.default_signature]
    inputs = [(spec.name, spec.datatype, spec.shape) for spec in signature.inputs]
    return engine, inputs, {spec.name: spec.shape for spec in signature.outputs}


def ends(network):
    """Return name, shape and type of what goes into a network, and of what comes out."""

    def describe(tensor):
        layer = tensor._keras_history.operation
        return layer.name, tensor.shape, tensor.dtype

    return [describe(each) for each in network.inputs], [describe(each) for each in network.outputs]


IMAGE = ("image", (None, 28, 28, 1), "float32")
PROBABILITIES = ("probabilities", (None, 10), "float32")
