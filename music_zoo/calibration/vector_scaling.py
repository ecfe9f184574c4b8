"""The calibrator of one scale and one bias per class."""

import keras

from music_zoo.calibration.base import Calibrator
from music_zoo.calibration.fit_vector_scaling import fit_vector_scaling


@keras.saving.register_keras_serializable(package="music_zoo")
class VectorScaling(Calibrator):
    """Logits times a scale per class, plus a bias per class.

    For a softmax this is the vector scaling of Guo et al. (2017, arXiv:1706.04599); for a sigmoid, where each
    class stands alone, the scaling of Platt (1999).

    The weights `scale`, ones at first, and `bias`, zeros, both `(classes,)`, are fitted by
    `music_zoo.calibration.fit_vector_scaling`.

    Args:
        name: Name of the layer.
        **kwargs: As of `Calibrator`.
    """

    kind = "vector"

    def build(self, input_shape):
        """Create the weights."""
        classes = (input_shape[-1],)
        self.scale = self.add_weight(name="scale", shape=classes, initializer="ones", trainable=False)
        self.bias = self.add_weight(name="bias", shape=classes, initializer="zeros", trainable=False)

    def call(self, inputs):
        """Scale and shift."""
        return inputs * self.scale + self.bias

    def fit(self, logits, targets, task: str) -> None:
        """Set scales and biases, see `music_zoo.calibration.fit_vector_scaling`."""
        self._assign(*fit_vector_scaling(logits, targets, task))
