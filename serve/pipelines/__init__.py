"""Pipelines: models put together, one module a kind, each an engine like a model's own.

A kind knows its members by what serve.pipelines.member says of them, never which engine or replica
computes them.
"""
