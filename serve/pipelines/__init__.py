"""Pipelines: models put together, each kind an engine like a model's own."""
