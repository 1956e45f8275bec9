"""MLServer with adaptive batching, one parallel worker and a runtime that calls TensorFlow.

Run as `python mlserver_server.py <SavedModel> <HTTP port> <gRPC port> <metrics port>`.
"""

import json
import os
import sys
import tempfile
from pathlib import Path


def main() -> None:
    """Write MLServer's two files and become `mlserver start`."""
    saved_model, http, grpc, metrics = sys.argv[1], *map(int, sys.argv[2:5])
    folder = Path(tempfile.gettempdir()) / f"strata-bench-mlserver-{http}"
    folder.mkdir(exist_ok=True)
    settings = {
        "host": "127.0.0.1",
        "http_port": http,
        "grpc_port": grpc,
        "metrics_port": metrics,
        "parallel_workers": 1,
        "debug": False,
    }
    model = {
        "name": "digits",
        "implementation": "mlserver_runtime.SignatureRuntime",
        "max_batch_size": 64,
        "max_batch_time": 0.001,
        "parameters": {"uri": saved_model},
        "inputs": [{"name": "image", "datatype": "FP32", "shape": [-1, 28, 28, 1]}],
        "outputs": [{"name": "probabilities", "datatype": "FP32", "shape": [-1, 10]}],
    }
    (folder / "settings.json").write_text(json.dumps(settings))
    (folder / "model-settings.json").write_text(json.dumps(model))
    os.environ["PYTHONPATH"] = str(Path(__file__).parent)
    command = str(Path(sys.executable).with_name("mlserver"))
    os.execv(command, [command, "start", str(folder)])


if __name__ == "__main__":
    main()
