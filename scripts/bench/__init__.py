"""Measurements that `scripts/bench/run` makes, a module for each word that it takes.

Without a word it is `peers`. `command`, `load` and `workload` are what they have in common;
`in_process` and `ray_example` run in processes of their own.
"""
