"""Dynamic batching: `batch` says how requests share a call, `batcher` when, `execution` runs it.

Knows an engine as a function of tensors; neither HTTP nor TensorFlow comes in here.
"""
