"""Our batcher against Ray Serve's `@serve.batch`: same replica, same codecs, same engine.

Run as `scripts/bench/run batchers [repository]`; figures are in docs/performance.md.
"""

import dataclasses
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ray import serve as ray_serve

from bench.load import measure
from bench.workload import MODEL, bodies, platform_config
from serve.batching.merging import merge, padded_size, rows_of, split
from serve.cli.printing import print_table
from serve.config.schema import Config
from serve.deploy.applications import deploy_config
from serve.deploy.local_platform import LocalPlatform
from serve.replica.deployments import ModelDeployment
from serve.types import Tensors, Timing

_SIZES = (1, 2, 4, 8, 16, 32, 64)
_WAIT_S = 0.002
_SECONDS = 4


class RayBatcher:
    """Stands in for serve's Batcher and lets Ray decide when a batch is due."""

    queued = 0

    def __init__(self, compute: Callable[[str, Tensors], Tensors]) -> None:
        self._compute = compute
        batched = ray_serve.batch(max_batch_size=_SIZES[-1], batch_wait_timeout_s=_WAIT_S)
        self._batched: Any = batched(self._batch)

    async def infer(self, signature: str, inputs: Tensors, **_: Any) -> tuple[Tensors, Timing]:
        timing = Timing(arrived=time.perf_counter())
        outputs: Tensors = await self._batched((signature, inputs))
        return outputs, timing

    async def _batch(self, requests: list[tuple[str, Tensors]]) -> list[Tensors]:
        parts = [inputs for _, inputs in requests]
        rows = [rows_of(part) for part in parts]
        size = padded_size(sum(rows), _SIZES)
        return split(self._compute(requests[0][0], merge(parts, size)), rows, size)


class RayBatchedModel(ModelDeployment):
    """A model's replica whose versions batch with `@serve.batch`."""

    async def reconfigure(self, user_config: dict[str, Any]) -> None:
        await super().reconfigure(user_config)
        for number, loaded in self.servable.model.versions.items():
            batcher: Any = RayBatcher(loaded.engine.infer)
            self.servable.model.versions[number] = dataclasses.replace(loaded, batcher=batcher)


def build(args: dict[str, Any]) -> Any:
    """Build the application; Ray calls it in the cluster."""
    deployment = ray_serve.deployment(name="model")(RayBatchedModel)
    return deployment.bind(args["served"], args["repository"])


def _with_ray_batching(config: Config) -> dict[str, Any]:
    tree = deploy_config(config)
    for application in tree["applications"]:
        if application["name"] == MODEL:
            application["import_path"] = "bench.batchers:build"
    return tree


def main() -> None:
    """Measure one batcher after the other, each on a platform of its own."""
    config = platform_config(Path(sys.argv[1] if len(sys.argv) > 1 else "models").resolve())
    rows = []
    for name, make in (("ours", deploy_config), ("@serve.batch", _with_ray_batching)):
        with LocalPlatform(config, make) as platform:
            platform.start()
            platform.wait_ready(300)
            platform.require_ingress()
            url = f"http://127.0.0.1:{config.http.port}/v2/models/{MODEL}/infer"
            for kind in ("JSON", "binary"):
                for connections in (1, 16, 64):
                    got = measure(url, [bodies()[kind]], connections, _SECONDS)
                    rows.append(
                        (
                            f"{name}, {kind}, {connections}",
                            f"{got.requests_per_s:,.0f}",
                            f"{got.median_ms:.2f}",
                            f"{got.p99_ms:.2f}",
                        )
                    )
    print_table(("BATCHER, REQUEST, CONNECTIONS", "REQ/S", "MEDIAN MS", "P99 MS"), rows)


if __name__ == "__main__":
    main()
