"""A release on Kubernetes: read it, say what is wrong with it, change it through Helm.

Only `connection` knows the kubernetes client; the rest works on plain objects.
"""
