"""`scripts/bench/run demo`: steady requests to every model and pipeline of a running platform.

For dashboards that show something: real held-out digits and phrases by V2 and V1, as tenants and
as nobody, a few rows a request. It keeps a pace and measures nothing.
"""

import random
import threading
import time
from collections import Counter
from collections.abc import Iterator
from typing import Annotated, Any

import numpy as np
import requests
import typer

from bench.command import run
from bench.load import require_loopback
from serve.cli.printing import err, out
from serve.errors import ServeError
from serve.learn.data import digits, unseen_phrases
from serve.protocols.tensors import NOT_IN_JSON
from serve.types import Array

# Inputs as metadata describes them, each with rows to draw from.
Examples = list[tuple[dict[str, Any], Array]]

_MOST_ROWS = 8
_TENANTS = ("web", "batch", None)
_HEADER = "x-tenant"
_REPORT_PERIOD_S = 10.0


def bench(
    url: Annotated[str, typer.Option(help="The platform; on this machine.")] = (
        "http://127.0.0.1:8000"
    ),
    seconds: Annotated[float, typer.Option(help="How long.")] = 600.0,
    clients: Annotated[int, typer.Option(min=1, help="Clients that call at the same time.")] = 4,
    pause: Annotated[float, typer.Option(min=0, help="Seconds between a client's calls.")] = 0.05,
) -> None:
    """Call every model and pipeline of a running platform, to watch it at work."""
    require_loopback(url)
    models = _models(url)
    examples = {name: example_rows(inputs) for name, inputs in models.items()}
    err.print(f"calling {', '.join(models)} for {seconds:g} s; Ctrl-C ends it")
    responses: Counter[str] = Counter()
    stop = threading.Event()
    threads = [
        threading.Thread(target=call_until, args=(stop, url, examples, pause, responses, seed))
        for seed in range(clients)
    ]
    for thread in threads:
        thread.start()
    try:
        _wait(seconds, responses)
    except KeyboardInterrupt:
        pass
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    out.print(_summary(responses))


def _models(url: str) -> dict[str, list[dict[str, Any]]]:
    """Return the inputs of every model that is ready, as its metadata describes them."""
    index = _asked("POST", f"{url}/v2/repository/index", {"ready": True})
    names = dict.fromkeys(entry["name"] for entry in index)
    return {name: _asked("GET", f"{url}/v2/models/{name}")["inputs"] for name in names}


def _asked(method: str, url: str, body: Any = None) -> Any:
    try:
        response = requests.request(method, url, json=body, timeout=30)
        response.raise_for_status()
        return response.json()
    except requests.RequestException as failed:
        raise ServeError(f"{url} does not answer: {failed}; start one with strata up") from failed


def example_rows(inputs: list[dict[str, Any]]) -> Examples:
    """Return each input with rows to draw from: held-out digits or phrases, else numbers."""
    return [(tensor, _rows_for(tensor)) for tensor in inputs]


def _rows_for(tensor: dict[str, Any]) -> Array:
    inner = tensor["shape"][1:]
    if tensor["datatype"] == "BYTES":
        phrases, _ = unseen_phrases()
        return np.array([phrase.decode() for phrase in phrases], object)
    if inner == [28, 28, 1]:
        return digits().x_test
    shape = [1000, *(max(size, 1) for size in inner)]
    if tensor["datatype"].startswith(("FP", "BF")):
        return np.random.default_rng(0).standard_normal(shape)
    numbers = np.random.default_rng(0).integers(0, 2, shape)
    return numbers.astype(bool) if tensor["datatype"] == "BOOL" else numbers


def call_until(
    stop: threading.Event,
    url: str,
    examples: dict[str, Examples],
    pause_s: float,
    responses: Counter[str],
    seed: int,
) -> None:
    """Call models by chance until `stop` is set; count what comes of it, by status or error."""
    chance = random.Random(seed)
    with requests.Session() as session:
        while not stop.wait(pause_s):
            model = chance.choice(list(examples))
            path, body = _request(model, examples[model], chance)
            tenant = chance.choice(_TENANTS)
            headers = {} if tenant is None else {_HEADER: tenant}
            try:
                response = session.post(url + path, json=body, headers=headers, timeout=60)
                responses[str(response.status_code)] += 1
            except requests.RequestException as failed:
                responses[type(failed).__name__] += 1


def _request(model: str, inputs: Examples, chance: random.Random) -> tuple[str, dict[str, Any]]:
    """Return the path and body of a request: three in four by V2, the others by V1 in columns.

    Half floats go by V1 alone, which takes them as decimals.
    """
    rows = chance.randint(1, _MOST_ROWS)
    chosen = [(tensor, table[chance.sample(range(len(table)), rows)]) for tensor, table in inputs]
    has_halves = any(tensor["datatype"] in NOT_IN_JSON for tensor, _ in inputs)
    if chance.random() < 0.25 or has_halves:
        columns = {tensor["name"]: array.tolist() for tensor, array in chosen}
        return f"/v1/models/{model}:predict", {"inputs": columns}
    tensors = [
        {
            "name": tensor["name"],
            "datatype": tensor["datatype"],
            "shape": list(array.shape),
            "data": array.ravel().tolist(),
        }
        for tensor, array in chosen
    ]
    return f"/v2/models/{model}/infer", {"inputs": tensors}


def _wait(seconds: float, responses: Counter[str]) -> None:
    for left in _countdown(seconds):
        time.sleep(min(left, _REPORT_PERIOD_S))
        err.print(f"[dim]{_summary(responses)}[/dim]")


def _countdown(seconds: float) -> Iterator[float]:
    end = time.monotonic() + seconds
    while (left := end - time.monotonic()) > 0:
        yield left


def _summary(responses: Counter[str]) -> str:
    counted = ", ".join(f"{kind} {count}" for kind, count in sorted(responses.items()))
    return f"answers: {counted or 'none yet'}"


if __name__ == "__main__":
    run(bench)
