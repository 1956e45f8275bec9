"""What stands in for Ray's dashboard, and what its REST API says of applications."""

import json


class Dashboard:
    """Keeps what it is asked, and responds with `status` and `document`."""

    def __init__(self):
        self.asked, self.status, self.document = [], 200, {}
        self.port, self.url = 0, ""

    def respond(self, asked):
        body = json.loads(asked.body or b"null")
        self.asked.append((asked.method, asked.path, asked.headers["Authorization"], body))
        return self.status, self.document


def application(status="RUNNING", message="", running=1, target=1, deployment_message=""):
    """Return an application as Ray Serve's REST API describes it."""
    replicas = [{"state": "RUNNING"}] * running + [{"state": "STARTING"}] * (target - running)
    deployment = {
        "replicas": replicas,
        "target_num_replicas": target,
        "message": deployment_message,
    }
    return {"status": status, "message": message, "deployments": {"model": deployment}}
