"""A fixed number of frames, spread evenly over a clip of any length."""

from typing import Any

import keras
import numpy as np
from keras import ops

from music_zoo.layers.base import SignalLayer


@keras.saving.register_keras_serializable(package="music_zoo")
class FrameSelection(SignalLayer):
    """Keeps `n_frames` of the `T` frames: number `floor((i + 0.5) * (T - trim) / n_frames)`.

    A clip with fewer frames than that gets some of them repeatedly. Shapes: `(..., T)` to
    `(..., n_frames)`; `T` may be unknown until the call.

    Args:
        n_frames: Frames to keep.
        trim: Frames at the end that are not looked at.
        name: Name of the layer.

    Raises:
        ValueError: For an argument out of its range, and for an input that `trim` leaves nothing of.
    """

    def __init__(self, n_frames: int, trim: int = 0, *, name: str | None = None):
        super().__init__(name=name)
        if n_frames < 1 or trim < 0:
            raise ValueError(
                f"n_frames must be at least 1 and trim at least 0, got n_frames={n_frames}, trim={trim}."
            )
        self.n_frames = n_frames
        self.trim = trim

    def call(self, features: Any) -> Any:
        """Return the selected frames `(..., n_frames)`."""
        self.compute_output_shape(features.shape)
        return ops.take(features, self.frames(ops.shape(features)[-1]), axis=-1)

    def frames(self, total: Any) -> Any:
        """Return the numbers `(n_frames,)`, int32, of the frames that are kept of so many."""
        # floor((2 i + 1) T / (2 n)) with T = whole * n + rest, so that no product overflows 32 bits.
        total = total - self.trim
        whole, rest = total // self.n_frames, total % self.n_frames
        i = np.arange(self.n_frames, dtype="int32")
        return i * whole + (self.n_frames * whole + (2 * i + 1) * rest) // (2 * self.n_frames)

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        """Return the input's shape with `n_frames` frames."""
        *others, frames = input_shape
        if frames is not None and frames < self.min_length(1):
            raise ValueError(
                f"{self.name} needs at least {self.min_length(1)} frames to trim {self.trim}, got {frames}; "
                "give it a longer waveform."
            )
        return (*others, self.n_frames)

    def min_length(self, length: int) -> int:
        """Return the fewest frames the layer works on: any number of frames is made from one."""
        return self.trim + 1

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments."""
        return super().get_config() | {"n_frames": self.n_frames, "trim": self.trim}
