"""Engines: load a model version from a folder and compute on it. Only here is TensorFlow."""
