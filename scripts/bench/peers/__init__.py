"""`scripts/bench/run peers`: Strata beside other servers, with the same engine, in one run.

`catalogue` says who they are; a program of `servers/` is each, in an environment of its own that
`environments` makes of what `requirements/` pins. `turn` has one started, checked, measured and
ended (`keeper`, `processes`, `wire`); `figures` keeps what came of it, and `targets`, `tables` and
`picture` make of the figures what is printed, drawn and written into the docs.
"""
