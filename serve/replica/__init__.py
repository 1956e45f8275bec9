"""The process that answers: the parts of a model's replica, and of the gateway's.

`deployments` has the classes that Ray Serve runs; `endpoint` and `gateway` are their ASGI apps,
`model` holds the loaded versions. Nothing here starts, changes or watches a platform.
"""
