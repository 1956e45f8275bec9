import asyncio
import json
import zipfile

import pytest

from serve.engines.engine import EngineOptions
from serve.errors import RepositoryError
from serve.replica import watched_model
from serve.repository.repository import Repository
from tests.unit.replica.fakes import Doubler


class Models:
    """A repository on this disk whose versions load as numpy engines; the rest of it is real.

    `loaded` are the version folders that were loaded with their options, `engines` what of them.
    """

    def __init__(self, folder):
        self.root = folder / "models"
        self.root.mkdir()
        self.repository = Repository(str(self.root), folder / "cache")
        self.loaded: list[tuple[str, EngineOptions]] = []
        self.engines = []
        self.held = {}  # engines that a test wants for a version

    def put(self, model, version, factor=2, *, is_broken=False):
        """Put a version there that takes x `factor` times, or cannot be loaded."""
        folder = self.root / model / str(version)
        folder.mkdir(parents=True, exist_ok=True)
        with zipfile.ZipFile(folder / "model.keras", "w") as file:
            file.writestr("config.json", json.dumps({"factor": factor, "is_broken": is_broken}))

    def load(self, folder, options, tried=None):
        self.loaded.append((f"{folder.parent.name}/{folder.name}", options))
        with zipfile.ZipFile(folder / "model.keras") as file:
            tree = json.loads(file.read("config.json"))
        if tree["is_broken"]:
            raise RepositoryError(f"{folder.parent.name}/{folder.name} cannot be read")
        place = f"{folder.parent.name}/{folder.name}"
        self.engines.append(self.held.get(place) or Doubler(tree["factor"]))
        return self.engines[-1]


@pytest.fixture
def models(tmp_path, monkeypatch):
    models = Models(tmp_path)
    monkeypatch.setattr(watched_model, "load", models.load)
    return models


@pytest.fixture
def run(models, tmp_path):
    """Start a pool with these keys, use it, and stop what it does; return what `use` did."""

    def run(use, **keys):
        async def scenario():
            from tests.unit.replica.pools import Running  # which imports what tests change

            running = Running(tmp_path, models.root, **keys)
            try:
                return await use(running)
            finally:
                running.members.tasks.stop()
                for member in running.members.by_name.values():
                    member.servable.tasks.stop()

        return asyncio.run(scenario())

    return run
