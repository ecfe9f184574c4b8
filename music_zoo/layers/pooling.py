"""Pooling: a backbone's feature map to one embedding per window."""

import keras
from keras import ops

MODES = ("mean", "max", "mean_max", "none")


@keras.saving.register_keras_serializable(package="music_zoo")
class GlobalPooling(keras.layers.Layer):
    """Pool over everything between the batch and the channels.

    Args:
        mode: `"mean"`, `"max"`, `"mean_max"` for both, one after the other, or `"none"` for a backbone that
            gives the embedding itself.
        name: Name of the layer.
        **kwargs: Passed on to `keras.layers.Layer`.

    Input `(batch, ..., channels)`, output `(batch, channels)`, twice the channels for `"mean_max"`.

    Raises:
        ValueError: Another mode; in the call, an input that there is nothing to pool in, or, with `"none"`,
            one that still has to be pooled.
    """

    def __init__(self, mode: str = "mean", name: str = "pooling", **kwargs):
        super().__init__(name=name, **kwargs)
        if mode not in MODES:
            raise ValueError(f"GlobalPooling: `mode` must be one of {MODES}, got {mode!r}.")
        self.mode = mode

    def call(self, inputs):
        """Pool a feature map."""
        self.compute_output_shape(inputs.shape)
        if self.mode == "none":
            return inputs
        axes = tuple(range(1, len(inputs.shape) - 1))
        pooled = []
        if "mean" in self.mode:
            pooled.append(ops.mean(inputs, axis=axes))
        if "max" in self.mode:
            pooled.append(ops.max(inputs, axis=axes))
        return ops.concatenate(pooled, axis=-1)

    def compute_output_shape(self, input_shape) -> tuple:
        """Return `(batch, embedding_dim)`."""
        if (len(input_shape) == 2) != (self.mode == "none"):
            raise ValueError(
                "GlobalPooling: `mode` must be 'none' for a backbone that gives an embedding (batch, "
                f"channels), and one of {MODES[:-1]} for one that gives a feature map, got {self.mode!r} "
                f"for an output of shape {tuple(input_shape)}."
            )
        return (input_shape[0], input_shape[-1] * (2 if self.mode == "mean_max" else 1))

    def get_config(self) -> dict:
        """Return the constructor's arguments."""
        return {**super().get_config(), "mode": self.mode}
