"""What stands in for Ray's dashboard and a worker's client, and what Ray says of applications."""

import json
import re
from pathlib import Path

from serve.deploy import worker_client


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


def client_that_waits(seconds, folder):
    """Return the program of a worker's client as it is, but for how long it waits."""
    client = folder / "client.py"
    source = Path(worker_client.__file__).read_text()
    client.write_text(re.sub("_PATIENCE_S = .*", f"_PATIENCE_S = {seconds}", source))
    return client
