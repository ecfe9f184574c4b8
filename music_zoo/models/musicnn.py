"""MusiCNN: filters shaped like timbres and like rhythms, then a small temporal network.

Pons et al.: "End-to-end learning for music audio tagging at scale" (ISMIR 2018, arXiv:1711.02520), Pons and
Serra: "musicnn" (arXiv:1909.06654; weights: jordipons/musicnn and Quint-e/musicnn_keras, ISC), and the form
of Won et al. (SMC 2020, arXiv:2006.00751; code: minzwon/sota-music-tagging-models, MIT).
"""

import keras
from keras import layers, ops

from music_zoo.layers.fused import Conv1D, Conv2D
from music_zoo.models.backbone import Backbone
from music_zoo.models.blocks import batch_norm, mel_image
from music_zoo.models.front_ends import decibel_mel

# ---- layers ------------------------------------------------------------------------------------------------


def _convolution(
    x, width: int, kernel: int | tuple[int, int], name: str, relu_first: bool, padding: str = "same"
):
    """Convolution over time, or over bands and time, with batch normalisation and ReLU."""
    convolution = Conv1D if isinstance(kernel, int) else Conv2D
    x = convolution(width, kernel, padding=padding, name=f"{name}_conv")(x)
    if relu_first:
        return batch_norm(layers.ReLU(name=f"{name}_relu")(x), f"{name}_norm", momentum=0.99, epsilon=1e-3)
    return layers.ReLU(name=f"{name}_relu")(batch_norm(x, f"{name}_norm"))


# ---- backbone ----------------------------------------------------------------------------------------------


@keras.saving.register_keras_serializable(package="music_zoo")
class MusiCNN(Backbone):
    """Timbral and temporal filters side by side, three residual layers, maximum and mean over time.

    The two published forms share the plan and differ in four things:

    | | Pons (`original=True`) | Won (`original=False`) |
    |---|---|---|
    | each convolution | ReLU, then batch normalisation (TensorFlow's settings) | the other way round |
    | temporal filters | over every band, then the maximum over bands | over the mean of the bands |
    | before the dense layer | batch normalisation, dropout | nothing |
    | dense layer | ReLU, then batch normalisation | the other way round |

    Args:
        n_mels: Mel bands of the input.
        timbral: Heights of the timbral filters in bands; each is 7 frames long.
        temporal: Lengths of the temporal filters in frames.
        front_widths: Channels of each timbral and of each temporal filter.
        mid_width: Channels of the three layers after them.
        dense_width: Units of the dense layer.
        original: Whether the form is that of Pons.
        dropout: Rate before the dense layer of the original form.
        name: Name of the model.

    Input `(batch, n_mels, frames)`, output the embedding `(batch, dense_width)`.
    """

    def __init__(
        self,
        n_mels: int = 96,
        timbral: tuple[int, ...] = (67, 38),
        temporal: tuple[int, ...] = (129, 65, 33),
        front_widths: tuple[int, int] = (204, 51),
        mid_width: int = 64,
        dense_width: int = 200,
        original: bool = False,
        dropout: float = 0.5,
        name: str = "musicnn",
    ):
        features = keras.Input((n_mels, None), name="features")
        image = mel_image(features, n_mels)
        image = (
            batch_norm(image, "input_norm", momentum=0.99, epsilon=1e-3)
            if original
            else batch_norm(image, "input_norm")
        )
        front = []
        padded = layers.ZeroPadding2D((0, 3), name="timbral_pad")(image)
        for number, height in enumerate(timbral):
            x = _convolution(padded, front_widths[0], (height, 7), f"timbral{number}", original, "valid")
            front.append(ops.max(x, axis=1))  # over the bands: (batch, frames, channels)
        for number, length in enumerate(temporal):
            if original:
                x = _convolution(image, front_widths[1], (1, length), f"temporal{number}", original)
                front.append(ops.max(x, axis=1))
            else:
                bands_mean = ops.mean(image, axis=1)
                front.append(_convolution(bands_mean, front_widths[1], length, f"temporal{number}", original))
        front = layers.Concatenate(name="front")(front)

        x = _convolution(front, mid_width, 7, "mid0", original)
        steps = [front, x]
        for number in (1, 2):
            x = layers.Add(name=f"mid{number}")([_convolution(x, mid_width, 7, f"mid{number}", original), x])
            steps.append(x)
        x = layers.Concatenate(name="all_steps")(steps)

        x = ops.concatenate([ops.max(x, axis=1), ops.mean(x, axis=1)], axis=-1)
        if original:
            x = batch_norm(x, "pool_norm", momentum=0.99, epsilon=1e-3)
            x = layers.Dropout(dropout, name="pool_dropout")(x)
        x = layers.Dense(dense_width, name="dense")(x)
        if original:
            x = layers.ReLU(name="dense_relu")(x)
            x = batch_norm(x, "dense_norm", momentum=0.99, epsilon=1e-3)
        else:
            x = layers.ReLU(name="dense_relu")(batch_norm(x, "dense_norm"))
        super().__init__(inputs=features, outputs=x, name=name)
        self.n_mels = n_mels
        self.timbral = tuple(timbral)
        self.temporal = tuple(temporal)
        self.front_widths = tuple(front_widths)
        self.mid_width = mid_width
        self.dense_width = dense_width
        self.original = original
        self.dropout = dropout

    def get_config(self) -> dict:
        """Return the constructor's arguments."""
        return {
            "n_mels": self.n_mels,
            "timbral": list(self.timbral),
            "temporal": list(self.temporal),
            "front_widths": list(self.front_widths),
            "mid_width": self.mid_width,
            "dense_width": self.dense_width,
            "original": self.original,
            "dropout": self.dropout,
            "name": self.name,
        }


# ---- configs -----------------------------------------------------------------------------------------------


def _config(front_end: dict, window: float, **backbone) -> dict:
    return {
        "front_end": front_end,
        "backbone": {"architecture": "MusiCNN", "config": backbone},
        "task": "multi_label",
        "window": window,
        "pooling": "none",
        "dropout": 0.5,
    }


_WON = decibel_mel(16_000, n_fft=512, n_mels=96)
_PONS = {
    "sample_rate": 16_000,
    "layers": [
        {"layer": "STFT", "config": {"n_fft": 512, "hop_length": 256}},
        {"layer": "MelFilterBank", "config": {"sample_rate": 16_000, "n_fft": 512, "n_mels": 96}},
        {"layer": "LogCompression", "config": {"gain": 10_000.0}},
    ],
}
_PONS_FILTERS = {"timbral": (38, 67), "temporal": (128, 64, 32), "original": True}
_PONS_WINDOW = 186 * 256 / 16_000  # 187 frames

#: Classifiers without labels and name.
CONFIGS = {
    "musicnn-won": _config(_WON, 3.0),
    "musicnn-won-large": _config(_WON, 3.0, mid_width=512, dense_width=500),
    "musicnn": _config(_PONS, _PONS_WINDOW, **_PONS_FILTERS),
    "musicnn-large": _config(_PONS, _PONS_WINDOW, **_PONS_FILTERS, mid_width=512, dense_width=500),
}
