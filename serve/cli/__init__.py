"""The command `strata`: one module a command; heavy libraries are imported where they are used.

Parses options and prints. What a command does is in the room that it calls.
"""
