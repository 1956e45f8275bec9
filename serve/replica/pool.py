"""The ASGI app of a pool's replica: several models in one process, each as if it were alone there.

Built by deployments.PoolDeployment. A request for `/v2/models/<name>...` goes to the endpoint of
its model; one for a model that moved away goes through the gateway, and the response tells HAProxy.
Which models there are, and which of them are in memory, is in pool_members.
"""

from collections.abc import Awaitable, Callable

from serve.config.schema import Repository as RepositoryConfig
from serve.config.sections import Limits
from serve.config.sections import Pool as PoolConfig
from serve.edge.asgi import Disconnected, Receive, Scope, Send
from serve.edge.http import (
    FORGET_POOL,
    POOL_HEADER,
    HttpRequest,
    HttpResponse,
    error_response,
    not_found,
    read_request,
    send_response,
)
from serve.edge.presence import Presence
from serve.edge.routes import parse_path
from serve.edge.unforeseen import unforeseen
from serve.errors import InvalidRequest, ModelNotReady, ServeError
from serve.replica.pool_members import PoolMembers
from serve.telemetry.metrics_recorder import Recorder
from serve.types import InferRequest, InferResponse, Signature


class Pool:
    """Answers for the models of one replica; `record` makes a recorder, beside another one.

    `ask_gateway` gives the gateway's response to a request for a model that is elsewhere.
    """

    def __init__(
        self,
        config: PoolConfig,
        where: RepositoryConfig,
        record: Callable[[str, Recorder | None], Recorder],
        ask_gateway: Callable[[HttpRequest], Awaitable[HttpResponse]],
    ) -> None:
        self.members = PoolMembers(config, where, record, self._is_alone)
        self.in_flight = 0
        self._name = config.name
        self._ask_gateway = ask_gateway

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one ASGI request that came straight from the ingress."""
        if scope["type"] != "http":
            return
        name = parse_path(scope["path"]).model
        member = self.members.by_name.get(name or "")
        self.in_flight += 1
        try:
            if member is not None:
                await member.servable.endpoint(scope, receive, send)
            elif name is not None:
                await self._pass_on(name, scope, receive, send)
            else:
                await send_response(not_found(), None, send)
        finally:
            self.in_flight -= 1

    def _is_alone(self) -> bool:
        return self.in_flight <= 1

    async def _pass_on(self, name: str, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer for a model that is not here, as the gateway does; HAProxy learns where it is."""
        limits = self.members.limits_of_gone.get(name, Limits())
        request = None
        try:
            with Presence(receive) as presence:
                request = await read_request(
                    scope, receive, limits.max_body_bytes, presence, limits.request_timeout_s
                )
                response = await self._ask_gateway(request)
        except Disconnected:
            return
        except ServeError as err:
            response = error_response(err)
        except Exception as err:
            self.members.request_faults.count()
            unread = HttpRequest(scope["method"], scope["path"], dict(scope["headers"]))
            response = unforeseen(err, request or unread, f"the pool '{self._name}'")
        if not any(header == POOL_HEADER for header, _ in response.headers):
            response.headers.append((POOL_HEADER, FORGET_POOL))
        await send_response(response, request, send)

    async def respond(self, name: str, request: HttpRequest) -> HttpResponse:
        """Return the response to a request that the gateway passes on."""
        try:
            member = await self.members.known(name)
        except ModelNotReady as err:
            return error_response(err)
        self.in_flight += 1
        try:
            return await member.servable.endpoint.respond(request)
        finally:
            self.in_flight -= 1

    async def infer(self, name: str, request: InferRequest) -> InferResponse | InvalidRequest:
        """Return the outputs, or a client's mistake, for a pipeline that calls a model."""
        member = await self.members.known(name)
        limit_s = member.servable.model.request_timeout_s
        self.in_flight += 1
        member.calls += 1
        try:
            await self.members.prepare(member, "infer", lambda: request.timeout_s or limit_s)
            return await member.servable.infer(request)
        finally:
            member.calls -= 1
            self.in_flight -= 1

    async def signature(self, name: str, version: int | None) -> Signature:
        """Return a version's default signature, for a pipeline that is being built."""
        member = await self.members.known(name)
        model = member.servable.model
        await self.members.prepare(member, "metadata", lambda: model.request_timeout_s)
        return model.choose(version, None).signature(None)
