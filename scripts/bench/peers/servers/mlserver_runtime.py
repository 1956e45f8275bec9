"""What MLServer's worker loads: the SavedModel's signature as a runtime."""

from typing import Any

import numpy as np
from mlserver import MLModel
from mlserver.codecs import NumpyCodec
from mlserver.types import InferenceRequest, InferenceResponse


class SignatureRuntime(MLModel):
    """Images in, probabilities out."""

    async def load(self) -> bool:
        """Load the SavedModel that the model's settings name."""
        from signature import load

        self._infer = load(self.settings.parameters.uri)
        return True

    async def predict(self, payload: InferenceRequest) -> InferenceResponse:
        """Return the probabilities of a batch."""
        images: Any = self.decode(payload.inputs[0], default_codec=NumpyCodec)
        probabilities = self._infer(np.ascontiguousarray(images, np.float32))
        output = NumpyCodec.encode_output("probabilities", probabilities)
        return InferenceResponse(model_name=self.name, outputs=[output])
