"""What Strata says about itself while it serves: metrics, traces, the access log.

`metrics` declares every metric; the rest records requests, of whichever protocol. What a version
or a pipeline's layer does is recorded by those rooms themselves, through `recorder`.
"""
