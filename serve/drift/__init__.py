"""Drift: how far the rows of late are from those that the version was published with.

Pure numpy on the tensors of requests; what becomes a metric is decided in serve.replica.
"""
