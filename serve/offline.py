"""Predict many rows at once over Ray Data, with the engine that serves: `python -m serve.offline`.

Run by k8s/rayjob-predict.yaml, or by hand on one machine. Each actor loads the model or pipeline
once, as a replica does; rows stream through the actors in full batches. Inputs are an .npz with an
array for each input, or Parquet with a column for each; the output is Parquet with every column
that is no input, and the model's outputs. Needs the extra `offline`.
"""

import argparse
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from serve.config.file import load
from serve.config.schema import Config
from serve.datatypes import DATATYPES
from serve.deploy.ray_processes import patient
from serve.errors import ConfigError, InvalidRequest, ServeError
from serve.evaluation.subject import Reference, find_served, load_subject
from serve.protocols.signature_check import check
from serve.repository.repository import configured
from serve.types import Array, Signature, Tensors

ROW = "row"  # the column that says which row of an .npz an output belongs to


class Predictor:
    """One model or pipeline in one actor; Ray Data calls it with batches of columns."""

    def __init__(self, config: Mapping[str, Any], model: str, version: int | None) -> None:
        tree = Config.model_validate(config)
        repository = configured(tree.repository)
        self._model = model
        self._member = load_subject(tree, repository, Reference(model, version)).member
        if not self._member.signature.batched:
            raise InvalidRequest(f"model '{model}' takes no batches, so not many rows at once")

    def __call__(self, columns: Tensors) -> Tensors:
        """Return the outputs of a batch beside its columns that are no inputs."""
        signature = self._member.signature
        outputs = self._member.compute(inputs_of(columns, signature, self._model))
        names = {spec.name for spec in signature.inputs}
        kept = {name: column for name, column in columns.items() if name not in names}
        return {**kept, **outputs}


def inputs_of(columns: Tensors, signature: Signature, model: str) -> Tensors:
    """Return the columns that the model takes, in its datatypes. Raises InvalidRequest."""
    specs = [spec for spec in signature.inputs if spec.name in columns]
    inputs = {spec.name: _cast(columns[spec.name], spec.datatype, spec.name) for spec in specs}
    return check(inputs, signature, model)


def _cast(column: Array, datatype: str, name: str) -> Array:
    wanted = DATATYPES[datatype].numpy
    if wanted.hasobject:
        return np.array([_bytes(item) for item in column.ravel()], object).reshape(column.shape)
    if column.dtype.hasobject:  # lists of numbers, one a row
        column = np.stack([np.asarray(row) for row in column])
    if not np.can_cast(column.dtype, wanted, "same_kind"):
        raise InvalidRequest(f"input '{name}' is {column.dtype} and cannot become {datatype}")
    return column.astype(wanted, copy=False)


def _bytes(item: Any) -> bytes:
    return item if isinstance(item, bytes) else str(item).encode()


def predict(
    config: Config,
    model: str,
    source: str,
    output: str,
    version: int | None = None,
    replicas: int = 1,
) -> int:
    """Predict every row of `source` into Parquet files below `output`; return how many."""
    import ray.data

    if not ray.is_initialized():
        with patient():
            ray.init()
    served = find_served(config, model)
    options = served.ray_actor_options
    rows = _read(source, served.batching.max_batch_size)
    predicted = rows.map_batches(
        Predictor,
        fn_constructor_args=(config.model_dump(mode="json", exclude_unset=True), model, version),
        batch_size=served.batching.max_batch_size,
        batch_format="numpy",
        compute=ray.data.ActorPoolStrategy(size=replicas),
        num_cpus=options.num_cpus,
        num_gpus=options.num_gpus,
    ).materialize()
    predicted.write_parquet(output)
    return int(predicted.count())


def _read(source: str, rows_of_block: int) -> Any:
    import ray.data

    if not source.endswith(".npz"):
        return ray.data.read_parquet(source)
    arrays = _read_npz(source)
    rows = len(next(iter(arrays.values())))
    kept = ray.put(arrays)  # once in the object store, whose memory the tasks look into

    def take(batch: Tensors) -> Tensors:
        chosen = batch["id"]
        return {ROW: chosen, **{name: array[chosen] for name, array in ray.get(kept).items()}}

    blocks = max(1, rows // (16 * rows_of_block))
    return ray.data.range(rows, override_num_blocks=blocks).map_batches(
        take, batch_format="numpy", batch_size=None
    )


def _read_npz(source: str) -> Tensors:
    try:
        with np.load(source, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
    except (OSError, ValueError) as err:
        raise ConfigError(f"{source}: cannot be read as .npz: {err}") from err
    lengths = {name: array.shape[:1] for name, array in arrays.items()}
    if len(set(lengths.values())) != 1 or () in lengths.values():
        raise ConfigError(f"{source}: its arrays must have as many rows each; they are {lengths}")
    return arrays


def main(arguments: Sequence[str] | None = None) -> int:
    """Parse the command line and predict; 1 with one line on stderr for what was refused."""
    parser = argparse.ArgumentParser(prog="python -m serve.offline", description=__doc__)
    parser.add_argument("model", help="a model or pipeline; NAME@VERSION for one version")
    parser.add_argument("--config", type=Path, default=Path("strata.yaml"))
    parser.add_argument("--input", required=True, help=".npz file, or Parquet file, folder or URL")
    parser.add_argument("--output", required=True, help="folder or URL for Parquet files")
    parser.add_argument(
        "--replicas", type=int, default=1, help="actors that compute; leave a core for reading"
    )
    options = parser.parse_args(arguments)
    name, _, version = options.model.partition("@")
    started = time.monotonic()
    try:
        rows = predict(
            load(options.config),
            name,
            options.input,
            options.output,
            int(version) if version else None,
            options.replicas,
        )
    except ServeError as err:
        print(f"serve.offline: {err}", file=sys.stderr)
        return 1
    seconds = time.monotonic() - started
    print(f"{name}: {rows} rows in {seconds:.1f} s, {rows / seconds:.0f} rows/s: {options.output}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
