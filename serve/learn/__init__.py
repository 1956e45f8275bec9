"""The reference models: their data, a module for each that trains it, and what they share.

Makes model files and figures. How they are published and served is no business of this room.
"""
