"""What stands between the network and a replica: HTTP, its limits and headers, the URL grammar.

Knows requests and responses as bytes, and no model: neither tensors nor versions come in here.
"""
