"""Which version each label of a model means: what is wanted, and what is reached.

Held by model. A label moves to the version that is wanted for it once that is loaded, and stays
where it is until then.
"""

import logging
from collections.abc import Collection, Mapping

log = logging.getLogger("ray.serve")


class Labels:
    """A model's labels; `reached` is what they mean now."""

    def __init__(self, model: str) -> None:
        self.reached: Mapping[str, int] = {}
        self._model = model
        self._wanted: Mapping[str, int] = {}
        self._missing: Mapping[str, int] = {}  # which the log has said to be missing

    def want(self, labels: Mapping[str, int], loaded: Collection[int]) -> None:
        """Take what labels are to mean from now on."""
        self._wanted = dict(labels)
        self.settle(loaded)

    def settle(self, loaded: Collection[int]) -> None:
        """Move each label to the version that is wanted for it, if that is loaded."""
        labels = {}
        for label, wanted in self._wanted.items():
            now = self.reached.get(label)
            stays = wanted not in loaded and now is not None and now in loaded
            labels[label] = now if stays and now is not None else wanted
        self.reached = labels

    def report_missing(self, loaded: Collection[int]) -> None:
        """Say once in the log which labels wait for a version that is not loaded."""
        missing = {label: wanted for label, wanted in self._wanted.items() if wanted not in loaded}
        for label, wanted in missing.items():
            if self._missing.get(label) != wanted:
                log.warning(
                    "model '%s': label '%s' is to be version %d, which is not loaded; it becomes "
                    "that version once it is",
                    self._model,
                    label,
                    wanted,
                )
        self._missing = missing
