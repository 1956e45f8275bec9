"""Report the progress of a training batch by batch, for a progress bar."""

from typing import Any

import keras

from serve.learn.recipes import Progress


class ReportProgress(keras.callbacks.Callback):  # type: ignore[misc]
    """A Keras callback that reports the part done (0..1), the epoch and its held-out figure."""

    def __init__(self, epochs: int, report: Progress) -> None:
        super().__init__()
        self._epochs = epochs
        self._report = report
        self._epoch = 0
        self._held_out = ""

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        self._epoch = epoch

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        steps = self.params.get("steps") or batch + 1
        done = (self._epoch + (batch + 1) / steps) / self._epochs
        self._report(done, f"epoch {self._epoch + 1}/{self._epochs}{self._held_out}")

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        logs = logs or {}
        if "val_accuracy" in logs:
            self._held_out = f"  held-out accuracy {logs['val_accuracy']:.1%}"
        elif "val_loss" in logs:
            self._held_out = f"  held-out loss {logs['val_loss']:.1f}"
        self._report(
            (epoch + 1) / self._epochs, f"epoch {epoch + 1}/{self._epochs}{self._held_out}"
        )
