"""`strata up`: a platform on this machine, until Ctrl-C."""

import json
import math
import shlex
import signal
import threading
import time
from collections.abc import Mapping
from contextlib import ExitStack, suppress
from typing import TYPE_CHECKING, Annotated, Any

import requests
import typer

from serve.cli.checked_config import load_checked
from serve.cli.options import DEFAULT_CONFIG, ConfigPath
from serve.cli.printing import err, out
from serve.config.schema import Config
from serve.deploy.application_status import ApplicationState
from serve.deploy.rollout import failed_for_good
from serve.errors import ServeError
from serve.protocols.tensors import NOT_IN_JSON

if TYPE_CHECKING:
    from serve.deploy.monitoring import Monitoring
    from serve.deploy.ray_api import RayServeApi

_FIRST_RETRY_S = 10.0
_LAST_RETRY_S = 300.0
_READY_TIMEOUT_S = 900.0  # a dozen models on two cores that others use too
_CHECK_PERIOD_S = 1.0
_LONGEST_EXAMPLE = 20  # numbers that the example request spells out; the shell generates more
_MOST_IN_ARGUMENT = 10_000  # numbers; Linux takes no argument of 128 KiB


def up(
    config: ConfigPath = DEFAULT_CONFIG,
    watch: Annotated[
        bool, typer.Option("--watch", help="Also start Prometheus, and Grafana if installed.")
    ] = False,
) -> None:
    """Start the platform on this machine; Ctrl-C stops it.

    A model that cannot be loaded is told with its reason and tried again, less and less often; the
    others serve meanwhile.

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
        failed = platform.settle(_READY_TIMEOUT_S, _Progress(stopped))
        platform.require_ingress(failed=failed)
        retries = _Retries(platform.api, failed)
        _print_ready(tree, watcher, failed)
        while not stopped.wait(_CHECK_PERIOD_S):
            retries.look(time.monotonic())
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


class _Retries:
    """Starts models again that Ray Serve has given up, less and less often, and says what comes.

    What was wrong may pass: a version that arrives late, a store that was away. Models count that
    failed when the platform started, and those that a later change brought.
    """

    def __init__(self, api: "RayServeApi", failed: Mapping[str, str]) -> None:
        self._api = api
        self._failed = dict(failed)
        self._pause_s = _FIRST_RETRY_S
        self._next = time.monotonic() + self._pause_s
        for name, reason in failed.items():
            err.print(f"{name} is not served, and tried again: {reason}", markup=False)

    def look(self, now: float) -> None:
        """Say what runs by now and what does not, and start that again; if it is time to."""
        if now < self._next:
            return
        known = set(self._failed)
        with suppress(ServeError):  # the dashboard may be busy; the next look will tell
            self._try_again(self._api.states())
        is_new = not self._failed or self._failed.keys() - known
        self._pause_s = _FIRST_RETRY_S if is_new else min(2 * self._pause_s, _LAST_RETRY_S)
        self._next = now + self._pause_s

    def _try_again(self, states: Mapping[str, ApplicationState]) -> None:
        for name in [n for n in self._failed if n in states and _runs(states[n])]:
            del self._failed[name]
            err.print(f"{name} is served now", markup=False)
        self._failed = {n: reason for n, reason in self._failed.items() if n in states}
        given_up = failed_for_good(states, states)
        for name, reason in given_up.items():
            if reason != self._failed.get(name):
                err.print(f"{name} is not served, and tried again: {reason}", markup=False)
        self._failed |= given_up
        if given_up:
            self._api.restart(given_up)


def _runs(state: ApplicationState) -> bool:
    return state.status == "RUNNING"


def _print_ready(config: Config, watcher: "Monitoring | None", failed: Mapping[str, str]) -> None:
    url = f"http://127.0.0.1:{config.http.port}"
    out.print(f"\n[bold]Strata is ready[/bold] at {url}")
    out.print(f"  metrics    http://127.0.0.1:{config.ports.metrics}/metrics")
    out.print(f"  dashboard  http://127.0.0.1:{config.ports.dashboard}")
    if watcher:
        _print_watched(watcher)
    # One that sleeps would be woken by the question what it takes.
    awake = [m.name for m in config.models if m.name not in failed and m.autoscaling.min_replicas]
    example = example_call(url, awake[0]) if awake else None
    if example:
        out.print("\nTry it:\n")
        out.print(f"  {example}\n", markup=False)
    out.print("Ctrl-C stops it.")


def _print_watched(watcher: "Monitoring") -> None:
    out.print(f"  prometheus {watcher.url}/alerts")
    if watcher.grafana_url is None:
        out.print("  grafana    not installed; docs/dashboards.md shows what it would show")
    else:
        out.print(f"  grafana    {watcher.grafana_url}, admin, {watcher.grafana_password}")


def example_call(url: str, model: str) -> str | None:
    """Return a shell command that sends a model a request of zeros, None if it is away just now."""
    response = requests.get(f"{url}/v2/models/{model}", timeout=10)
    if not response.ok:
        return None
    metadata = response.json()
    if any(t["datatype"] in NOT_IN_JSON for t in [*metadata["inputs"], *metadata["outputs"]]):
        columns = ",".join(_example_column(tensor) for tensor in metadata["inputs"])
        path, body = f"v1/models/{model}:predict", f"'{{\"inputs\":{{{columns}}}}}'"
    else:
        inputs = ",".join(_example_input(tensor) for tensor in metadata["inputs"])
        path, body = f"v2/models/{model}/infer", f"'{{\"inputs\":[{inputs}]}}'"
    if sum(math.prod(_shape_of_one(tensor)) for tensor in metadata["inputs"]) > _MOST_IN_ARGUMENT:
        return f"printf %s {body} | curl -s {url}/{path} -d @-"
    return f"curl -s {url}/{path} -d {body}"


def _example_input(tensor: dict[str, Any]) -> str:
    """Return an input tensor as JSON for single quotes; the shell generates data that is long."""
    shape, zero = _shape_of_one(tensor), _zero(tensor)
    count = math.prod(shape)
    short = count <= _LONGEST_EXAMPLE
    data = ",".join([zero] * count) if short else f"'{_repeated(shlex.quote(zero), count)}'"
    tree = {"name": tensor["name"], "datatype": tensor["datatype"], "shape": shape}
    return f'{_for_single_quotes(tree)[:-1]},"data":[{data}]}}'


def _example_column(tensor: dict[str, Any]) -> str:
    """Return an input as a member of V1's columns, for single quotes as `_example_input` does."""
    zero = _zero(tensor)
    shape = _shape_of_one(tensor)
    name = _for_single_quotes(tensor["name"])
    if not shape:
        return f"{name}:{zero}"
    data = shlex.quote(zero)
    for size in reversed(shape):
        data = f'"[{_repeated(data, size)}]"'
    return f"{name}:'{data}'"


def _repeated(word: str, count: int) -> str:
    """Return what the shell makes so many of a word of, with commas between them."""
    if count == 1:
        return f"$(printf %s {word})"  # a builtin, which takes a word of any length
    return f"$(yes {word} | head -{count} | paste -sd,)"


def _shape_of_one(tensor: dict[str, Any]) -> list[int]:
    return [1 if size < 0 else size for size in tensor["shape"]]


def _zero(tensor: dict[str, Any]) -> str:
    return {"BYTES": '""', "BOOL": "false"}.get(tensor["datatype"], "0")


def _for_single_quotes(tree: Any) -> str:
    return json.dumps(tree, separators=(",", ":")).replace("'", "'\\''")
