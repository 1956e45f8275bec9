"""`strata up`: a platform on this machine, until Ctrl-C."""

import time
from collections.abc import Collection, Mapping, Sequence
from contextlib import ExitStack, suppress
from functools import partial
from typing import TYPE_CHECKING, Annotated

import typer

from serve.cli.checked_config import check
from serve.cli.example import example_call
from serve.cli.joining import Joining
from serve.cli.options import DEFAULT_CONFIG, ConfigPath
from serve.cli.printing import elapsed, err, out, print_unserved
from serve.cli.stop_signal import StopSignal
from serve.cli.training import Training
from serve.config.file import load
from serve.config.schema import Config, Model
from serve.config.sections import Pool
from serve.deploy.application_status import ApplicationState
from serve.deploy.ingress import Ingress, ingress_of, require_client_certificate
from serve.deploy.repository_index import unserved_members
from serve.deploy.rollout import failed_for_good
from serve.errors import ServeError
from serve.learn.recipes import recipes_for

if TYPE_CHECKING:
    from serve.deploy.monitoring import Monitoring
    from serve.deploy.ray_api import RayServeApi

_FIRST_RETRY_S = 10.0
_LAST_RETRY_S = 300.0
_READY_TIMEOUT_S = 900.0  # a dozen models on two cores that others use too
_CHECK_PERIOD_S = 1.0


def up(
    config: ConfigPath = DEFAULT_CONFIG,
    watch: Annotated[
        bool, typer.Option("--watch", help="Also start Prometheus, and Grafana if installed.")
    ] = False,
    train: Annotated[
        bool,
        typer.Option("--train", help="Also train the reference models that are missing."),
    ] = False,
    ray_dashboard: Annotated[
        bool,
        typer.Option("--ray-dashboard", help="Also serve the pages of Ray's own dashboard."),
    ] = False,
) -> None:
    """Start the platform on this machine; Ctrl-C stops it.

    What has no version yet waits for its first one, and is added when that is there. A model that
    cannot be loaded is told with its reason and tried again, less and less often; the others serve
    meanwhile.

    \b
    Example: strata up --config strata.yaml
    """
    tree = load(config)
    awaited = check(tree)
    require_client_certificate(tree)
    recipes = recipes_for(_models_missing(tree, awaited)) if train else []
    stopped = StopSignal()
    stopped.listen()
    _say_what_waits(tree, awaited, recipes)
    with ExitStack() as stack:
        if recipes:
            stack.enter_context(Training(recipes, config)).start()
        _run(stack, tree, awaited, stopped, watch=watch, ray_dashboard=ray_dashboard)


def _run(
    stack: ExitStack,
    tree: Config,
    awaited: Collection[str],
    stopped: StopSignal,
    *,
    watch: bool,
    ray_dashboard: bool,
) -> None:
    """Start the platform and look after it until it is stopped; the stack ends what was started."""
    from serve.deploy.applications import deploy_config  # brings Ray
    from serve.deploy.local_platform import LocalPlatform
    from serve.deploy.monitoring import Monitoring

    watcher = stack.enter_context(Monitoring(tree.ports)) if watch else None
    applications = partial(deploy_config, awaited=awaited)
    platform = LocalPlatform(tree, applications, has_dashboard=ray_dashboard)
    stack.enter_context(platform)
    platform.start(lambda line: err.print(f"[dim]{line}[/dim]"))
    stopped.listen()  # again: Ray takes SIGTERM for itself when it starts
    if watcher:
        watcher.start(platform.haproxy_metrics_port)
    failed = platform.settle(_READY_TIMEOUT_S, _Progress(stopped))
    platform.require_ingress(failed=failed)
    stopped.require_none()
    for name, reason in unserved_members(tree, platform.api.states).items():
        print_unserved(name, reason)
    retries = _Retries(platform.api, failed)
    ingress = ingress_of(tree)
    asks_for_key = tree.access.asks_who
    period_s = tree.repository.poll_interval_s
    joining = Joining(platform.api, ingress, period_s, awaited, asks_for_key=asks_for_key)
    _print_ready(tree, ingress, watcher, failed, awaited, ray_dashboard=ray_dashboard)
    while not stopped.wait(_CHECK_PERIOD_S):
        now = time.monotonic()
        retries.look(now)
        joining.look(now)
        for name in watcher.ended() if watcher else ():
            err.print(f"[yellow]{name} has ended; the platform goes on without it[/yellow]")
    err.print("[dim]stopping[/dim]")


def _models_missing(config: Config, awaited: Collection[str]) -> set[str]:
    """Return the models that what waits is made of and that have no version, as far as is known."""
    needed = config.models_needed()
    here = {model.name for model in config.models} - set(awaited)
    return {model for name in awaited for model in needed[name]} - here


def _say_what_waits(config: Config, awaited: Mapping[str, str], recipes: Sequence[str]) -> None:
    """Say what is trained, and of what needs anything else why it waits."""
    if recipes:
        names = ", ".join(recipes)
        err.print(f"[dim]training beside the platform: {names}[/dim]", soft_wrap=True)
    needed = config.models_needed()
    for name, reason in awaited.items():
        if not recipes or not all(recipes_for([model]) for model in needed[name]):
            err.print(f"{name} {reason}", markup=False, soft_wrap=True)


class _Progress:
    """Prints an application's state when it changes; raises KeyboardInterrupt after Ctrl-C."""

    def __init__(self, stopped: StopSignal) -> None:
        self._stopped = stopped
        self._shown: dict[str, str] = {}

    def __call__(self, states: Mapping[str, ApplicationState]) -> None:
        for name, state in states.items():
            if self._shown.get(name) != state.status:
                self._shown[name] = state.status
                err.print(f"[dim]{name}: {state.status.lower()}[/dim]")
        self._stopped.require_none()


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
            print_unserved(name, reason)

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
                print_unserved(name, reason)
        self._failed |= given_up
        if given_up:
            self._api.restart(given_up)


def _runs(state: ApplicationState) -> bool:
    return state.status == "RUNNING"


def _print_ready(
    config: Config,
    ingress: Ingress,
    watcher: "Monitoring | None",
    failed: Collection[str],
    awaited: Collection[str],
    *,
    ray_dashboard: bool,
) -> None:
    out.print(f"\n[bold]Strata is ready[/bold] at {ingress.url}, {elapsed()} after the start")
    out.print(f"  metrics    http://127.0.0.1:{config.ports.metrics}/metrics")
    if ray_dashboard:
        out.print(f"  dashboard  http://127.0.0.1:{config.ports.dashboard}")
    if watcher:
        _print_watched(watcher)
    # One that sleeps would be woken by the question what it takes.
    here = [m for m in config.models if m.name not in awaited]
    awake = [m.name for m in here if _is_awake(config, m, failed)]
    asks_for_key = config.access.asks_who
    example = example_call(ingress, awake[0], asks_for_key=asks_for_key) if awake else None
    if config.access.keys is not None:
        out.print("  keys       KEY=$(strata keys create --tenant NAME)")
    if config.access.jwt is not None:
        out.print(f"  tokens     KEY=(a token of {config.access.jwt.issuer})", markup=False)
    if example:
        out.print("\nTry it:\n")
        out.print(f"  {example}\n", markup=False)
    if awaited:
        out.print(f"Joins as soon as it has a version: {', '.join(awaited)}", markup=False)
    out.print("Ctrl-C stops it.")


def _is_awake(config: Config, model: Model, failed: Collection[str]) -> bool:
    """Tell whether a model's replicas, or its pool's, run for all that is known."""
    process = config.process_of(model)
    application = process.application if isinstance(process, Pool) else process.name
    return application not in failed and process.autoscaling.min_replicas > 0


def _print_watched(watcher: "Monitoring") -> None:
    out.print(f"  prometheus {watcher.url}/alerts")
    if watcher.grafana_url is None:
        out.print("  grafana    not installed; docs/dashboards.md shows what it would show")
    else:
        out.print(f"  grafana    {watcher.grafana_url}, admin, {watcher.grafana_password}")
