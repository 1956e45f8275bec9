"""Triton with its dynamic batcher (1 ms of waiting), calling TensorFlow through pytriton.

Run as `python triton_server.py <SavedModel> <HTTP port> <gRPC port> <metrics port>`.
"""

import os
import sys
import sysconfig
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from pytriton.decorators import batch
from pytriton.model_config import DynamicBatcher, ModelConfig, Tensor
from pytriton.triton import Triton, TritonConfig
from signature import load


def main() -> None:
    """Serve the model `digits` until SIGTERM."""
    folder, http, grpc, metrics = sys.argv[1], *map(int, sys.argv[2:5])
    signature = load(folder)
    # Triton's backend embeds the libpython that the loader finds; it has to be this interpreter's,
    # whose standard library it will import.
    os.environ["LD_LIBRARY_PATH"] = sysconfig.get_config_var("LIBDIR")

    @batch
    def infer(image: Any) -> dict[str, Any]:
        return {"probabilities": signature(image)}

    ports = {"http_port": http, "grpc_port": grpc, "metrics_port": metrics}
    addresses = {f"{name}_address": "127.0.0.1" for name in ("http", "grpc", "metrics")}
    workspace = Path(tempfile.gettempdir()) / "triton"  # it copies the whole server there
    with Triton(config=TritonConfig(**ports, **addresses), workspace=workspace) as triton:
        triton.bind(
            model_name="digits",
            infer_func=infer,
            inputs=[Tensor(name="image", dtype=np.float32, shape=(28, 28, 1))],
            outputs=[Tensor(name="probabilities", dtype=np.float32, shape=(10,))],
            config=ModelConfig(
                max_batch_size=64, batcher=DynamicBatcher(max_queue_delay_microseconds=1000)
            ),
        )
        triton.serve()


if __name__ == "__main__":
    main()
