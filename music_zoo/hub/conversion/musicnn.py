"""Checkpoints of the original MusiCNN as Keras models in HDF5 (Quint-e/musicnn_keras)."""

import numpy as np

from music_zoo.hub.conversion.table import KERAS, Table

#: Our convolutions, each with the names of its convolution and of its normalisation in the checkpoint.
_CONVOLUTIONS = {
    "timbral0": ("conv2d", "batch_normalization_1"),
    "timbral1": ("conv2d_1", "batch_normalization_2"),
    "temporal0": ("conv2d_2", "batch_normalization_3"),
    "temporal1": ("conv2d_3", "batch_normalization_4"),
    "temporal2": ("conv2d_4", "batch_normalization_5"),
    "mid0": ("midend_conv1", "bn_midend_conv1"),
    "mid1": ("midend_conv2", "bn_midend_conv2"),
    "mid2": ("midend_conv3", "bn_midend_conv3"),
}


def _bands_first(kernel: np.ndarray) -> np.ndarray:
    """`(frames, bands, 1, channels)` to `(bands, frames, 1, channels)`."""
    return np.swapaxes(kernel, 0, 1)


def _along_time(kernel: np.ndarray) -> np.ndarray:
    """`(frames, channels in, 1, channels)` to `(frames, channels in, channels)`."""
    return np.squeeze(kernel, 2)


def _maxima_then_means(interleaved: np.ndarray) -> np.ndarray:
    """The original pools to max, mean, max, mean and so on; we to all maxima, then all means."""
    return np.concatenate([interleaved[0::2], interleaved[1::2]])


TABLES = {
    "musicnn": Table(
        {rf"backbone\.{ours}_conv": conv for ours, (conv, _) in _CONVOLUTIONS.items()}
        | {rf"backbone\.{ours}_norm": norm for ours, (_, norm) in _CONVOLUTIONS.items()}
        | {
            r"backbone\.input_norm": "batch_normalization",
            r"backbone\.dense": "dense",
            r"backbone\.dense_norm": "bn_dense",
            "head": "dense_1",
        },
        {
            rf"backbone\.{ours}_conv\.kernel": (
                (f"{conv}/kernel",),
                _along_time if ours.startswith("mid") else _bands_first,
            )
            for ours, (conv, _) in _CONVOLUTIONS.items()
        }
        | {
            r"backbone\.pool_norm\.(\w+)": ((r"bn_flatpool/\1",), _maxima_then_means),
            r"backbone\.dense\.kernel": (("dense/kernel",), _maxima_then_means),
        },
        leaves=KERAS,
    )
}
