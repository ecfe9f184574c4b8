"""The calibrator: logits divided by one temperature."""

import keras


@keras.saving.register_keras_serializable(package="music_zoo")
class Temperature(keras.layers.Layer):
    """Divide logits by a temperature: above 1 softens the probabilities that follow, below 1 sharpens them.

    Dividing is what Guo et al. (2017, arXiv:1706.04599) do. Lukashevich et al. (2023,
    doi:10.1145/3616195.3616228) write of dividing in one place and of multiplying in another; only dividing
    fits the temperatures that they report.

    The one weight `temperature`, a scalar of 1 at first, is not trained with the network: it is fitted on
    held-out data, see `music_zoo.calibration.fit_temperature`, and set with
    `layer.temperature.assign(value)`.

    Args:
        name: Name of the layer.
        **kwargs: Passed on to `keras.layers.Layer`; `dtype` is always float32, so that probabilities keep
            their digits under mixed precision.

    Input and output have the same shape, of any rank.
    """

    def __init__(self, name: str | None = None, **kwargs):
        super().__init__(name=name, **(kwargs | {"dtype": "float32"}))

    def build(self, input_shape):
        """Create the weight."""
        self.temperature = self.add_weight(name="temperature", shape=(), initializer="ones", trainable=False)

    def call(self, inputs):
        """Divide by the temperature."""
        return inputs / self.temperature

    def compute_output_shape(self, input_shape) -> tuple:
        """Return the shape of the input."""
        return input_shape
