"""What scripts/gpu-check runs: models in processes of their own, and the card's memory beside them.

`python -m gpu_check` is the check; `python -m gpu_check hold SHARE FOLDER` is one of its processes,
which loads the model as a replica does, says what it sees as a line of JSON, and waits for the end
of its input.
"""

import importlib.util
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

GIB = 2**30
# Modules to the packages that bring them.
_NEEDED = {"numpy": "numpy", "tensorflow": "tensorflow[and-cuda]", "pynvml": "nvidia-ml-py"}
_PATIENCE_S = 240


def main() -> int:
    """Run all checks; 0 if they passed, 1 if one failed, 2 if they cannot be run here."""
    missing = [package for module, package in _NEEDED.items() if not _is_there(module)]
    if missing:
        print(f"CANNOT RUN: {sys.executable} lacks {', '.join(missing)}; pip install them, or")
        print("  give another Python: scripts/gpu-check --python PATH")
        return 2
    from serve.engines.cards import visible_cards
    from serve.errors import RepositoryError

    try:
        cards = visible_cards()
    except RepositoryError as err:
        print(f"CANNOT RUN: {err}")
        return 2
    if not cards:
        print("CANNOT RUN: the driver shows no card (see CUDA_VISIBLE_DEVICES)")
        return 2
    for card in cards:
        print(f"{card.name}: {card.total_bytes / GIB:.1f} GiB, {card.free_bytes / GIB:.1f} free")
    with tempfile.TemporaryDirectory() as folder:
        _save_model(folder)
        results = list(_check(folder, cards[0]))
    failed = results.count(False)
    print(f"{len(results) - failed} passed, {failed} failed")
    return 1 if failed else 0


def _is_there(module: str) -> bool:
    return importlib.util.find_spec(module) is not None


def _save_model(folder: str) -> None:
    """Write a SavedModel of a matrix product, in a process that has no card."""
    code = (
        "import sys, tensorflow as tf\n"
        "m = tf.Module(); m.w = tf.Variable(tf.eye(1024))\n"
        "spec = [tf.TensorSpec([None, 1024], tf.float32, 'x')]\n"
        "m.f = tf.function(lambda x: {'y': x @ m.w}, input_signature=spec)\n"
        "tf.saved_model.save(m, sys.argv[1], signatures=m.f)\n"
    )
    hidden = {**os.environ, "CUDA_VISIBLE_DEVICES": "-1"}
    subprocess.run(
        [sys.executable, "-c", code, folder], check=True, env=hidden, stderr=subprocess.DEVNULL
    )


def _check(folder: str, card: Any) -> Iterator[bool]:
    half = card.total_bytes / 2
    with _holder(0.5, folder) as first, _holder(0.5, folder) as second, _holder(0, folder) as third:
        for name, seen in (("first half", first), ("second half", second)):
            yield _say(seen.get("gpus") == 1, f"{name}: TensorFlow sees one card", seen)
            yield _say(
                seen.get("right") is True and "GPU" in seen.get("device", ""),
                f"{name}: right numbers, computed on the card",
                seen,
            )
            limit = seen.get("limit_mib", 0) * 2**20
            yield _say(0 < limit < half, f"{name}: {limit / GIB:.1f} GiB are TensorFlow's", seen)
        taken = _taken()
        used = sum(taken.values())
        print(f"  memory by process, as NVML tells it (MiB): {_mib(taken)}")
        yield _say(
            used <= card.total_bytes,
            f"both halves fit: {used / GIB:.1f} GiB are taken in all",
            taken,
        )
        by_half = [taken.get(seen.get("pid", -1)) for seen in (first, second)]
        if None in by_half:
            # Behind a container's own process ids the driver names no process that is seen here.
            print("  the driver names other process ids than ours; each half is not told apart")
        else:
            yield _say(
                all(size is not None and size <= half for size in by_half),
                "neither half takes more than its half of the card",
                by_half,
            )
        yield _say(third.get("gpus") == 0, "without a GPU: TensorFlow sees no card", third)
        yield _say(
            third.get("right") is True and "CPU" in third.get("device", ""),
            "without a GPU: right numbers, computed on the CPU",
            third,
        )
        yield _say(
            third.get("pid") not in taken and len(taken) <= 2,
            "without a GPU: it takes nothing of the card",
            taken,
        )
        with _holder(0.5, folder) as refused:
            yield _say(
                "free of" in refused.get("error", ""),
                "a third half is refused with a sentence",
                refused,
            )
            print(f"  {refused.get('error', '')}")
    with _holder(0.5, folder) as again:
        yield _say(again.get("right") is True, "once they ended, a half is granted again", again)


def _say(passed: bool, what: str, seen: object) -> bool:
    print(f"{'PASS' if passed else 'FAIL'} {what}" + ("" if passed else f": {seen}"), flush=True)
    return passed


@contextmanager
def _holder(share: float, folder: str) -> Iterator[dict[str, Any]]:
    """Run a process that holds the model; yield what it says of itself."""
    # A pipe would fill up with what CUDA has to say.
    complaints = tempfile.TemporaryFile("w+")  # noqa: SIM115
    process = subprocess.Popen(
        [sys.executable, "-m", "gpu_check", "hold", str(share), folder],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=complaints,
        text=True,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        line = process.stdout.readline()
        complaints.seek(0)
        yield json.loads(line) if line else {"error": complaints.read()[-1000:]}
    finally:
        complaints.close()
        process.stdin.close()
        try:
            process.wait(_PATIENCE_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _taken() -> dict[int, int]:
    """Return the bytes that each process takes of the cards."""
    import pynvml

    pynvml.nvmlInit()
    try:
        handles = [pynvml.nvmlDeviceGetHandleByIndex(i) for i in range(pynvml.nvmlDeviceGetCount())]
        return {
            process.pid: process.usedGpuMemory or 0
            for handle in handles
            for process in pynvml.nvmlDeviceGetComputeRunningProcesses(handle)
        }
    finally:
        pynvml.nvmlShutdown()


def _mib(taken: dict[int, int]) -> dict[int, int]:
    return {pid: size // 2**20 for pid, size in taken.items()}


def hold(share: float, folder: str) -> None:
    """Load the model as a replica with this share of a GPU does, compute, and wait."""
    import numpy as np

    from serve.engines.engine import EngineOptions
    from serve.engines.loading import load
    from serve.errors import ServeError

    try:
        engine = load(Path(folder), EngineOptions(num_threads=2, num_gpus=share))
        x = np.random.default_rng(0).random((64, 1024), np.float32)
        y = engine.infer("serving_default", {"x": x})["y"]
    except ServeError as err:
        said: dict[str, Any] = {"error": str(err)}
    else:
        said = {"right": bool(np.allclose(y, x, atol=1e-2)), **_seen()}
    print(json.dumps({"pid": os.getpid(), **said}), flush=True)
    sys.stdin.read()


def _seen() -> dict[str, Any]:
    import tensorflow as tf

    gpus = tf.config.list_logical_devices("GPU")
    limits = [
        device.memory_limit
        for gpu in tf.config.get_visible_devices("GPU")
        for device in tf.config.get_logical_device_configuration(gpu) or ()
    ]
    product = tf.ones((2, 2)) @ tf.ones((2, 2))
    return {"gpus": len(gpus), "device": product.device, "limit_mib": sum(limits)}


def run(arguments: Sequence[str]) -> int:
    """Be the check, or one of its processes."""
    if arguments[:1] == ["hold"]:
        hold(float(arguments[1]), arguments[2])
        return 0
    return main()


if __name__ == "__main__":
    sys.exit(run(sys.argv[1:]))
