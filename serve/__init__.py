"""Strata: TensorFlow and Keras models as a service on Ray Serve."""

__version__ = "0.1.0"
