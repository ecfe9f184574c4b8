"""Features to the range a network likes: by each example's own statistics, or by fixed ones."""

from typing import Any

import keras
from keras import ops

from music_zoo.layers.base import SignalLayer

# A smaller spread counts as none: its square, which gradients divide by, still is a normal float32.
_SMALLEST_SPREAD = 1e-12


def _all_but_batch(values: Any) -> tuple[int, ...]:
    return tuple(range(1, len(values.shape)))


class _Normalization(SignalLayer):
    """Any shape `(batch, ...)`, kept."""

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        """Return the input's shape."""
        return tuple(input_shape)


@keras.saving.register_keras_serializable(package="music_zoo")
class MinMaxNormalization(_Normalization):
    """Scales each example to the range 0 to 1; a constant example becomes zeros.

    Args:
        name: Name of the layer.
    """

    rising = True

    def call(self, values: Any) -> Any:
        """Return `(values - min) / (max - min)`, the extremes taken over each example."""
        values = values - ops.min(values, axis=_all_but_batch(values), keepdims=True)
        spread = ops.max(values, axis=_all_but_batch(values), keepdims=True)
        return values / ops.maximum(spread, _SMALLEST_SPREAD)


@keras.saving.register_keras_serializable(package="music_zoo")
class Standardization(_Normalization):
    """Gives each example zero mean and unit variance; a constant example becomes zeros.

    Args:
        name: Name of the layer.
    """

    def call(self, values: Any) -> Any:
        """Return `(values - mean) / std`, the population statistics taken over each example."""
        # From its smallest value a constant example is exactly 0 everywhere; from its rounded mean it is
        # not, and the division would blow the rounding error up to 1.
        values = values - ops.min(values, axis=_all_but_batch(values), keepdims=True)
        values = values - ops.mean(values, axis=_all_but_batch(values), keepdims=True)
        variance = ops.mean(ops.square(values), axis=_all_but_batch(values), keepdims=True)
        return values / ops.sqrt(ops.maximum(variance, _SMALLEST_SPREAD**2))


@keras.saving.register_keras_serializable(package="music_zoo")
class FixedStandardization(_Normalization):
    """Shifts and scales by statistics of a training set.

    Args:
        mean: What becomes 0.
        std: What becomes 1 above it; positive.
        name: Name of the layer.

    Raises:
        ValueError: If `std` is not positive.
    """

    frame_wise = True
    rising = True

    def __init__(self, mean: float, std: float, *, name: str | None = None):
        super().__init__(name=name)
        if not std > 0:
            raise ValueError(f"std must be positive, got {std}.")
        self.mean = mean
        self.std = std

    def call(self, values: Any) -> Any:
        """Return `(values - mean) / std`."""
        return (values - self.mean) / self.std

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments."""
        return super().get_config() | {"mean": self.mean, "std": self.std}
