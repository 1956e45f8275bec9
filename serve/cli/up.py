"""`strata up`: a platform on this machine, until Ctrl-C."""

import json
import math
import signal
import threading
from collections.abc import Mapping
from contextlib import ExitStack
from typing import TYPE_CHECKING, Annotated, Any

import requests
import typer

from serve.cli.checked_config import load_checked
from serve.cli.options import DEFAULT_CONFIG, ConfigPath
from serve.cli.printing import err, out
from serve.config.schema import Config
from serve.deploy.application_status import ApplicationState

if TYPE_CHECKING:
    from serve.deploy.monitoring import Monitoring

_READY_TIMEOUT_S = 900.0  # a dozen models on two cores that others use too
_CHECK_PERIOD_S = 1.0
_LONGEST_EXAMPLE = 20  # numbers that the example request spells out; the shell generates more


def up(
    config: ConfigPath = DEFAULT_CONFIG,
    watch: Annotated[
        bool, typer.Option("--watch", help="Also start Prometheus, and Grafana if installed.")
    ] = False,
) -> None:
    """Start the platform on this machine; Ctrl-C stops it.

    \b
    Example: strata up --config strata.yaml
    """
    tree = load_checked(config)
    stopped = threading.Event()
    _stop_by_signal(stopped)
    from serve.deploy.local_platform import LocalPlatform  # brings Ray
    from serve.deploy.monitoring import Monitoring

    with ExitStack() as stack:
        watcher = stack.enter_context(Monitoring(tree.ports)) if watch else None
        platform = stack.enter_context(LocalPlatform(tree))
        platform.start(lambda line: err.print(f"[dim]{line}[/dim]"))
        _stop_by_signal(stopped)  # again: Ray takes SIGTERM for itself when it starts
        if watcher:
            watcher.start(platform.haproxy_metrics_port)
        platform.wait_ready(_READY_TIMEOUT_S, _Progress(stopped))
        _print_ready(tree, watcher)
        while not stopped.wait(_CHECK_PERIOD_S):
            for name in watcher.ended() if watcher else ():
                err.print(f"[yellow]{name} has ended; the platform goes on without it[/yellow]")
        err.print("[dim]stopping[/dim]")


def _stop_by_signal(stopped: threading.Event) -> None:
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stopped.set())


class _Progress:
    """Prints an application's state when it changes; raises KeyboardInterrupt after Ctrl-C."""

    def __init__(self, stopped: threading.Event) -> None:
        self._stopped = stopped
        self._shown: dict[str, str] = {}

    def __call__(self, states: Mapping[str, ApplicationState]) -> None:
        for name, state in states.items():
            if self._shown.get(name) != state.status:
                self._shown[name] = state.status
                err.print(f"[dim]{name}: {state.status.lower()}[/dim]")
        if self._stopped.is_set():
            raise KeyboardInterrupt


def _print_ready(config: Config, watcher: "Monitoring | None") -> None:
    url = f"http://127.0.0.1:{config.http.port}"
    out.print(f"\n[bold]Strata is ready[/bold] at {url}")
    out.print(f"  metrics    http://127.0.0.1:{config.ports.metrics}/metrics")
    out.print(f"  dashboard  http://127.0.0.1:{config.ports.dashboard}")
    if watcher:
        _print_watched(watcher)
    if config.models:
        out.print("\nTry it:\n")
        out.print(f"  {example_call(url, config.models[0].name)}\n", markup=False)
    out.print("Ctrl-C stops it.")


def _print_watched(watcher: "Monitoring") -> None:
    out.print(f"  prometheus {watcher.url}/alerts")
    if watcher.grafana_url is None:
        out.print("  grafana    not installed; docs/dashboards.md shows what it would show")
    else:
        out.print(f"  grafana    {watcher.grafana_url}, admin, {watcher.grafana_password}")


def example_call(url: str, model: str) -> str:
    """Return a shell command that sends a model a request of zeros."""
    metadata = requests.get(f"{url}/v2/models/{model}", timeout=10).json()
    inputs = ",".join(_example_input(tensor) for tensor in metadata["inputs"])
    return f"curl -s {url}/v2/models/{model}/infer -d '{{\"inputs\":[{inputs}]}}'"


def _example_input(tensor: dict[str, Any]) -> str:
    """Return an input tensor as JSON for single quotes; the shell generates data that is long."""
    shape = [1 if size < 0 else size for size in tensor["shape"]]
    zero = {"BYTES": '""', "BOOL": "false"}.get(tensor["datatype"], "0")
    count = math.prod(shape)
    short = count <= _LONGEST_EXAMPLE
    data = ",".join([zero] * count) if short else f"'$(yes {zero} | head -{count} | paste -sd,)'"
    tree = {"name": tensor["name"], "datatype": tensor["datatype"], "shape": shape}
    return f'{json.dumps(tree, separators=(",", ":"))[:-1]},"data":[{data}]}}'
