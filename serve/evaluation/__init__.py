"""Measure models and pipelines on labelled data, and choose thresholds by what was measured."""
