"""The reference models: their data, a module for each that trains it, and what they share.

Makes model files and figures; publishing and serving them is done elsewhere.
"""
