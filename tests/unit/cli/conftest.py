import sys

import pytest
import yaml

from tests.loopback import serving
from tests.unit.cli.fakes import Site
from tests.unit.cluster.fake_helm import chart, helm
from tests.unit.cluster.fakes import FakeConnection

__all__ = ["chart", "helm"]


@pytest.fixture
def strata(monkeypatch, capsys):
    """Run the command in this process: exit code, and what it prints on stdout and stderr."""
    from serve.cli.main import main

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["strata", *map(str, arguments)])
        monkeypatch.setenv("TF_CPP_MIN_LOG_LEVEL", "3")  # main would set it, and not back
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            main()
        printed = capsys.readouterr()
        return ended.value.code or 0, printed.out, printed.err

    return run


@pytest.fixture
def refused(strata):
    """Run a command that fails; return the one line that it says why, without its prefix."""

    def run(*arguments):
        code, _, error = strata(*arguments)
        assert code == 1
        assert error.startswith("strata: ")
        assert len(error.strip().splitlines()) == 1
        return error.removeprefix("strata: ").rstrip("\n")

    return run


class Trials:
    """Trials of engines that take no time; `verdict` is what they find, `tried` the versions."""

    def __init__(self):
        self.tried = []
        self.verdict = None

    def __call__(self, trial, engine, target, say=lambda _: None):
        from tests.unit.selection.fakes import verdict_with

        self.tried.append(trial)
        say("trying openvino 1.0")
        verdict = self.verdict or verdict_with(
            chosen="tensorflow",
            reason="openvino: it lies",
            platform=engine.platform,
            candidates=(),
            default_signature=engine.default_signature,
            signatures=tuple(engine.signatures.values()),
        )
        target.mkdir(parents=True)
        (target / "verdict.json").write_bytes(verdict.to_json())
        return verdict


@pytest.fixture(autouse=True)
def trials(monkeypatch):
    """What tries engines in these tests; that which does is tested in selection."""
    from serve.cli import publish
    from serve.selection import version_trial

    fake = Trials()
    monkeypatch.setattr(publish, "try_engines", fake)
    monkeypatch.setattr(version_trial, "try_engines", fake)
    return fake


@pytest.fixture
def config(tmp_path):
    """A strata.yaml with an empty repository beside it, of a platform that does not run."""
    path = tmp_path / "strata.yaml"
    tree = {"repository": {"root": "models"}, "models": [], "ports": {"dashboard": 9}}
    path.write_text(yaml.safe_dump(tree))
    return path


@pytest.fixture
def dashboard():
    """Ray Serve's REST API; its `port` goes into strata.yaml."""
    yield from _site()


@pytest.fixture
def ingress():
    """The platform's HTTP endpoint; its `port` goes into strata.yaml."""
    yield from _site()


def _site():
    site = Site()
    with serving(site.respond) as site.port:
        yield site


@pytest.fixture
def platform(tmp_path, dashboard, ingress):
    """Return a function that writes the strata.yaml of the platform that runs at these ports."""

    def write(**tree):
        path = tmp_path / "strata.yaml"
        ports = {"http": {"port": ingress.port}, "ports": {"dashboard": dashboard.port}}
        path.write_text(yaml.safe_dump({"repository": {"root": "models"}, **ports, **tree}))
        (tmp_path / "models").mkdir(exist_ok=True)
        return path

    return write


@pytest.fixture
def cluster(monkeypatch):
    """A cluster with a release `strata` in the namespace `models`, reached without waiting."""
    from serve.cluster import connection, rollout

    fake = FakeConnection()
    monkeypatch.setattr(connection, "connect", lambda: fake)
    monkeypatch.setattr(rollout, "_SETTLE_S", 0.0)
    monkeypatch.setattr(rollout, "_POLL_S", 0.01)
    return fake


@pytest.fixture(scope="session")
def keras_file(tmp_path_factory):
    import keras

    path = tmp_path_factory.mktemp("keras") / "tiny.keras"
    model = keras.Sequential([keras.Input((2,), name="x"), keras.layers.Dense(2, name="y")])
    model.save(path)
    return path
