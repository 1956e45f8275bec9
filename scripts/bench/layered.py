"""`scripts/bench/run layered`: a cascade against its last layer alone, and what a sequence adds.

Real held-out digits, 32 a request, over HTTP on this machine's loopback, in one run. Accuracy is
measured over HTTP too; operations a row come from the same comparison as `strata compare`.
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import numpy as np
import requests
import typer

from bench.command import run, save
from bench.load import Body, Measured, measure
from bench.workload import PORTS
from serve.cli.printing import err, print_table, quiet_tensorflow
from serve.config.file import load
from serve.config.schema import Config
from serve.evaluation.comparison import compare
from serve.evaluation.dataset import HELD_OUT
from serve.evaluation.quality import Asked
from serve.evaluation.subject import Reference, load_subject
from serve.learn.data import digits
from serve.protocols import rest_v2
from serve.repository.repository import configured
from serve.types import Array, InferRequest

_ALONE, _LAYERED, _SEQUENCE = "digits-large", "digits-layered", "digits-redrawn"
_ROWS = 32
_CONNECTIONS = 16
_ROUNDS = 3  # taking turns: the machine is shared
_PASSES = 40


def bench(
    config: Annotated[Path, typer.Option(help="File with digits-layered.")] = Path("strata.yaml"),
    seconds: Annotated[int, typer.Option(min=1, help="Seconds of load for each turn.")] = 5,
    output: Annotated[Path, typer.Option(help="Where the figures are kept.")] = Path(
        "bench-results/layered.json"
    ),
) -> None:
    """Measure the cascade, its last layer alone, and the cost of putting models in sequence."""
    tree = load(config)
    err.print("in process")
    alone, layered = (
        row.figures
        for row in compare(
            tree,
            config,
            [Reference(_ALONE), Reference(_LAYERED)],
            HELD_OUT,
            Asked(),
            lambda done, text: None,
        )
    )
    sequence = _sequence_ratio(tree)
    rates: dict[str, list[Measured]] = {_ALONE: [], _LAYERED: []}
    accuracy = {}
    with _platform(tree) as url:
        for name in rates:
            accuracy[name] = _accuracy(f"{url}/{name}/infer")
        for _ in range(_ROUNDS):
            for name, measured in rates.items():
                err.print(f"{name}, {_CONNECTIONS} connections")
                target = f"{url}/{name}/infer"
                measured.append(measure(target, bodies(), _CONNECTIONS, seconds))
    best = {name: max(m.requests_per_s for m in measured) for name, measured in rates.items()}
    print_table(
        ("MODEL", "ACCURACY", "REQ/S OF 32 ROWS", "MEDIAN MS", "FLOPS/ROW"),
        [
            _row(name, accuracy[name], rates[name], figures.flops)
            for name, figures in ((_ALONE, alone), (_LAYERED, layered))
        ],
    )
    ratios = {
        "points of accuracy lost": 100 * (accuracy[_ALONE] - accuracy[_LAYERED]),
        "share of the last layer's operations": (layered.flops or 0) / (alone.flops or 1),
        "times its throughput over HTTP": best[_LAYERED] / best[_ALONE],
        "time of a sequence over the sum of its stages": sequence,
    }
    print_table(("RATIO", ""), [(name, f"{value:.3f}") for name, value in ratios.items()])
    save({"accuracy": accuracy, "rates": best, "ratios": ratios}, output)


def _row(
    name: str, accuracy: float, measured: list[Measured], flops: float | None
) -> tuple[str, ...]:
    rate = max(m.requests_per_s for m in measured)
    median = min(m.median_ms for m in measured)
    return (name, f"{accuracy:.2%}", f"{rate:,.0f}", f"{median:.1f}", f"{(flops or 0) / 1e6:.2f} M")


@contextmanager
def _platform(tree: Config) -> Iterator[str]:
    """Start a platform with the cascade and its last layer alone; yield the URL of its models."""
    from serve.deploy.local_platform import LocalPlatform

    changed = tree.model_copy(
        update={
            "http": tree.http.model_copy(update={"port": PORTS["http"]}),
            "ports": tree.ports.model_copy(
                update={"metrics": PORTS["metrics"], "dashboard": PORTS["dashboard"]}
            ),
            "models": tuple(model for model in tree.models if model.name == _ALONE),
            "pipelines": tuple(p for p in tree.pipelines if p.name == _LAYERED),
        }
    )
    with LocalPlatform(changed) as platform:
        platform.start()
        platform.wait_ready(300)
        platform.require_ingress()
        yield f"http://127.0.0.1:{PORTS['http']}/v2/models"


def bodies() -> list[Body]:
    """Return the held-out digits in a fixed random order, as raw requests of 32."""
    images, _ = _shuffled()
    starts = range(0, len(images) - _ROWS + 1, _ROWS)
    requests_ = [InferRequest({"image": images[start : start + _ROWS]}) for start in starts]
    return [Body(*rest_v2.encode_request(request, binary=True)) for request in requests_]


def _shuffled() -> tuple[Array, Array]:
    data = digits()
    order = np.random.default_rng(0).permutation(len(data.x_test))
    return data.x_test[order], data.y_test[order]


def _accuracy(url: str) -> float:
    images, labels = _shuffled()
    correct = 0
    for start in range(0, len(images), _ROWS):
        request = InferRequest({"image": images[start : start + _ROWS]})
        body, length = rest_v2.encode_request(request, binary=True)
        headers = {"Inference-Header-Content-Length": str(length)}
        response = requests.post(url, data=body, headers=headers, timeout=30)
        response.raise_for_status()
        length = int(response.headers["Inference-Header-Content-Length"])
        outputs = rest_v2.decode_response(response.content, length).outputs
        predicted = outputs["probabilities"].argmax(axis=1)
        correct += int((predicted == labels[start : start + _ROWS]).sum())
    return correct / len(labels)


def _sequence_ratio(tree: Config) -> float:
    """Return the time of a colocated sequence over the sum of its stages', 32 rows, in turns."""
    repository = configured(tree.repository)
    with quiet_tensorflow():
        whole = load_subject(tree, repository, Reference(_SEQUENCE))
    first, second = whole.models
    images = _shuffled()[0][:_ROWS]
    drawn = {"image": first.compute({"image": images})["reconstruction"]}
    stages, together = [], []
    for _ in range(_PASSES):
        started = time.perf_counter()
        first.compute({"image": images})
        second.compute(drawn)
        between = time.perf_counter()
        whole.member.compute({"image": images})
        together.append(time.perf_counter() - between)
        stages.append(between - started)
    return float(np.median(together) / np.median(stages))


if __name__ == "__main__":
    run(bench)
