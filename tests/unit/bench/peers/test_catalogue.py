from itertools import chain
from pathlib import Path

import yaml
from bench.peers.catalogue import PEERS, Place
from bench.peers.figures import KINDS

from serve.config.file import load


def test_names_and_ports_are_their_own_and_only_the_first_is_no_peer():
    ports = list(chain.from_iterable(peer.ports for peer in PEERS))
    assert len(set(ports)) == len(ports)
    assert len({peer.name for peer in PEERS}) == len(PEERS)
    assert PEERS[0].name == "strata"


def test_every_way_is_a_kind_of_row():
    for peer in PEERS:
        assert set(peer.ways) <= set(KINDS), peer.name


def test_every_program_is_there_and_is_told_its_ports(tmp_path):
    place = Place(Path("/env/bin/python"), tmp_path / "models", tmp_path)
    for peer in PEERS:
        command = peer.command(place)
        programs = [part for part in command if part.endswith(".py")]
        assert all(Path(program).exists() for program in programs), peer.name
        if not peer.name.startswith("strata"):
            assert set(map(str, peer.ports)) <= set(command), peer.name


def test_stratas_config_is_of_this_run(tmp_path):
    (strata,) = [peer for peer in PEERS if peer.name == "strata"]
    command = strata.command(Place(Path("python"), tmp_path / "models", tmp_path))
    path = Path(command[command.index("--config") + 1])
    assert yaml.safe_load(path.read_text())["repository"]["root"] == str(tmp_path / "models")
    config = load(path)
    used = {config.http.port, config.ports.metrics, config.ports.dashboard}
    assert used == set(strata.ports)
