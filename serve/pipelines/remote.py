"""A member that is computed by the model's own replicas, through a Ray Serve handle.

Used with `placement: deployment`. A pipeline computes in the engine's thread, a Ray Serve handle
belongs to the replica's event loop; each call crosses from the one to the other.
"""

import asyncio
import contextlib
from collections.abc import Callable, Coroutine
from concurrent.futures import wait
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from ray import serve as ray_serve
from ray.exceptions import RayActorError, RayError, RayTaskError
from ray.serve.exceptions import BackPressureError, RayServeException

from serve.batching.deadline import left_s
from serve.config.sections import pool_application
from serve.errors import (
    DeadlineExceeded,
    InferenceFailed,
    InvalidRequest,
    ModelNotReady,
    QueueFull,
    RowsMixed,
    ServeError,
)
from serve.telemetry.trace_context import CURRENT
from serve.types import InferRequest, InferResponse, Signature, Tensors

_START_TIMEOUT_S = 120.0  # a pipeline may start before its members have


@dataclass(frozen=True, slots=True)
class Place:
    """Where a model's replicas are: in an application of its own, or in that of its pool."""

    model: str
    pool: str | None = None

    @property
    def application(self) -> str:
        return self.model if self.pool is None else pool_application(self.pool)

    def handle(self) -> Any:
        """Return the handle of the replicas, which belongs to an event loop."""
        return ray_serve.get_deployment_handle("model", app_name=self.application)

    def method(self, handle: Any, name: str) -> Callable[..., Any]:
        """Return what calls a method of a replica about the model."""
        remote: Callable[..., Any] = getattr(handle, name).remote
        return remote if self.pool is None else partial(remote, self.model)


class RemoteMember:
    """A model's application; its own batcher joins the rows of all who ask."""

    retraces = 0
    may_block_loop = False

    def __init__(
        self,
        label: str,
        place: Place,
        version: int | None,
        timeout_s: float,
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        self.label = label
        self._model = place.model
        self._version = version
        self._timeout_s = timeout_s
        self._loop = loop
        self._place, self._handle = place, place.handle()
        self.signature: Signature = self._wait(self._describe(), _START_TIMEOUT_S)

    def compute(self, inputs: Tensors) -> Tensors:
        """Return the outputs. Raises what the model's replica raised, ModelNotReady, or late.

        A new version of the model may compute rows together: RowsMixed says so, and the next call
        is taken for what one client sent.
        """
        timeout_s = left_s(self._timeout_s)
        if timeout_s <= 0:
            raise DeadlineExceeded(f"no time is left to ask model '{self._model}'")
        request = InferRequest(
            inputs,
            version=self._version,
            timeout_s=timeout_s,
            trace=CURRENT.get(),
            has_strangers=self.signature.batched,
        )
        try:
            response: InferResponse = self._wait(self._infer(request), timeout_s)
        except RowsMixed as err:
            self.signature = replace(self.signature, batched=False, batched_reason=str(err))
            raise
        return response.outputs

    def warmup(self) -> None:
        """Do nothing: the model's own replicas are warm before they are ready."""

    def close(self) -> None:
        """Do nothing: the model's own replicas live on."""

    async def _describe(self) -> Signature:
        signature: Signature = await self._ask("signature", self._version)
        return signature

    async def _infer(self, request: InferRequest) -> InferResponse:
        response: InferResponse | InvalidRequest = await self._ask("infer", request)
        if isinstance(response, InvalidRequest):
            raise response
        return response

    async def _ask(self, method: str, argument: Any) -> Any:
        """Return what a replica answers; if it dies meanwhile, another one is asked, once."""
        call = self._place.method(self._handle, method)
        with contextlib.suppress(RayActorError):
            return await outcome(call(argument))
        return await outcome(call(argument))

    def _wait(self, call: Coroutine[Any, Any, Any], timeout_s: float) -> Any:
        future = asyncio.run_coroutine_threadsafe(call, self._loop)
        if not wait([future], timeout_s).done:
            # Before what it raises is looked at: that may be a TimeoutError of the model's own.
            future.cancel()
            raise DeadlineExceeded(f"model '{self._model}' did not answer within {timeout_s:.3g} s")
        try:
            return future.result()
        except (RayError, RayServeException) as err:
            raise translated(err, self._model) from err


def translated(err: RayError | RayServeException, model: str) -> ServeError:
    """Return what a call of a model's replica raised as an error of ours.

    An error of ours that the replica raised comes back as it was, any other one of its own
    exceptions as InferenceFailed, which tells no details.
    """
    if isinstance(err, RayTaskError):
        if isinstance(err.cause, ServeError):
            return type(err.cause)(str(err.cause))
        return InferenceFailed(f"model '{model}' failed: {type(err.cause).__name__}")
    if isinstance(err, BackPressureError):
        return QueueFull(f"model '{model}' has too many requests; try again later")
    return ModelNotReady(f"model '{model}' has no replica that answers")


async def outcome(response: Any) -> Any:
    """Return what a call through a Ray Serve handle gives; cancelled here, it is cancelled there.

    Ray leaves a call alone whose response nobody waits for any more.
    """
    try:
        return await response
    except asyncio.CancelledError:
        response.cancel()
        raise
