"""What joins a running platform is put in place and told once it answers."""

import threading

import pytest

from serve.cli import joining
from serve.cli.joining import Joining
from serve.deploy.application_status import ApplicationState
from serve.deploy.ingress import Ingress
from serve.errors import ServeError
from serve.protocols.metadata_v2 import RESTING


class FakeApi:
    """Ray Serve's REST API, of applications with these statuses."""

    def __init__(self, **statuses):
        self.statuses = statuses

    def states(self):
        return {
            name: ApplicationState(name, status, "", int(status == "RUNNING"), 1)
            for name, status in self.statuses.items()
        }


@pytest.fixture
def come(monkeypatch):
    """What comes into the repository, look by look; an error is raised."""
    looks = []

    def put_in_place(api):
        found = looks.pop(0) if looks else []
        if isinstance(found, Exception):
            raise found
        return found if isinstance(found, dict) else dict.fromkeys(found)

    monkeypatch.setattr("serve.deploy.arrivals.put_in_place", put_in_place)
    return looks


@pytest.fixture
def answering(monkeypatch):
    """The models that answer."""
    names = {"late", "later"}
    monkeypatch.setattr(
        joining,
        "example_call",
        lambda ingress, name, **_: f"curl {ingress.url}/{name}" if name in names else None,
    )
    return names


def _joining(api, *awaited, period_s=5.0):
    return Joining(api, Ingress("http://here"), period_s, awaited)


def _look(joins, *moments):
    for now in moments:
        joins.look(now)
        if joins._adding:
            joins._adding.join(30)
            joins.look(now)  # takes what was added


def test_a_model_is_told_with_its_call_once_it_answers(come, answering, capsys):
    api = FakeApi(late="DEPLOYING")
    joins = _joining(api, "late", "later")
    come += [[], ["late"]]
    _look(joins, 0, 4)
    assert capsys.readouterr().out == ""
    _look(joins, 5, 6)
    assert capsys.readouterr().out == "late: has its first version, and is deployed\n"
    api.statuses["late"] = "RUNNING"
    answering.remove("late")  # HAProxy does not know of it yet
    _look(joins, 8)
    assert capsys.readouterr().out == ""
    answering.add("late")
    _look(joins, 10)
    printed = capsys.readouterr().out
    assert "late answers, " in printed
    assert "  curl http://here/late\n" in printed
    _look(joins, 20)
    assert capsys.readouterr().out == "", "it is told once"


def test_the_end_is_told_when_all_that_was_waited_for_answers(come, answering, capsys):
    api = FakeApi(late="RUNNING", later="RUNNING")
    joins = _joining(api, "late", "later")
    come += [["late"], ["later"]]
    _look(joins, 0)
    assert "All of it answers" not in capsys.readouterr().out
    _look(joins, 5)
    assert "All of it answers, " in capsys.readouterr().out


def test_one_that_cannot_be_loaded_is_left_to_those_who_try_it_again(come, answering, capsys):
    api = FakeApi(late="DEPLOY_FAILED")
    joins = _joining(api, "late")
    come.append(["late"])
    _look(joins, 0)
    api.statuses["late"] = "RUNNING"
    _look(joins, 5, 10)
    assert "answers" not in capsys.readouterr().out


def test_one_that_sleeps_is_not_woken(come, monkeypatch, capsys):
    monkeypatch.setattr(joining, "example_call", lambda *_: pytest.fail("it was called"))
    asleep = FakeApi()
    asleep.states = lambda: {"late": ApplicationState("late", "RUNNING", "", 0, 0)}
    come.append(["late"])
    _look(_joining(asleep, "late"), 0)
    assert "late is there, and sleeps until it is called" in capsys.readouterr().out


@pytest.fixture
def index(monkeypatch):
    """The entries of the repository index, by model."""
    entries = {}
    monkeypatch.setattr(joining, "read_index", lambda url: entries)
    return entries


def test_a_model_in_a_pool_is_told_once_it_answers_and_not_when_its_pool_does(
    come, answering, index, capsys
):
    joins = _joining(FakeApi(**{"pool-p": "RUNNING"}), "late")
    come.append({"late": "p"})
    index["late"] = [{"name": "late", "state": "UNAVAILABLE", "reason": "no version"}]
    _look(joins, 0)
    printed = capsys.readouterr()
    assert (printed.out, printed.err) == ("late: has its first version, and is deployed\n", "")
    index["late"] = [{"name": "late", "version": "1", "state": "READY"}]
    _look(joins, 3)
    printed = capsys.readouterr().out
    assert "late answers, " in printed
    assert "All of it answers, " in printed


def test_a_model_in_a_pool_that_cannot_be_loaded_is_told_once_and_when_it_can_be(
    come, answering, index, capsys
):
    joins = _joining(FakeApi(**{"pool-p": "RUNNING"}), "late")
    come.append({"late": "p"})
    bad = {"name": "late", "version": "1", "state": "UNAVAILABLE", "reason": "cut off"}
    index["late"] = [bad]
    _look(joins, 0, 3, 6)
    said = capsys.readouterr().err
    assert said == "late is not served, and tried again: cut off\n"
    index["late"] = [bad, {"name": "late", "version": "2", "state": "READY"}]
    _look(joins, 9)
    assert "late answers, " in capsys.readouterr().out


def test_a_model_that_serves_beside_a_version_that_failed_is_not_called_ill(
    come, answering, index, capsys
):
    joins = _joining(FakeApi(**{"pool-p": "RUNNING"}), "late")
    come.append({"late": "p"})
    answering.remove("late")  # it has too much to do just now
    bad = {"name": "late", "version": "2", "state": "UNAVAILABLE", "reason": "cut off"}
    index["late"] = [{"name": "late", "version": "1", "state": "READY"}, bad]
    _look(joins, 0, 3)
    assert capsys.readouterr().err == ""


def test_a_model_in_a_pool_that_rests_is_not_loaded_for_an_example(
    come, index, monkeypatch, capsys
):
    monkeypatch.setattr(joining, "example_call", lambda *_: pytest.fail("it was called"))
    come.append({"late": "p"})
    index["late"] = [{"name": "late", "version": "1", "state": "UNAVAILABLE", "reason": RESTING}]
    _look(_joining(FakeApi(**{"pool-p": "RUNNING"}), "late"), 0)
    assert "late is there, and sleeps until it is called" in capsys.readouterr().out


def test_a_platform_that_is_busy_is_asked_again(come, answering, capsys):
    joins = _joining(FakeApi(late="RUNNING"), "late")
    come += [ServeError("busy"), ["late"]]
    _look(joins, 0)
    _look(joins, 5)
    assert "late answers" in capsys.readouterr().out


def test_nobody_looks_where_the_repository_is_not_to_be_polled(come, answering, capsys):
    come.append(["late"])
    _look(_joining(FakeApi(late="RUNNING"), "late", period_s=0), 0, 10)
    assert come == [["late"]]


def test_a_store_that_hangs_holds_nothing_up(monkeypatch, answering, eventually):
    goes_on, looks = threading.Event(), []

    def hang(api):
        looks.append(api)
        goes_on.wait(30)
        return {}

    monkeypatch.setattr("serve.deploy.arrivals.put_in_place", hang)
    joins = _joining(FakeApi(), "late")
    for now in (0, 5, 10):
        joins.look(now)
        eventually(lambda: looks)
    assert len(looks) == 1, "it is waited for by the thread that looks"
    goes_on.set()
    joins._adding.join(30)
    joins.look(15)
    joins._adding.join(30)
    assert len(looks) == 2
