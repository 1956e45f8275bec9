"""A request as a shell command, made of what a model says that it takes.

Called by `strata up`, for the line that it prints of each model.
"""

import json
import math
import shlex
from typing import Any

from serve.deploy.ingress import Ingress
from serve.protocols.tensors import NOT_IN_JSON

_LONGEST_EXAMPLE = 20  # numbers that the example request spells out; the shell generates more
_MOST_IN_ARGUMENT = 10_000  # numbers; Linux takes no argument of 128 KiB


def example_call(ingress: Ingress, model: str, *, asks_for_key: bool = False) -> str | None:
    """Return a shell command that sends a model a request of zeros, None if it is away just now.

    Where the platform `asks_for_key` the command takes one from the shell's variable KEY.
    """
    response = ingress.ask("GET", f"/v2/models/{model}", timeout_s=10)
    if not response.ok:
        return None
    metadata = response.json()
    trusting, url = ingress.for_curl()
    options = " ".join(["-s", *trusting, *(['-H "X-API-Key: $KEY"'] if asks_for_key else [])])
    if any(t["datatype"] in NOT_IN_JSON for t in [*metadata["inputs"], *metadata["outputs"]]):
        columns = ",".join(_example_column(tensor) for tensor in metadata["inputs"])
        path, body = f"v1/models/{model}:predict", f"'{{\"inputs\":{{{columns}}}}}'"
    else:
        inputs = ",".join(_example_input(tensor) for tensor in metadata["inputs"])
        path, body = f"v2/models/{model}/infer", f"'{{\"inputs\":[{inputs}]}}'"
    if sum(math.prod(_shape_of_one(tensor)) for tensor in metadata["inputs"]) > _MOST_IN_ARGUMENT:
        return f"printf %s {body} | curl {options} {url}/{path} -d @-"
    return f"curl {options} {url}/{path} -d {body}"


def _example_input(tensor: dict[str, Any]) -> str:
    """Return an input tensor as JSON for single quotes; the shell generates data that is long."""
    shape, zero = _shape_of_one(tensor), _zero(tensor)
    count = math.prod(shape)
    short = count <= _LONGEST_EXAMPLE
    data = ",".join([zero] * count) if short else f"'{_repeated(shlex.quote(zero), count)}'"
    tree = {"name": tensor["name"], "datatype": tensor["datatype"], "shape": shape}
    return f'{_for_single_quotes(tree)[:-1]},"data":[{data}]}}'


def _example_column(tensor: dict[str, Any]) -> str:
    """Return an input as a member of V1's columns, for single quotes as `_example_input` does."""
    zero = _zero(tensor)
    shape = _shape_of_one(tensor)
    name = _for_single_quotes(tensor["name"])
    if not shape:
        return f"{name}:{zero}"
    data = shlex.quote(zero)
    for size in reversed(shape):
        data = f'"[{_repeated(data, size)}]"'
    return f"{name}:'{data}'"


def _repeated(word: str, count: int) -> str:
    """Return what the shell makes so many of a word of, with commas between them."""
    if count == 1:
        return f"$(printf %s {word})"  # a builtin, which takes a word of any length
    return f"$(yes {word} | head -{count} | paste -sd,)"


def _shape_of_one(tensor: dict[str, Any]) -> list[int]:
    return [1 if size < 0 else size for size in tensor["shape"]]


def _zero(tensor: dict[str, Any]) -> str:
    return {"BYTES": '""', "BOOL": "false"}.get(tensor["datatype"], "0")


def _for_single_quotes(tree: Any) -> str:
    return json.dumps(tree, separators=(",", ":")).replace("'", "'\\''")
