"""Run a Typer app as a command: what is meant for a person ends as one line on stderr.

Called by main, and by the measurements of `scripts/bench`.
"""

import os
import sys

import typer

from serve.deploy.environment import without_proxy
from serve.errors import ServeError


def run(app: typer.Typer, name: str) -> None:
    """Call an app with the arguments of this process; exit with 1 after a ServeError.

    `name` is the command's in that line. A proxy of the environment is not asked for this machine.
    """
    os.environ.update(without_proxy(os.environ))
    try:
        app()
    except ServeError as err:
        print(f"{name}: {err}", file=sys.stderr)
        sys.exit(1)
