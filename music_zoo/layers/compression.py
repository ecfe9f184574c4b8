"""Logarithmic compression with an offset, where silence is 0 and needs no floor."""

from typing import Any

import keras
from keras import ops

from music_zoo.layers.base import SignalLayer


@keras.saving.register_keras_serializable(package="music_zoo")
class LogCompression(SignalLayer):
    """`log10(1 + gain * values)`, the compression of musicnn. Any shape, kept.

    Args:
        gain: Positive factor before the logarithm: the louder, the less quiet sounds differ from loud ones.
        name: Name of the layer.

    Raises:
        ValueError: If `gain` is not positive.
    """

    frame_wise = True
    rising = True

    def __init__(self, gain: float = 10_000.0, *, name: str | None = None):
        super().__init__(name=name)
        if not gain > 0:
            raise ValueError(f"gain must be positive, got {gain}.")
        self.gain = gain

    def call(self, values: Any) -> Any:
        """Return the compressed values."""
        return ops.log10(1.0 + self.gain * values)

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        """Return the input's shape."""
        return tuple(input_shape)

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments."""
        return super().get_config() | {"gain": self.gain}
