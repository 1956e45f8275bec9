"""Drift: how far the rows of recent requests are from those that a version was published with.

Pure numpy on the tensors of requests; what becomes a metric is decided in serve.replica.
"""
