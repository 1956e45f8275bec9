"""A pool's replica over numpy engines and a real repository; it takes what applications makes."""

import json

from serve.config.schema import Config
from serve.config.schema import Repository as RepositoryConfig
from serve.config.sections import Pool as PoolConfig
from serve.deploy.applications import deploy_config
from serve.edge.http import HttpResponse
from serve.replica.pool import Pool
from tests.unit.replica.fakes import fetch, infer_request
from tests.unit.replica.test_deployments import Flushed


class Running:
    """A pool as PoolDeployment has it; `asked` are the requests that it passed to the gateway."""

    def __init__(self, folder, root, poll_interval_s=0, **pool):
        self.tree = {
            "repository": {
                "root": str(root),
                "cache_dir": str(folder / "cache"),
                "poll_interval_s": poll_interval_s,
            },
            "pools": [{"name": "small", **pool}],
        }
        self.asked, self.gateway_says = [], HttpResponse(404, b'{"error": "unknown"}')
        self.pool = Pool(
            PoolConfig(name="small", **pool),
            RepositoryConfig.model_validate(self.tree["repository"]),
            lambda name, beside: Flushed(name),
            self._ask_gateway,
        )
        self.members = self.pool.members

    async def _ask_gateway(self, request):
        self.asked.append(request)
        if isinstance(self.gateway_says, Exception):
            raise self.gateway_says
        return self.gateway_says

    def user_config(self, *models, **tree):
        entries = [{"name": m} if isinstance(m, str) else m for m in models]
        members = [{**entry, "pool": "small"} for entry in entries]
        config = Config.model_validate({**self.tree, "models": members, **tree})
        applications = deploy_config(config)["applications"]
        (found,) = [each for each in applications if each["name"] == "pool-small"]
        return found["deployments"][0]["user_config"]

    async def take(self, *models, **tree):
        async def reporter():
            return None

        await self.members.take(self.user_config(*models, **tree), reporter)

    async def y(self, model, *values):
        status, _, body = await self.ask(model, *values)
        assert status == 200, body
        return json.loads(body)["outputs"][0]["data"]

    async def ask(self, model, *values, **headers):
        path = f"/v2/models/{model}/infer"
        return await fetch(self.pool, infer_request(*values, path=path, **headers))

    def model(self, name):
        return self.members.by_name[name].servable.model

    def counted(self, name, **tags):
        return self.members._recorder.value(name, **tags)
