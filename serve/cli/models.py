"""`strata models`: what the repository holds."""

from serve.cli.options import DEFAULT_CONFIG, ConfigPath
from serve.cli.printing import bytes_text, out, print_table
from serve.cli.publish import options_of
from serve.config.file import load
from serve.config.schema import Config
from serve.engines.engine import Library
from serve.errors import RepositoryError
from serve.repository.manifest import Manifest
from serve.repository.repository import Look, Repository, configured
from serve.selection.loading import why_not_chosen
from serve.selection.verdict import Verdict
from serve.selection.version_trial import verdict_of

COLUMNS = (
    *("MODEL", "VERSION", "FORMAT", "SIZE", "CREATED"),
    *("ENGINE", "SPEED", "MEMORY", "STATE"),
)


def models(config: ConfigPath = DEFAULT_CONFIG) -> None:
    """List the models and versions in the repository.

    \b
    Example: strata models
    """
    tree = load(config)
    repository = configured(tree.repository)
    rows = [
        row
        for name, problem in repository.folders().items()
        for row in (
            _rows(tree, repository, name) if problem is None else [_row(name, "-", problem)]
        )
    ]
    if not rows:
        out.print(f"{tree.repository.root} holds no models; strata train digits makes one")
        return
    print_table(COLUMNS, rows)


def _rows(config: Config, repository: Repository, model: str) -> list[tuple[str, ...]]:
    try:
        found = repository.look(model)
    except RepositoryError as err:
        return [_row(model, "-", str(err))]
    numbers = {*found.revisions, *(key for key in found.problems if isinstance(key, int))}
    names = [key for key in found.problems if isinstance(key, str)]
    return [
        *(_version_row(config, repository, model, number, found) for number in sorted(numbers)),
        *(_row(model, name, found.problems[name]) for name in names),
    ]


def _version_row(
    config: Config, repository: Repository, model: str, number: int, found: Look
) -> tuple[str, ...]:
    if number in found.problems:
        return _row(model, str(number), found.problems[number])
    try:
        manifest = repository.manifest(model, number)
        engine, state = _engine(config, repository, model, number)
        return _row(model, str(number), state, manifest, engine)
    except RepositoryError as err:
        return _row(model, str(number), str(err))


def _row(
    model: str,
    version: str,
    state: str,
    manifest: Manifest | None = None,
    engine: tuple[str, ...] = ("-", "-", "-"),
) -> tuple[str, ...]:
    if manifest is None:
        return (model, version, "-", "-", "-", *engine, state)
    created = manifest.created[:16].replace("T", " ")
    size = bytes_text(manifest.size_bytes)
    return (model, version, manifest.format, size, created, *engine, state)


def _engine(
    config: Config, repository: Repository, model: str, number: int
) -> tuple[tuple[str, ...], str]:
    """Say which library computes a version on hardware like this machine's, and why that one.

    Its name, its speed as a multiple of the version's own library's at one row and at a full batch,
    and the memory of a process with it.
    """
    options = options_of(config, model)
    verdict = verdict_of(repository, model, number, options)
    why_native = why_not_chosen(verdict, options)
    if verdict is None:
        return ("-", "-", "-"), f"ok; {why_native}"
    library = verdict.native if why_native else verdict.chosen
    state = f"ok; {why_native}" if why_native else "ok"
    return (library, *_figures(verdict, library)), state


def _figures(verdict: Verdict, library: Library) -> tuple[str, str]:
    own, taken = verdict.of(verdict.native), verdict.of(library)
    if own is None or taken is None or own.measured is None or taken.measured is None:
        return "-", "-"
    rates = taken.measured.rows_per_s
    speed = ", ".join(f"{rates[n] / rate:.1f}x" for n, rate in own.measured.rows_per_s.items())
    return speed, bytes_text(taken.measured.memory_bytes)
