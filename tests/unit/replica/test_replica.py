"""A model over a repository whose store goes away at every step: engines are numpy, all else real.

Whatever step fails: what served serves on, nothing is loaded that is not whole, the reason is told,
and once the store is back the wanted version serves and nothing is left in the cache.
"""

import asyncio
import gc
import itertools
import json
import os
import uuid
import weakref
import zipfile
from contextlib import contextmanager

import pytest

from serve.config.schema import Model as ModelConfig
from serve.config.sections import RayActorOptions, VersionPolicy
from serve.drift.baseline import Baseline, describe
from serve.errors import RepositoryError
from serve.replica import version_failures, watched_model
from serve.replica.model import Model
from serve.replica.version_sources import RepositorySource
from serve.repository.layout import BASELINE
from serve.repository.publish import publish
from serve.repository.repository import Repository
from serve.types import InferRequest
from tests.stores import ERRORS, Outage, away, serve_http
from tests.unit.replica.fakes import Doubler, until, x
from tests.unit.telemetry.fakes import FakeRecorder

_LATEST = VersionPolicy(latest=1)
_FACTORS = {1: 10, 2: 20}
_NUMBERS = describe("summary", x(1, 2, 3)["x"].reshape(3, 1))
_BASELINE = Baseline("serving_default", 3, {"x": _NUMBERS}, {"y": _NUMBERS})
_MOST_STEPS = 200


class Place:
    """A repository and a model over it; versions are put there past whatever is away.

    `whole` are the files that were put there: nothing else may be loaded.
    """

    def __init__(self, folder, root, behind, is_published, server=None):
        self.repository = Repository(root, folder / "cache")
        self._behind = Repository(behind, folder / "other-cache")
        self._sources = folder / "sources"
        self._sources.mkdir()
        self._is_published = is_published
        self._server = server
        self.whole = set()
        self._models = []
        self._engines = weakref.WeakSet()
        self.model = self.fresh()

    def fresh(self):
        config = ModelConfig(name="digits")
        source = RepositorySource(self.repository, "digits", RayActorOptions())
        self._models.append(Model(config, source, FakeRecorder()))
        return self._models[-1]

    def put(self, version):
        file = self._sources / f"{version}.keras"
        with zipfile.ZipFile(file, "w") as written:
            written.writestr("config.json", json.dumps({"factor": _FACTORS[version]}))
            written.writestr("weights", os.urandom(5000))
        self.whole.add(file.read_bytes())
        if self._is_published:
            publish(file, self._behind, "digits", version, validate=_add_baseline)
            return
        if self._behind.is_local:
            self._behind.store.local_path(f"digits/{version}").mkdir(parents=True)
        self._behind.store.upload(file, f"digits/{version}/model.keras")

    def load(self, folder, options, tried=None):
        data = (folder / "model.keras").read_bytes()
        assert data in self.whole, "half of a version was loaded"
        with zipfile.ZipFile(folder / "model.keras") as file:
            engine = Doubler(json.loads(file.read("config.json"))["factor"])
        self._engines.add(engine)
        return engine

    def has_let_go(self):
        """Tell whether no engine is there that was unloaded; a thread may hold one for a moment."""
        gc.collect()
        return len(self._engines) == sum(len(model.versions) for model in self._models)

    @contextmanager
    def away(self, outage):
        if self._server is not None:
            self._server.outage = outage
        with away(self.repository, outage):
            yield

    def left(self):
        """Return what is in the cache and neither a copy that is wanted nor a lock."""
        folder = self.repository.cache_dir / "digits"
        found = {path.name for path in folder.iterdir()} if folder.is_dir() else set()
        copies = {name for name in found if not name.startswith(".")}
        locks = {f".{copy}{end}" for copy in copies for end in (".lock", ".used.lock")}
        too_many = set() if len(copies) <= 1 else copies
        return too_many | (found - copies - locks)


def _add_baseline(folder):
    (folder / BASELINE).write_bytes(_BASELINE.to_json())
    return []


_PLACES = [
    *itertools.product(("local", "memory"), ("published", "copied by hand")),
    ("http", "published"),  # which is slow: a request for each file, so every third step fails
]


@pytest.fixture(params=_PLACES, ids=": ".join)
def places(request, tmp_path, monkeypatch):
    """Make places, each with version 1 in it and nothing loaded."""
    kind, how = request.param
    is_published = how == "published"
    monkeypatch.setattr(version_failures, "FIRST_RETRY_S", 0.0)
    www = tmp_path / "www"
    www.mkdir()
    with serve_http(www) as (server, url):

        def place():
            name = uuid.uuid4().hex
            (tmp_path / name).mkdir()
            (www / name).mkdir()
            memory = f"memory://{name}"
            roots = {"local": www / name, "memory": memory, "http": f"{url}/{name}"}
            behind = memory if kind == "memory" else www / name
            served = server if kind == "http" else None
            made = Place(tmp_path / name, str(roots[kind]), str(behind), is_published, served)
            monkeypatch.setattr(watched_model, "load", made.load)
            made.put(1)
            return made

        place.stride = 3 if kind == "http" else 1
        gc.collect()
        gc.freeze()  # each step collects, and what was there before need not be looked at
        yield place
        gc.unfreeze()


async def _y(model):
    response = await model.infer(InferRequest(x(1)))
    return response.version, response.outputs["y"].tolist()


def _outages(places, for_good):
    """Yield an outage for every step, until one is beyond the last; errors take turns."""
    errors = list(ERRORS.values())
    for at in range(for_good, _MOST_STEPS, places.stride):
        outage = Outage(at, errors[(at + for_good) % len(errors)], for_good=for_good)
        yield outage
        if not outage.has_come:
            assert at > 3, "nothing that fails was asked for"
            return
    raise AssertionError("there is no end of steps")


async def _settle(place, model):
    """Look until nothing changes, as a watch does; the store is there."""
    await model.refresh()
    if not place.repository.is_local:
        # An engine that is unloaded holds its copy as long as it is there.
        await until(place.has_let_go, timeout_s=180)
    await model.refresh()
    assert await _y(model) == (2, [_FACTORS[2]])
    assert model.unavailable() == {}
    assert (model.versions[2].monitor is not None) == place._is_published


@pytest.mark.parametrize("for_good", [False, True], ids=["once", "from then on"])
def test_a_store_that_goes_away_at_any_step_of_a_look_takes_nothing_along(places, for_good):
    async def scenario(outage):
        place = places()
        model = place.model
        await model.apply(_LATEST, {"stable": 2})
        assert await _y(model) == (1, [10])
        place.put(2)
        said = ""
        with place.away(outage):
            try:
                await model.refresh()
            except RepositoryError as err:
                said = str(err)
            number, y = await _y(model)
            assert y == [_FACTORS[number]]
            assert set(model.versions) == {number}
            if number == 1 and not outage.hides:
                assert said or model.unavailable()[2], "nobody is told why"
        await _settle(place, model)
        assert place.left() == set()
        assert model.choose(None, "stable").number == 2

    for outage in _outages(places, for_good):
        asyncio.run(scenario(outage))


@pytest.mark.parametrize("for_good", [False, True], ids=["once", "from then on"])
def test_a_start_while_the_store_goes_away_at_any_step_says_so_or_serves(places, for_good):
    async def scenario(outage):
        place = places()
        place.put(2)
        model = place.model
        with place.away(outage):
            try:
                await model.apply(_LATEST, {})
                model.require_ready()
            except RepositoryError:
                assert not model.versions
            else:
                number, y = await _y(model)
                assert y == [_FACTORS[number]]
        again = place.fresh()
        await again.apply(_LATEST, {})
        await _settle(place, again)
        await _settle(place, model)
        await _settle(place, again)
        assert place.left() == set()

    for outage in _outages(places, for_good):
        asyncio.run(scenario(outage))
