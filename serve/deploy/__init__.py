"""From `strata.yaml` to a running platform: checked, started, changed, read, monitored.

Runs at the side of whoever deploys, but for `applications`, by whose import paths Ray builds the
replicas. What a replica does is in serve.replica, what only Kubernetes has in serve.cluster.
"""
