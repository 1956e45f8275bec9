"""Models and pipelines side by side on the same data: figures, and the cost of a million requests.

Called by `strata compare`. Each one is measured in a process of its own, one after the other.
"""

import json
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from serve.config.schema import Config, Model
from serve.config.sections import Prices, RayActorOptions
from serve.errors import InvalidRequest, ServeError
from serve.evaluation.measure import Figures, Task
from serve.evaluation.quality import Asked
from serve.evaluation.subject import Reference, find_served
from serve.replica.version_sources import engine_options
from serve.repository.repository import Repository, configured
from serve.selection.version_trial import verdict_of

_ALL = "all"
_MILLION = 1_000_000


@dataclass(frozen=True, slots=True)
class Compared:
    """One row of the comparison; `cost` is for a million requests of one row, in batches.

    `by_engine` has the same for every library that computes the model's numbers, in its largest
    batches when they were tried: empty for a pipeline, and where they were not. `pool` is the pool
    that a model is in.
    """

    reference: Reference
    figures: Figures
    cost: float
    by_engine: Mapping[str, float] = field(default_factory=dict)
    pool: str | None = None

    def to_json(self) -> dict[str, object]:
        """Return the row as JSON, units in the names."""
        named = {"name": self.reference.name, "version": self.reference.version}
        own = {**named, "pool": self.pool}
        costs = {
            "cost_per_million_requests": self.cost,
            "cost_per_million_requests_by_engine": dict(self.by_engine),
        }
        return {**own, **asdict(self.figures), **costs}


def parse_references(texts: Sequence[str], repository: Repository) -> list[Reference]:
    """Read `name`, `name@version` and `name@all`. Raises InvalidRequest, RepositoryError."""
    found = []
    for text in texts:
        name, at, version = text.partition("@")
        if version == _ALL:
            repository.choose(name, None)  # says what there is if there is none
            found += [Reference(name, number) for number in repository.versions(name)]
        elif at and not version.isdigit():
            raise InvalidRequest(f"'{text}': after @ comes a version or '{_ALL}'")
        else:
            found.append(Reference(name, int(version) if at else None))
    return found


def compare(
    config: Config,
    config_path: Path,
    references: Sequence[Reference],
    data: str,
    asked: Asked,
    progress: Callable[[float, str], None],
) -> list[Compared]:
    """Measure each reference. Raises ServeError with what its process said."""
    compared = []
    for index, reference in enumerate(references):
        progress(index / len(references), reference.text)
        named = (str(config_path), reference.name, reference.version, data)
        task = Task(*named, asked.kind, asked.tensor, asked.yes_above)
        figures = _in_own_process(task)
        served = find_served(config, reference.name)
        cost = cost_of_a_million(1 / figures.rows_per_s, served.ray_actor_options, config.prices)
        pool = served.pool if isinstance(served, Model) else None
        compared.append(Compared(reference, figures, cost, _by_engine(config, reference), pool))
    progress(1.0, "done")
    return compared


def cost_of_a_million(seconds_a_row: float, options: RayActorOptions, prices: Prices) -> float:
    """Return what a million rows cost on a replica that is never idle."""
    an_hour = options.num_cpus * prices.cpu_hour + options.num_gpus * prices.gpu_hour
    return seconds_a_row * _MILLION / 3600 * an_hour


def _by_engine(config: Config, reference: Reference) -> dict[str, float]:
    """Return the cost of a million requests by each library that computes a model's numbers."""
    served = find_served(config, reference.name)
    if not isinstance(served, Model):
        return {}
    repository = configured(config.repository)
    version = repository.choose(reference.name, reference.version)
    verdict = verdict_of(repository, reference.name, version, engine_options(served))
    rates = {
        each.library: each.measured.rows_per_s[max(each.measured.rows_per_s)]
        for each in (verdict.candidates if verdict else ())
        if each.measured and not each.refused
    }
    return {
        library: cost_of_a_million(1 / rate, served.ray_actor_options, config.prices)
        for library, rate in rates.items()
    }


def _in_own_process(task: Task) -> Figures:
    done = subprocess.run(
        [sys.executable, "-m", "serve.evaluation.measure"],
        input=json.dumps(asdict(task)),
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        last = (done.stderr.strip().splitlines() or ["it ended without a word"])[-1]
        raise ServeError(f"'{task.name}' cannot be measured: {last}")
    reported = json.loads(done.stdout.splitlines()[-1])
    if "error" in reported:
        raise ServeError(reported["error"])
    return Figures(**reported)
