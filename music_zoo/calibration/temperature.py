"""The simplest calibrator: logits divided by one temperature."""

import keras

from music_zoo.calibration.base import Calibrator
from music_zoo.calibration.fitting import fit_temperature


@keras.saving.register_keras_serializable(package="music_zoo")
class Temperature(Calibrator):
    """Divide logits by a temperature: above 1 softens the probabilities that follow, below 1 sharpens them.

    Dividing is what Guo et al. (2017, arXiv:1706.04599) do. Lukashevich et al. (2023,
    doi:10.1145/3616195.3616228) write of dividing in one place and of multiplying in another; only dividing
    fits the temperatures that they report.

    The one weight `temperature`, a scalar of 1 at first, is fitted by `fit_temperature`, or set with
    `layer.temperature.assign(value)`.

    Args:
        name: Name of the layer.
        **kwargs: As of `Calibrator`.

    Input and output have the same shape, of any rank.
    """

    kind = "temperature"

    def build(self, input_shape):
        """Create the weight."""
        self.temperature = self.add_weight(name="temperature", shape=(), initializer="ones", trainable=False)

    def call(self, inputs):
        """Divide by the temperature."""
        return inputs / self.temperature

    def fit(self, logits, targets, task: str) -> None:
        """Set the temperature, see `music_zoo.calibration.fit_temperature`."""
        self._assign(fit_temperature(logits, targets, task))
