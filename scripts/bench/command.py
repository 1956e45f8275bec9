"""Run a measurement as a command: what is meant for a person ends as one line on stderr."""

import os
import sys
from collections.abc import Callable

import typer

from serve.deploy.environment import without_proxy
from serve.errors import ServeError


def run(bench: Callable[..., None]) -> None:
    """Call a function with the arguments of this process; exit with 1 after a ServeError."""
    app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
    app.command()(bench)
    os.environ.update(without_proxy(os.environ))
    try:
        app()
    except ServeError as err:
        print(f"scripts/bench/run: {err}", file=sys.stderr)
        sys.exit(1)
