from pathlib import Path

import numpy as np
from bench.workload import MODEL, bodies, platform_config

from serve.config.schema import Config
from serve.protocols import rest_v2


def test_a_request_is_what_its_name_says():
    requests = {
        name: rest_v2.decode_request(body.data, body.json_length) for name, body in bodies().items()
    }
    shapes = {name: request.inputs["image"].shape for name, (request, _) in requests.items()}
    one, many = (1, 28, 28, 1), (32, 28, 28, 1)
    assert shapes == {"JSON": one, "binary": one, "binary x32": many}
    assert {request.inputs["image"].dtype for request, _ in requests.values()} == {
        np.dtype(np.float32)
    }
    assert bodies()["JSON"].json_length is None
    wants_binary = {name: form.is_binary("probabilities") for name, (_, form) in requests.items()}
    assert wants_binary == {"JSON": False, "binary": True, "binary x32": True}


def test_a_platform_beside_it_is_left_in_peace():
    config, usual = platform_config(Path("/models")), Config()
    assert [model.name for model in config.models] == [MODEL]
    ports = {config.http.port, config.ports.metrics, config.ports.dashboard}
    assert not ports & {usual.http.port, *usual.ports.model_dump().values()}
