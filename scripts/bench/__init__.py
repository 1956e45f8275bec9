"""Measure a platform against the bare engine and against Ray Serve's own Keras example."""
