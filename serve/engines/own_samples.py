"""The sample inputs that a version brings along, to be warmed up with and tried on.

Called by loading. Either TensorFlow Serving's own file, a TFRecord of PredictionLog messages in
`assets.extra` (tensorflow_serving/apis/prediction_log.proto and predict.proto), or the arrays that
`strata publish --sample` put beside the model.
"""

from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from serve.errors import RepositoryError
from serve.protocols import npz
from serve.repository.layout import SAMPLE
from serve.types import Tensors

WARMUP_REQUESTS = "assets.extra/tf_serving_warmup_requests"
_MOST_REQUESTS = 1000  # as many as TensorFlow Serving takes

# Inputs by signature; None is the default one.
Samples = Mapping[str | None, Sequence[Tensors]]


def read_samples(folder: Path, model: Path) -> Samples:
    """Return a version's own inputs by signature, none if it has none. Raises RepositoryError."""
    samples: dict[str | None, list[Tensors]] = {}
    if (model / WARMUP_REQUESTS).is_file():
        for signature, inputs in _requests(model / WARMUP_REQUESTS):
            samples.setdefault(signature, []).append(inputs)
    if folder.is_dir() and (folder / SAMPLE).is_file():
        samples.setdefault(None, []).append(_arrays(folder / SAMPLE))
    return samples


def _arrays(path: Path) -> Tensors:
    try:
        return npz.read_arrays(path)
    except ValueError as err:
        raise RepositoryError(str(err)) from err


def _requests(path: Path) -> list[tuple[str | None, Tensors]]:
    import tensorflow as tf  # which reads these files; versions without them need it not
    from google.protobuf import message

    try:
        records = list(tf.data.TFRecordDataset(str(path)).take(_MOST_REQUESTS).as_numpy_iterator())
        logs = [_prediction_log().FromString(record) for record in records]
        return [
            (log.predict_log.request.model_spec.signature_name or None, _tensors(log))
            for log in logs
            if log.HasField("predict_log")  # the other kinds ask what this server has no route for
        ]
    except (tf.errors.OpError, message.DecodeError, ValueError) as err:
        raise RepositoryError(f"{path}: its requests cannot be read: {err}") from err


def _tensors(log: Any) -> Tensors:
    import tensorflow as tf

    inputs = log.predict_log.request.inputs
    return {name: np.asarray(tf.make_ndarray(proto)) for name, proto in inputs.items()}


@cache
def _prediction_log() -> Any:
    """Return the class for the part of PredictionLog that predict requests use.

    Made here, because the package that has it would bring a gRPC server's worth of others.
    """
    from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
    from tensorflow.core.framework import tensor_pb2

    field = descriptor_pb2.FieldDescriptorProto
    file = descriptor_pb2.FileDescriptorProto(
        name="strata/prediction_log.proto", package="strata.serving", syntax="proto3"
    )
    file.dependency.append(tensor_pb2.DESCRIPTOR.name)

    def add(name: str, *fields: tuple[str, int, str]) -> Any:
        made = file.message_type.add(name=name)
        for label, number, kind in fields:
            made.field.add(
                name=label,
                number=number,
                label=field.LABEL_OPTIONAL,
                type=field.TYPE_STRING if kind == "string" else field.TYPE_MESSAGE,
                type_name=None if kind == "string" else kind,
            )
        return made

    add("ModelSpec", ("signature_name", 3, "string"))
    request = add("PredictRequest", ("model_spec", 1, ".strata.serving.ModelSpec"))
    entry = request.nested_type.add(name="InputsEntry")
    entry.options.map_entry = True
    entry.field.add(name="key", number=1, label=field.LABEL_OPTIONAL, type=field.TYPE_STRING)
    entry.field.add(
        name="value",
        number=2,
        label=field.LABEL_OPTIONAL,
        type=field.TYPE_MESSAGE,
        type_name=".tensorflow.TensorProto",
    )
    request.field.add(
        name="inputs",
        number=2,
        label=field.LABEL_REPEATED,
        type=field.TYPE_MESSAGE,
        type_name=".strata.serving.PredictRequest.InputsEntry",
    )
    add("PredictLog", ("request", 1, ".strata.serving.PredictRequest"))
    add("PredictionLog", ("predict_log", 6, ".strata.serving.PredictLog"))
    pool = descriptor_pool.Default()
    pool.Add(file) if hasattr(pool, "Add") else pool.AddSerializedFile(file.SerializeToString())
    found = pool.FindMessageTypeByName("strata.serving.PredictionLog")
    return message_factory.GetMessageClass(found)
