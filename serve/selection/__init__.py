"""Which library computes a version: tried in processes of their own, compared and measured.

How a library loads and computes is in `engines`; what a replica does with the engine is not here.
"""
