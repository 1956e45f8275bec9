"""A member that is computed by the model's own replicas, through a Ray Serve handle.

Used with `placement: deployment`. A pipeline computes in the engine's thread, a Ray Serve handle
belongs to the replica's event loop; each call crosses from the one to the other.
"""

import asyncio
from collections.abc import Coroutine
from concurrent.futures import TimeoutError as LateError
from typing import Any

from ray import serve as ray_serve
from ray.exceptions import RayTaskError
from ray.serve.exceptions import RayServeException

from serve.errors import DeadlineExceeded, InferenceFailed, ModelNotReady, ServeError
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
        """Return the outputs. Raises what the model's replica raised, ModelNotReady, or late."""
        request = InferRequest(
            inputs, version=self._version, timeout_s=self._timeout_s, trace=CURRENT.get()
        )
        response: InferResponse = self._wait(self._infer(request), self._timeout_s)
        return response.outputs

    def warmup(self) -> None:
        """Do nothing: the model's own replicas are warm before they are ready."""

    def close(self) -> None:
        """Do nothing: the model's own replicas live on."""

    async def _describe(self) -> Signature:
        signature: Signature = await self._handle.signature.remote(self._version)
        return signature

    async def _infer(self, request: InferRequest) -> InferResponse:
        response: InferResponse = await self._handle.infer.remote(request)
        return response

    def _wait(self, call: Coroutine[Any, Any, Any], timeout_s: float) -> Any:
        future = asyncio.run_coroutine_threadsafe(call, self._loop)
        try:
            return future.result(timeout_s)
        except LateError as err:
            future.cancel()
            raise DeadlineExceeded(
                f"model '{self._model}' did not answer within {timeout_s:g} s"
            ) from err
        except RayTaskError as err:
            if isinstance(err.cause, ServeError):
                raise type(err.cause)(str(err.cause)) from err
            raise InferenceFailed(
                f"model '{self._model}' failed: {type(err.cause).__name__}"
            ) from err
        except RayServeException as err:
            raise ModelNotReady(f"model '{self._model}' has no replica that answers") from err
