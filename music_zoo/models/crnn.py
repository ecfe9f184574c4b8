"""Convolutional recurrent tagger (CRNN): four convolutions, then two recurrent layers over 18 steps of time.

Choi, Fazekas, Sandler, Cho: "Convolutional recurrent neural networks for music classification" (ICASSP 2017,
arXiv:1609.04243), in the form of Won et al. (SMC 2020, arXiv:2006.00751; code:
minzwon/sota-music-tagging-models, MIT).
"""

import math

import keras
from keras import layers

from music_zoo.models.backbone import Backbone
from music_zoo.models.blocks import batch_norm, conv_block, mel_image
from music_zoo.models.front_ends import decibel_mel

# ---- backbone ----------------------------------------------------------------------------------------------


@keras.saving.register_keras_serializable(package="music_zoo")
class CRNN(Backbone):
    """Convolution blocks until one band is left, two layers of gated recurrent units, the last step.

    Args:
        n_mels: Mel bands of the input; the pools must leave one of them.
        widths: Channels of each convolution.
        pools: Square pooling behind each.
        units: Of both recurrent layers.
        name: Name of the model.

    Input `(batch, n_mels, frames)`, output the embedding `(batch, units)`.

    Raises:
        ValueError: `widths` and `pools` differ in length, or more or less than one band is left.
    """

    def __init__(
        self,
        n_mels: int = 96,
        widths: tuple[int, ...] = (64, 128, 128, 128),
        pools: tuple[int, ...] = (2, 3, 4, 4),
        units: int = 32,
        name: str = "crnn",
    ):
        if len(widths) != len(pools):
            raise ValueError(f"CRNN: one pool per width, got {len(widths)} widths and {len(pools)} pools.")
        if n_mels // math.prod(pools) != 1:
            raise ValueError(f"CRNN: the pools {tuple(pools)} must leave one of {n_mels} mel bands.")
        features = keras.Input((n_mels, None), name="features")
        x = mel_image(features, n_mels, min_frames=math.prod(pools))
        x = batch_norm(x, "input_norm")
        for number, (width, pool) in enumerate(zip(widths, pools, strict=True), start=1):
            x = conv_block(x, width, pool, f"layer{number}")
        x = layers.Reshape((-1, widths[-1]), name="as_sequence")(x)  # (batch, steps, channels)
        x = layers.GRU(units, return_sequences=True, reset_after=True, name="gru_0")(x)
        x = layers.GRU(units, return_sequences=True, reset_after=True, name="gru_1")(x)
        super().__init__(inputs=features, outputs=x[:, -1], name=name)
        self.n_mels = n_mels
        self.widths = tuple(widths)
        self.pools = tuple(pools)
        self.units = units

    def get_config(self) -> dict:
        """Return the constructor's arguments."""
        return {
            "n_mels": self.n_mels,
            "widths": list(self.widths),
            "pools": list(self.pools),
            "units": self.units,
            "name": self.name,
        }


# ---- configs -----------------------------------------------------------------------------------------------

#: Classifiers without labels and name.
CONFIGS = {
    "crnn": {
        "front_end": decibel_mel(16_000, n_fft=512, n_mels=96),
        "backbone": {"architecture": "CRNN", "config": {}},
        "task": "multi_label",
        "window": 29.0,
        "pooling": "none",
        "dropout": 0.5,
    },
}
