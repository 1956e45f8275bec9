"""What stands between the network and a model: bodies, limits, statuses, headers."""
