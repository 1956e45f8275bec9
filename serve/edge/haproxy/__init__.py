"""What Strata adds to the configuration that Ray Serve writes for HAProxy, and how it gets there.

Ray starts `strata-haproxy` (launcher.py) wherever it would start HAProxy. The lines themselves are
in the `.cfg` files of this folder, by the section that they go into. Imports next to nothing: it
runs at every reload, in a process of its own.
"""
