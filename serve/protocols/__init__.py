"""The wire: bytes to the values of serve.types and back, for each protocol. Pure functions."""
