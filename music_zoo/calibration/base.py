"""What all calibrators share."""

from typing import ClassVar

import keras
import numpy as np


class Calibrator(keras.layers.Layer):
    """Logits in, logits out, of the same shape `(..., classes)`: what follows makes better probabilities.

    Its weights are not trained with the network: `fit` sets them from held-out files.

    Args:
        name: Name of the layer.
        **kwargs: Passed on to `keras.layers.Layer`; `dtype` is always float32, so that probabilities keep
            their digits under mixed precision.
    """

    #: What presets and `calibrate` call calibrators of this class.
    kind: ClassVar[str]

    def __init__(self, name: str | None = None, **kwargs):
        super().__init__(name=name, **(kwargs | {"dtype": "float32"}))

    def fit(self, logits, targets, task: str) -> None:
        """Set the weights by held-out files; arguments and errors are those of the function that fits them.

        The layer must be built.
        """
        raise NotImplementedError

    def settings(self) -> dict:
        """Return the arguments, beside the name, that make another like it."""
        return {}

    def get_config(self) -> dict:
        """Return the configuration."""
        return super().get_config() | self.settings()

    def compute_output_shape(self, input_shape) -> tuple:
        """Return the shape of the input."""
        return input_shape

    def _assign(self, *values) -> None:
        for variable, value in zip(self.weights, values, strict=True):
            variable.assign(np.asarray(value, np.float32))
