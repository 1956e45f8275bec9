"""`strata engines`: try which library computes a model best, and keep the verdict."""

from typing import Annotated

import typer

from serve.cli.options import DEFAULT_CONFIG, ConfigPath
from serve.cli.printing import bytes_text, out, print_table, quiet_tensorflow, slow_progress, steps
from serve.cli.publish import options_of
from serve.config.file import load
from serve.errors import ConfigError
from serve.repository.progress import heard_by
from serve.repository.repository import configured
from serve.selection.verdict import Candidate, Verdict
from serve.selection.version_trial import try_version


def engines(
    model: Annotated[str, typer.Argument(help="Name of the model.")],
    version: Annotated[int | None, typer.Option(help="Version; the newest if left out.")] = None,
    config: ConfigPath = DEFAULT_CONFIG,
) -> None:
    """Try which library computes a model's own numbers fastest, on the hardware of this machine.

    Replicas that run take the verdict up by themselves.

    \b
    Example: strata engines churn
    """
    tree = load(config)
    repository = configured(tree.repository)
    options = options_of(tree, model)
    if options.library == "tensorflow":
        raise ConfigError(f"models: '{model}' has engine: tensorflow, so nothing else is tried")
    number = repository.choose(model, version)
    with quiet_tensorflow():
        from serve.engines import keras_model, saved_model  # noqa: F401
    with slow_progress() as listener, heard_by(listener):
        verdict = try_version(
            repository, model, number, options, say=steps(f"{model} version {number}")
        )
    print_verdict(verdict)


def print_verdict(verdict: Verdict) -> None:
    """Print every library that was tried with its figures, and the one that was chosen."""
    rows = [_row(each, verdict) for each in verdict.candidates]
    if rows:
        print_table(("ENGINE", "ROWS/S AT 1", "AT MOST", "LOADS IN", "MEMORY", "VERDICT"), rows)
    out.print(f"computed by {verdict.chosen}: {verdict.reason}", markup=False)


def _row(candidate: Candidate, verdict: Verdict) -> tuple[str, ...]:
    name = f"{candidate.library} {candidate.release}".strip()
    measured = candidate.measured
    if measured is None:
        return (name, "-", "-", "-", "-", candidate.refused)
    rates = list(measured.rows_per_s.values())
    return (
        name,
        f"{rates[0]:,.0f}",
        f"{rates[-1]:,.0f}",
        f"{measured.load_s:.1f} s",
        bytes_text(measured.memory_bytes),
        "chosen" if candidate.library == verdict.chosen else "right, and not chosen",
    )
