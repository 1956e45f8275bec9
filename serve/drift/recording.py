"""What a monitor says, as metrics. Called by model once a second."""

from serve.drift.monitor import Monitor
from serve.recorder import Recorder


def record(monitor: Monitor, recorder: Recorder, version: str) -> None:
    """Record the rows that were looked at, and the scores where there are enough of them."""
    rows = monitor.take_rows()
    if rows:  # Ray takes no zero
        recorder.count("model_drift_rows", rows, version=version)
    for tensor, score in monitor.scores().items():
        recorder.gauge("model_drift_score", score, version=version, tensor=tensor)
    error = monitor.reconstruction_error()
    if error is not None:
        recorder.gauge("model_reconstruction_error", error, version=version)


def withdraw(monitor: Monitor, recorder: Recorder, version: str) -> None:
    """Say that a version which is unloaded does not drift: Ray cannot take a gauge back."""
    for tensor in monitor.labels:
        recorder.gauge("model_drift_score", 0.0, version=version, tensor=tensor)
