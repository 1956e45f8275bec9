"""The command `strata`: its commands, and what becomes of errors.

Exit codes: 0 done, 1 refused or failed with one line on stderr, 2 wrong usage.
"""

import os
import sys

import typer

from serve import __version__
from serve.cli.apply import apply
from serve.cli.command_line import run
from serve.cli.compare import compare
from serve.cli.doctor import doctor
from serve.cli.engines import engines
from serve.cli.keys import keys
from serve.cli.models import models
from serve.cli.predict import predict
from serve.cli.publish import publish
from serve.cli.schema import schema
from serve.cli.status import status
from serve.cli.train import train
from serve.cli.tune import tune
from serve.cli.up import up

app = typer.Typer(
    name="strata",
    help="Serve TensorFlow and Keras models: one YAML file, open protocols, metrics.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
COMMANDS = (
    *(up, apply, status, doctor, train, publish, models, engines),
    *(predict, compare, tune, schema),
)
for command in COMMANDS:
    app.command()(command)
app.add_typer(keys)


@app.callback(invoke_without_command=True)
def _version(version: bool = typer.Option(False, "--version", help="Print the version.")) -> None:
    if version:
        typer.echo(f"strata {__version__}")
        raise typer.Exit


def main() -> None:
    """Run the command line; every error that is meant for a person ends as one line."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # people read our messages, not TensorFlow's
    try:
        run(app, "strata")
    except KeyboardInterrupt:
        sys.exit(130)
