"""A member that is computed by the model's own replicas, through a Ray Serve handle.

Used with `placement: deployment`. A pipeline computes in the engine's thread, a Ray Serve handle
belongs to the replica's event loop; each call crosses from the one to the other.
"""

import asyncio
import contextlib
from collections.abc import Coroutine
from concurrent.futures import wait
from dataclasses import replace
from typing import Any

from ray import serve as ray_serve
from ray.exceptions import RayActorError, RayError, RayTaskError
from ray.serve.exceptions import BackPressureError, RayServeException

from serve.batching.deadline import left_s
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


class RemoteMember:
    """A model's application; its own batcher joins the rows of all who ask."""

    retraces = 0
    may_block_loop = False

    def __init__(
        self,
        label: str,
        model: str,
        version: int | None,
        timeout_s: float,
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        self.label = label
        self._model = model
        self._version = version
        self._timeout_s = timeout_s
        self._loop = loop
        self._handle = ray_serve.get_deployment_handle("model", app_name=model)
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
        signature: Signature = await self._ask(self._handle.signature, self._version)
        return signature

    async def _infer(self, request: InferRequest) -> InferResponse:
        response: InferResponse | InvalidRequest = await self._ask(self._handle.infer, request)
        if isinstance(response, InvalidRequest):
            raise response
        return response

    async def _ask(self, method: Any, argument: Any) -> Any:
        """Return what a replica answers; if it dies meanwhile, another one is asked, once."""
        with contextlib.suppress(RayActorError):
            return await outcome(method.remote(argument))
        return await outcome(method.remote(argument))

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
