"""Have the engines of versions tried beside a replica that computes them as they are.

Used by watched_model after a version was loaded on which there is no verdict for this hardware.
The process that tries has the time that the replica leaves; its verdict is found at a later look.
"""

import logging
import sys
import tempfile
import threading
from pathlib import Path

from serve.engines.engine import EngineOptions
from serve.repository.repository import Repository
from serve.selection.bounded_process import Bounds, run
from serve.selection.version_trial import JOB, Job

log = logging.getLogger("ray.serve")

_LONGEST_S = 2 * 3600.0  # others of this machine may be first
_MOST_BYTES = 2**62  # what it may take is seen to inside


class BackgroundTrials:
    """Tries versions of one model, each once and one after another."""

    def __init__(self, repository: Repository) -> None:
        self._repository = repository
        self._asked: set[tuple[str, int, str]] = set()
        self._turn = threading.Lock()

    def start(self, model: str, version: int, revision: str, options: EngineOptions) -> None:
        """Begin to try a version unless that was done for this content of it."""
        key = (model, version, revision)
        if not self._repository.tries_engines or key in self._asked:
            return
        self._asked.add(key)
        job = Job(
            self._repository.root,
            str(self._repository.cache_dir),
            self._repository.cache_max_bytes,
            model,
            version,
            options,
            self._repository.trust,
        )
        threading.Thread(target=self._try, args=(job,), name="try-engines", daemon=True).start()

    def _try(self, job: Job) -> None:
        with self._turn, tempfile.TemporaryDirectory(prefix="strata-trial-") as folder:
            file = Path(folder) / "job.json"
            file.write_bytes(JOB.dump_json(job))
            command = [sys.executable, "-m", "serve.selection.version_trial", str(file)]
            bounds = Bounds(_LONGEST_S, _MOST_BYTES, nice=True)
            problem = run(command, bounds, Path(folder) / "log")
        if problem:
            log.warning(
                "model '%s' version %d: its engines were not tried: %s",
                job.model,
                job.version,
                problem,
            )
        else:
            log.info("model '%s' version %d: its engines were tried", job.model, job.version)
