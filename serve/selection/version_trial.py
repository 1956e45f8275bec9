"""Try the engines of a version that is in a repository, and keep the verdict beside it.

Called by `strata engines`, and by `strata compare`, which loads what was chosen. A replica runs
`python -m serve.selection.version_trial JOB.json` in the background for a version that nobody has
tried on its hardware.
"""

import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from pydantic import TypeAdapter

from serve.engines import loading
from serve.engines.engine import EngineOptions
from serve.engines.function_engine import FunctionEngine
from serve.errors import RepositoryError
from serve.repository.locks import locked
from serve.repository.repository import Repository
from serve.repository.trust import ANYBODY, Trust
from serve.selection import loading as chosen
from serve.selection.bounded_process import end_with_parent, free_bytes
from serve.selection.hardware import folder_of, hardware
from serve.selection.trials import Trial, try_engines
from serve.selection.verdict import Verdict, read_verdict

# What trying takes beside the version's own size: two processes with TensorFlow, one after another.
_LEAST_BYTES = 2 * 2**30
_TIMES_SIZE = 6


@dataclass(frozen=True, slots=True)
class Job:
    """A version to try in the background."""

    root: str
    cache_dir: str
    cache_max_bytes: int
    model: str
    version: int
    options: EngineOptions
    trust: Trust = ANYBODY


JOB = TypeAdapter(Job)


def try_version(
    repository: Repository,
    model: str,
    version: int,
    options: EngineOptions,
    *,
    nice: bool = False,
    say: Callable[[str], None] = lambda _: None,
) -> Verdict:
    """Try the engines of a version and keep the verdict. Raises RepositoryError.

    What the config says of rows is its own word, and may change; the verdict has what was found.
    """
    options = replace(options, rows="auto")
    with repository.reading(model, version) as fetched:
        content = repository.content(model, version)
        engine = loading.load(fetched.path, replace(options, library="auto"))
        engine.warmup((1,))
        with tempfile.TemporaryDirectory(prefix="strata-verdict-") as work:
            made = Path(work) / "engines"
            verdict = try_engines(
                Trial(fetched.path, options, options.sizes, nice), engine, made, say
            )
            repository.engines.put(made, model, content, here(options))
    repository.release(fetched.path)
    return verdict


def verdict_of(
    repository: Repository, model: str, version: int, options: EngineOptions
) -> Verdict | None:
    """Return the verdict on a version for this hardware, None if there is none that can be read."""
    content = repository.content(model, version)
    folder = repository.fetch_engines(model, version, content, here(options))
    try:
        return read_verdict(folder) if folder else None
    except RepositoryError:
        return None
    finally:
        if folder:
            repository.release(folder)


def load_chosen(
    repository: Repository, model: str, version: int, options: EngineOptions
) -> FunctionEngine:
    """Return the engine that a replica on this machine has for a version, not yet warm.

    Raises RepositoryError.
    """
    tried = None
    if options.library != "tensorflow":
        content = repository.content(model, version)
        tried = repository.fetch_engines(model, version, content, here(options))
    return chosen.load(repository.fetch(model, version), options, tried)


def here(options: EngineOptions) -> str:
    """Return the folder's name for the hardware that a model computes on here."""
    return folder_of(hardware(options.num_gpus))


def in_background(job: Job) -> str:
    """Try a version, one at a time on a machine; return why it was not tried, empty if it was."""
    repository = Repository(job.root, Path(job.cache_dir), job.cache_max_bytes, trust=job.trust)
    folder = repository.cache_dir
    folder.mkdir(parents=True, exist_ok=True)
    with locked(folder / ".engines.lock"):
        if verdict_of(repository, job.model, job.version, job.options) is not None:
            return ""  # another replica was here before
        listed = repository.manifest(job.model, job.version)
        wanted = _LEAST_BYTES + _TIMES_SIZE * (listed.size_bytes if listed else 0)
        if free_bytes() < wanted:
            return (
                f"model '{job.model}' version {job.version}: its engines are not tried here, that "
                f"takes {wanted / 2**30:.1f} GiB of memory and {free_bytes() / 2**30:.1f} are "
                f"free; run strata engines {job.model} where there is more"
            )
        try_version(repository, job.model, job.version, job.options, nice=True)
    return ""


def main(arguments: Sequence[str]) -> None:
    """Do the job in a file; what hinders it is printed, and is the status 1."""
    end_with_parent()
    try:
        problem = in_background(JOB.validate_json(Path(arguments[0]).read_bytes()))
    except RepositoryError as err:
        problem = str(err)
    if problem:
        print(problem, file=sys.stderr)
        sys.exit(1)


if __name__ == "__main__":
    main(sys.argv[1:])
