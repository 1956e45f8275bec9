"""The model repository: which versions there are, which are whole, and how one is added.

Files and folders on a disk or an object store. Nothing here loads a model or knows TensorFlow.
"""
