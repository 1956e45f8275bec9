"""Engines: load a version from its folder and compute on it.

Only here and in serve.learn is TensorFlow imported. An engine knows one version and no request.
"""
