"""`strata up`: a platform on this machine, until Ctrl-C."""

import json
import math
import signal
import threading
from typing import Any

import requests

from serve.cli.checking import load_checked
from serve.cli.options import DEFAULT_CONFIG, ConfigPath
from serve.cli.printing import err, out
from serve.config import Config

_READY_TIMEOUT_S = 900.0  # a dozen models on two cores that others use too
_LONGEST_EXAMPLE = 20  # numbers in the example request before the shell writes them


def up(config: ConfigPath = DEFAULT_CONFIG) -> None:
    """Start the platform on this machine; Ctrl-C stops it.

    \b
    Example: strata up --config strata.yaml
    """
    tree = load_checked(config)
    stopped = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stopped.set())
    from serve.local import LocalPlatform  # brings Ray

    with LocalPlatform(tree) as platform:
        platform.start(lambda line: err.print(f"[dim]{line}[/dim]"))
        shown: dict[str, str] = {}

        def show(states: dict[str, Any]) -> None:
            for name, state in states.items():
                if shown.get(name) != state.status:
                    shown[name] = state.status
                    err.print(f"[dim]{name}: {state.status.lower()}[/dim]")
            if stopped.is_set():
                raise KeyboardInterrupt

        platform.wait_ready(_READY_TIMEOUT_S, show)
        _say_ready(tree)
        stopped.wait()
        err.print("[dim]stopping[/dim]")


def _say_ready(config: Config) -> None:
    url = f"http://127.0.0.1:{config.http.port}"
    out.print(f"\n[bold]Strata is ready[/bold] at {url}")
    out.print(f"  metrics    http://127.0.0.1:{config.ports.metrics}/metrics")
    out.print(f"  dashboard  http://127.0.0.1:{config.ports.dashboard}")
    if config.models:
        out.print("\nTry it:\n")
        out.print(f"  {example_call(url, config.models[0].name)}\n", markup=False)
    out.print("Ctrl-C stops it.")


def example_call(url: str, model: str) -> str:
    """Return a shell line that sends a model a request of zeros and works as printed."""
    metadata = requests.get(f"{url}/v2/models/{model}", timeout=10).json()
    inputs = ",".join(_example_input(tensor) for tensor in metadata["inputs"])
    return f"curl -s {url}/v2/models/{model}/infer -d '{{\"inputs\":[{inputs}]}}'"


def _example_input(tensor: dict[str, Any]) -> str:
    """Return an input as JSON inside single quotes; the shell writes out long data."""
    shape = [1 if size < 0 else size for size in tensor["shape"]]
    zero = {"BYTES": '""', "BOOL": "false"}.get(tensor["datatype"], "0")
    count = math.prod(shape)
    short = count <= _LONGEST_EXAMPLE
    data = ",".join([zero] * count) if short else f"'$(yes {zero} | head -{count} | paste -sd,)'"
    tree = {"name": tensor["name"], "datatype": tensor["datatype"], "shape": shape}
    return f'{json.dumps(tree, separators=(",", ":"))[:-1]},"data":[{data}]}}'
