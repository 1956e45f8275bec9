"""`strata models`: what the repository holds."""

from pathlib import Path

from serve.cli.options import DEFAULT_CONFIG, ConfigPath
from serve.cli.printing import bytes_text, out, print_table
from serve.config.file import load
from serve.repository.repository import Repository


def models(config: ConfigPath = DEFAULT_CONFIG) -> None:
    """List the models and versions in the repository.

    \b
    Example: strata models
    """
    source = load(config).repository
    repository = Repository(source.root, Path(source.cache_dir))
    rows = [row for model in repository.models() for row in _rows(repository, model)]
    if not rows:
        out.print(f"{source.root} holds no models; strata train digits makes one")
        return
    print_table(("MODEL", "VERSION", "FORMAT", "SIZE", "CREATED", "STATE"), rows)


def _rows(repository: Repository, model: str) -> list[tuple[str, ...]]:
    incomplete = repository.incomplete(model)
    rows: list[tuple[str, ...]] = []
    for number in repository.numbers(model):
        manifest = None if number in incomplete else repository.manifest(model, number)
        rows.append(
            (
                model,
                str(number),
                "-" if manifest is None else manifest.format,
                "-" if manifest is None else bytes_text(manifest.size_bytes),
                "-" if manifest is None else manifest.created[:16].replace("T", " "),
                incomplete.get(number, "ok"),
            )
        )
    return rows
