"""`strata models`: what the repository holds."""

from serve.cli.options import DEFAULT_CONFIG, ConfigPath
from serve.cli.printing import bytes_text, out, print_table
from serve.config.file import load
from serve.errors import RepositoryError
from serve.repository.manifest import Manifest
from serve.repository.repository import Look, Repository, configured


def models(config: ConfigPath = DEFAULT_CONFIG) -> None:
    """List the models and versions in the repository.

    \b
    Example: strata models
    """
    source = load(config).repository
    repository = configured(source)
    rows = [
        row
        for name, problem in repository.folders().items()
        for row in (_rows(repository, name) if problem is None else [_row(name, "-", problem)])
    ]
    if not rows:
        out.print(f"{source.root} holds no models; strata train digits makes one")
        return
    print_table(("MODEL", "VERSION", "FORMAT", "SIZE", "CREATED", "STATE"), rows)


def _rows(repository: Repository, model: str) -> list[tuple[str, ...]]:
    try:
        found = repository.look(model)
    except RepositoryError as err:
        return [_row(model, "-", str(err))]
    numbers = {*found.revisions, *(key for key in found.problems if isinstance(key, int))}
    names = [key for key in found.problems if isinstance(key, str)]
    return [
        *(_version_row(repository, model, number, found) for number in sorted(numbers)),
        *(_row(model, name, found.problems[name]) for name in names),
    ]


def _version_row(repository: Repository, model: str, number: int, found: Look) -> tuple[str, ...]:
    if number in found.problems:
        return _row(model, str(number), found.problems[number])
    try:
        return _row(model, str(number), "ok", repository.manifest(model, number))
    except RepositoryError as err:
        return _row(model, str(number), str(err))


def _row(model: str, version: str, state: str, manifest: Manifest | None = None) -> tuple[str, ...]:
    if manifest is None:
        return (model, version, "-", "-", "-", state)
    created = manifest.created[:16].replace("T", " ")
    return (model, version, manifest.format, bytes_text(manifest.size_bytes), created, state)
