"""What the commands talk to, on loopback, where the real thing would need a platform."""

import json

from tests.unit.deploy.fakes import application


class Site:
    """JSON by method and path, such as "GET /v2/models/digits"; remembers what it was sent.

    A list is a page that changes: each request takes the next of it, and the last one stays.
    """

    def __init__(self):
        self.pages = {}
        self.received = []
        self.statuses = {}

    def respond(self, asked):
        """Return status and tree of a page, 404 where there is none."""
        key = f"{asked.method} {asked.path}"
        self.received.append((key, json.loads(asked.body) if asked.body else None))
        page = self.pages.get(key, {"error": f"no page {key}"})
        if isinstance(page, list):
            page = page.pop(0) if len(page) > 1 else page[0]
        return self.statuses.get(key, 200 if key in self.pages else 404), page

    def sent_to(self, key):
        """Return the bodies that were sent to a page."""
        return [body for received, body in self.received if received == key]


APPLICATIONS = "/api/serve/applications/"
NODES = "/api/v0/nodes?detail=1&limit=1000"
INDEX = "/v2/repository/index"


def nodes(*resources):
    """Return living nodes as Ray's state API describes them."""
    found = [
        {"node_ip": f"10.0.0.{index}", "state": "ALIVE", "resources_total": each}
        for index, each in enumerate(resources)
    ]
    return {"data": {"result": {"result": found}}}


def deployed(config):
    """Return the applications of a deploy config as Ray Serve has them once they run."""
    return {
        each["name"]: {
            **application(),
            "deployed_app_config": {**each, "logging_config": {"enable_access_log": False}},
        }
        for each in config["applications"]
    }


def applications(**by_name):
    """Return all applications as Ray Serve's REST API describes them."""
    return {"applications": by_name}
