import numpy as np
import pytest
from bench.peers import in_process
from bench.peers import rounds as module
from bench.peers.catalogue import PEERS
from bench.peers.figures import Row, Turn
from bench.peers.in_process import InProcess
from bench.peers.rounds import Rounds, chosen
from bench.peers.turn import WrongAnswer

from serve.errors import ConfigError, ServeError

_ANSWERS = np.ones((32, 10), np.float32)


@pytest.fixture
def told():
    return []


@pytest.fixture
def turns(monkeypatch, figures, told):
    """What is measured, in its order; a name in `fails` fails with its error."""
    fails, order = {}, []

    def engine(folder, images):
        assert images.shape == (32, 28, 28, 1)
        order.append("engine")
        return InProcess(figures.engine, _ANSWERS)

    def turn(peer, repository, *, images, answers, seconds, log, report):
        assert answers is _ANSWERS
        order.append(peer.name)
        report("starting")
        if peer.name in fails:
            raise fails[peer.name]
        return Turn(float(len(order)), 1.0, 1.0, 1.0, {"JSON, 1": Row(1.0, 1.0, 1.0, {})})

    monkeypatch.setattr(module.Rounds, "_choose_engine", lambda self: order.append("choice"))
    monkeypatch.setattr(in_process, "measured", engine)
    monkeypatch.setattr(module, "take_turn", turn)
    turn.fails, turn.order = fails, order
    return turn


def _measured(tmp_path, told, only, rounds):
    return Rounds(tmp_path, 1, tmp_path, told.append).measured(chosen(only), rounds)


def test_all_have_a_turn_in_every_round_with_the_engine_around_them(turns, tmp_path, told):
    found = _measured(tmp_path, told, "strata,mosec", 2)
    assert turns.order == [
        "choice",
        "engine",
        "strata",
        "mosec",
        "engine",
        "strata",
        "mosec",
        "engine",
    ]
    assert set(found.peers) == {"strata", "mosec"}
    assert found.peers["strata"].start_s == (3 + 6) / 2
    assert (found.rounds, found.seconds) == (2, 1)
    assert "2/2 mosec: starting" in told


def test_one_that_cannot_be_measured_is_named_once_and_the_run_goes_on(turns, tmp_path, told):
    turns.fails["triton"] = ServeError("no wheel")
    found = _measured(tmp_path, told, "triton,mosec", 2)
    assert turns.order.count("triton") == 1
    assert found.missing == {"triton": "no wheel"}
    assert found.wrong == []
    assert set(found.peers) == {"mosec"}
    assert "1/2 triton: no wheel" in told


def test_one_that_fails_later_has_no_figures_of_its_first_rounds(
    turns, tmp_path, told, monkeypatch
):
    whole = module.take_turn

    def fails_later(peer, *arguments, **named):
        if turns.order.count("mosec") == 1:
            turns.fails["mosec"] = ServeError("it died")
        return whole(peer, *arguments, **named)

    monkeypatch.setattr(module, "take_turn", fails_later)
    found = _measured(tmp_path, told, "mosec", 2)
    assert found.peers == {}
    assert found.missing == {"mosec": "it died"}


def test_wrong_answers_are_told_apart(turns, tmp_path, told):
    turns.fails["mosec"] = WrongAnswer("nine for eight")
    found = _measured(tmp_path, told, "mosec", 1)
    assert found.wrong == ["mosec"]
    assert found.missing == {"mosec": "nine for eight"}


def test_peers_are_chosen_by_name_once_each_and_all_without_one():
    assert [peer.name for peer in chosen("mosec, strata,mosec")] == ["mosec", "strata"]
    assert chosen("") == list(PEERS)


def test_a_name_that_is_no_peers_is_told_with_those_that_are():
    with pytest.raises(ConfigError, match=r"knows strata, .*not bentoml"):
        chosen("strata,bentoml")
