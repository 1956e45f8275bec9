"""How many rows and how many seconds of compute tenants have left, and who counts them.

What is counted, in a replica or in Redis, and what a client is told of it. Requests are counted by
HAProxy, which is in edge; what a request's rows and seconds are is known to who calls this.
"""
