"""Run a measurement as a command of `scripts/bench/run`."""

from collections.abc import Callable

import typer

from serve.cli import command_line


def run(bench: Callable[..., None]) -> None:
    """Call a function with the arguments of this process; exit with 1 after a ServeError."""
    app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
    app.command()(bench)
    command_line.run(app, "scripts/bench/run")
