"""Measurements that `scripts/bench/run` makes, a module for each word that it takes.

`command`, `load` and `workload` are what they have in common.
"""
