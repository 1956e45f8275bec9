"""The keys of `strata.yaml`: read, checked, defaulted, documented.

Frozen pydantic sections and what reads them from YAML. Nothing in here knows of a model's tensors,
of Ray or of a protocol; every default of Strata lives here and nowhere else.
"""
