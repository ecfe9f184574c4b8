"""What every layer of the preprocessing stack has in common: float32 inside, one axis of time."""

from typing import Any

import keras


class SignalLayer(keras.layers.Layer):
    """A step of a front end: a fixed function of each example, computed in float32.

    The dtype policy does not apply: decibels and Fourier transforms in half precision are wrong by
    audible amounts, so floating inputs are cast up to float32 and float32 comes out, also under
    `mixed_float16` and `mixed_bfloat16`. A model that contains one must not cast its waveforms
    down before they get here. Constants are numpy and stay out of checkpoints; only harmonic
    filters have a weight.

    Args:
        name: Name of the layer.
    """

    #: Whether each frame of the output is made of the same frame of the input alone.
    frame_wise = False
    #: Whether each value of the output rises with the same value of the input, and depends on no other than
    #: the example's smallest and largest.
    rising = False

    def __init__(self, *, name: str | None = None):
        super().__init__(name=name, dtype="float32")

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments; subclasses add theirs."""
        return {"name": self.name}

    def min_length(self, length: int) -> int:
        """Return the shortest input, along the last axis, that gives an output of `length` or more."""
        return length
