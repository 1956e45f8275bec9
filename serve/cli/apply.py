"""`strata apply`: make a running platform what the file says, in place."""

import time
from typing import Annotated

import typer

from serve.cli.checking import load_checked
from serve.cli.options import DEFAULT_CONFIG, ConfigPath
from serve.cli.printing import out
from serve.config import Config
from serve.control import Control
from serve.errors import ModelNotReady, RepositoryError

_POLL_S = 0.2


def apply(
    config: ConfigPath = DEFAULT_CONFIG,
    wait: Annotated[bool, typer.Option(help="Wait until the change has arrived.")] = True,
    timeout_s: Annotated[float, typer.Option(help="Seconds to wait.")] = 300.0,
) -> None:
    """Apply a changed file to the running platform; models that did not change are not touched.

    \b
    Example: strata apply --config strata.yaml
    """
    tree = load_checked(config)
    from serve.app import deploy_config  # brings Ray

    control = Control(f"http://127.0.0.1:{tree.ports.dashboard}")
    before = set(control.states())
    control.deploy(deploy_config(tree))
    if wait:
        _wait(control, tree, timeout_s)
    after = {"gateway", *(served.name for served in tree.served)}
    for name in sorted(before | after):
        change = "added" if name not in before else "removed" if name not in after else "applied"
        out.print(f"{name}: {change}")


def _wait(control: Control, tree: Config, timeout_s: float) -> None:
    wanted = {"gateway", *(served.name for served in tree.served)}
    deadline = time.monotonic() + timeout_s
    while True:
        states = control.states()
        failed = [state for state in states.values() if state.status == "DEPLOY_FAILED"]
        if failed:
            raise RepositoryError(f"model '{failed[0].name}': {failed[0].reason}")
        if set(states) == wanted and all(s.status == "RUNNING" for s in states.values()):
            return
        if time.monotonic() > deadline:
            raise ModelNotReady(f"not settled after {timeout_s:g} s; see strata status")
        time.sleep(_POLL_S)
