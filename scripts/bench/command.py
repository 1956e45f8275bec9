"""Run a measurement as a command of `scripts/bench/run`, and what several of them have alike."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from serve.cli import command_line
from serve.cli.printing import out

# Whether the replica has no core of its own (cores.set_apart).
Together = Annotated[bool, typer.Option("--together", help="Let everything use every core.")]


def run(bench: Callable[..., None]) -> None:
    """Call a function with the arguments of this process; exit with 1 after a ServeError."""
    app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
    app.command()(bench)
    command_line.run(app, "scripts/bench/run")


def save(figures: dict[str, Any], file: Path) -> None:
    """Keep figures as JSON in a file, whose folder is made, and say so."""
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(figures, indent=2))
    out.print(f"saved to {file}")
