"""`strata predict`: send a model a picture or JSON and show its outputs."""

import json
import sys
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import requests
import typer
from rich.markup import escape

from serve.cli.options import DEFAULT_CONFIG, ConfigPath
from serve.cli.printing import out
from serve.config.file import load
from serve.datatypes import DATATYPES
from serve.deploy.ingress import NEEDS_KEY, Ingress, ingress_of
from serve.errors import AccessRefused, InvalidRequest, ModelNotReady, ServeError
from serve.evaluation.predictions import is_distribution
from serve.protocols import rest_v2
from serve.protocols.json_documents import parse_object
from serve.protocols.pictures import load_image
from serve.protocols.tensors import as_numbers, as_strings, each, in_decimals
from serve.types import Array, InferRequest, InferResponse, Tensors, TensorSpec

_LENGTH = "Inference-Header-Content-Length"
_BAR_WIDTH = 30
_TOP = 3


def predict(
    model: Annotated[str, typer.Argument(help="Name of the model.")],
    image: Annotated[
        Path | None, typer.Option(help="A picture, for a model with one image input.")
    ] = None,
    data: Annotated[
        str | None,
        typer.Option("--json", help="Inputs by name as JSON, @FILE, or - for standard input."),
    ] = None,
    version: Annotated[int | None, typer.Option(help="A version instead of the newest.")] = None,
    label: Annotated[str | None, typer.Option(help="A label instead of the newest.")] = None,
    url: Annotated[str | None, typer.Option(help="The ingress, if not this machine's.")] = None,
    raw: Annotated[bool, typer.Option("--raw", help="Print the outputs as JSON.")] = False,
    config: ConfigPath = DEFAULT_CONFIG,
) -> None:
    """Ask a running model.

    \b
    Examples:
      strata predict digits --image samples/seven.png
      strata predict churn --json '{"age": [[41]], "plan": [["basic"]]}'
    """
    if (image is None) == (data is None):
        raise InvalidRequest("give either --image or --json")
    ingress = Ingress(url.rstrip("/")) if url else ingress_of(load(config))
    path = f"/v2/models/{model}{_selector(version, label)}"
    specs = _input_specs(ingress, path)
    inputs = _from_image(image, specs) if image is not None else _from_json(data or "", specs)
    response = _infer(ingress, path, inputs)
    if raw:
        outputs = {name: _plain(array) for name, array in response.outputs.items()}
        typer.echo(json.dumps(outputs))
        return
    for name, array in response.outputs.items():
        _show(name, array)
    out.print(f"[dim]{response.model} version {response.version}[/dim]")


def _selector(version: int | None, label: str | None) -> str:
    if version is not None and label is not None:
        raise InvalidRequest("give either --version or --label")
    if label == "":
        raise InvalidRequest("--label is empty; leave it out for the newest version")
    if version is not None:
        return f"/versions/{version}"
    return "" if label is None else f"/labels/{label}"


def _input_specs(ingress: Ingress, path: str) -> list[TensorSpec]:
    metadata = parse_object(_call(ingress, "GET", path).content)
    return [
        TensorSpec(entry["name"], entry["datatype"], tuple(entry["shape"]))
        for entry in metadata["inputs"]
    ]


def _from_image(path: Path, specs: list[TensorSpec]) -> Tensors:
    if len(specs) != 1:
        raise InvalidRequest(f"the model has {len(specs)} inputs; send JSON")
    return {specs[0].name: load_image(path, specs[0])}


def _from_json(text: str, specs: list[TensorSpec]) -> Tensors:
    if text == "-":
        text = sys.stdin.read()
    elif text.startswith("@"):
        try:
            text = Path(text[1:]).read_text(encoding="utf-8")
        except OSError as err:
            raise InvalidRequest(f"{text[1:]}: cannot be read: {err.strerror}") from err
    document = parse_object(text.encode())
    by_name = {spec.name: spec for spec in specs}
    unknown = [name for name in document if name not in by_name]
    if unknown:
        raise InvalidRequest(f"unknown inputs {unknown}; the model has: {', '.join(by_name)}")
    # Half floats, too: they go on as binary data.
    read = {name: DATATYPES[by_name[name].datatype] for name in document}
    return {
        name: as_strings(value, name)
        if read[name].itemsize is None
        else as_numbers(value, read[name], name)
        for name, value in document.items()
    }


def _infer(ingress: Ingress, path: str, inputs: Tensors) -> InferResponse:
    body, json_length = rest_v2.encode_request(InferRequest(inputs), binary=True)
    headers = {_LENGTH: str(json_length)} if json_length else {}
    response = _call(ingress, "POST", f"{path}/infer", body, headers)
    length = response.headers.get(_LENGTH)
    return rest_v2.decode_response(response.content, None if length is None else int(length))


def _call(
    ingress: Ingress,
    method: str,
    path: str,
    body: bytes = b"",
    headers: dict[str, str] | None = None,
) -> requests.Response:
    try:
        response = ingress.ask(method, path, data=body, headers=headers, timeout_s=60)
    except requests.exceptions.SSLError as err:
        raise ModelNotReady(f"{ingress.url} cannot be trusted: {err}") from err
    except requests.RequestException as err:
        raise ModelNotReady(
            f"nothing answers at {ingress.url}{path}; start the platform with strata up"
        ) from err
    if response.status_code == 401:
        raise AccessRefused(NEEDS_KEY)
    if response.status_code != 200:
        raise ServeError(f"{response.status_code}: {_error_text(response)}")
    return response


def _error_text(response: requests.Response) -> str:
    try:
        return str(response.json()["error"])
    except (ValueError, KeyError, TypeError):
        return response.text.strip()


def _show(name: str, array: Array) -> None:
    if is_distribution(array):
        for row in array:
            out.print(f"{escape(name)}: [bold]{int(row.argmax())}[/bold]")
            for index in np.argsort(row)[::-1][:_TOP]:
                bar = "█" * round(float(row[index]) * _BAR_WIDTH)
                out.print(f"  {index:>4}  {row[index]:6.1%}  {bar}")
        return
    out.print(f"{name}: {json.dumps(_plain(array))}", markup=False)


def _plain(array: Array) -> Any:
    if array.dtype.hasobject:
        return each(array, lambda item: item.decode(errors="replace"))
    return in_decimals(array).tolist()
