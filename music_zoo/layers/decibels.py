"""Power or amplitude to decibels, as librosa does it, each example on its own."""

from typing import Any, Literal

import keras
import numpy as np
from keras import ops

from music_zoo.layers.base import SignalLayer


@keras.saving.register_keras_serializable(package="music_zoo")
class Decibels(SignalLayer):
    """`librosa.power_to_db` or `librosa.amplitude_to_db` of each example.

    The reference and the floor come from the example itself, never from its neighbours in the batch
    (as they do in `keras.layers.MelSpectrogram`). Any shape `(batch, ...)`, kept.

    Args:
        of: `"power"` (10 log10) or `"amplitude"` (20 log10).
        ref: What counts as 0 dB: a number in the input's unit, or `"max"`, the example's largest value.
        amin: Inputs and references below it are raised to it; `None`: 1e-10 for power, 1e-5 for amplitude.
        top_db: Values more than this below the example's largest are raised to there; `None`: they stay.
        name: Name of the layer.

    Raises:
        ValueError: For an argument out of its range.
    """

    rising = True

    def __init__(
        self,
        of: Literal["power", "amplitude"] = "power",
        ref: float | Literal["max"] = 1.0,
        amin: float | None = None,
        top_db: float | None = 80.0,
        *,
        name: str | None = None,
    ):
        super().__init__(name=name)
        if of not in ("power", "amplitude"):
            raise ValueError(f"of must be 'power' or 'amplitude', got {of!r}.")
        if isinstance(ref, str) and ref != "max" or not isinstance(ref, str) and not ref > 0:
            raise ValueError(f"ref must be a positive number or 'max', got {ref!r}.")
        smallest = float(np.finfo("float32").tiny)
        if amin is not None and not amin >= smallest:
            raise ValueError(f"amin must be at least {smallest:.3g}, the smallest float32, got {amin}.")
        if top_db is not None and not top_db >= 0:
            raise ValueError(f"top_db must not be negative, or None for no floor, got {top_db}.")
        self.of = of
        self.ref = ref
        self.amin = amin
        self.top_db = top_db
        self._factor, default_amin = (10.0, 1e-10) if of == "power" else (20.0, 1e-5)
        self._amin = default_amin if amin is None else amin

    def call(self, values: Any) -> Any:
        """Return decibels in the shape of `values`."""
        decibels = self._factor * ops.log10(ops.maximum(values, self._amin))
        if self.ref != "max" and self.top_db is None:
            return decibels - self._reference
        loudest = ops.max(decibels, axis=tuple(range(1, len(values.shape))), keepdims=True)
        if self.top_db is not None:
            decibels = ops.maximum(decibels, loudest - self.top_db)
        return decibels - (loudest if self.ref == "max" else self._reference)

    @property
    def frame_wise(self) -> bool:
        """Whether no frame looks at the loudest."""
        return self.ref != "max" and self.top_db is None

    @property
    def _reference(self) -> float:
        return self._factor * float(np.log10(max(self.ref, self._amin)))

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        """Return the input's shape."""
        return tuple(input_shape)

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments."""
        return super().get_config() | {
            "of": self.of,
            "ref": self.ref,
            "amin": self.amin,
            "top_db": self.top_db,
        }
