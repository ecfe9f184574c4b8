"""Harmonic CNN: harmonics as channels, so that a filter sees a note's spectrum in one place.

Won, Chun, Nieto, Serra: "Data-driven harmonic filters for audio representation learning" (ICASSP 2020), in
the form of Won et al. (SMC 2020, arXiv:2006.00751; code: minzwon/sota-music-tagging-models, MIT).
"""

import math

import keras
from keras import layers

from music_zoo.models.backbone import Backbone
from music_zoo.models.blocks import AtLeast, batch_norm, conv_block, dense_block, residual_block

# ---- backbone ----------------------------------------------------------------------------------------------


@keras.saving.register_keras_serializable(package="music_zoo")
class HarmonicCNN(Backbone):
    """Convolution and residual blocks, each with pooling, the maximum over what is left, a dense layer.

    Args:
        n_harmonics: Harmonics of the input.
        levels: Levels of pitch of the input.
        widths: Channels of each block. Where they change there is a convolution, elsewhere a residual block.
        pools: Pooling behind each, `(levels, frames)`.
        name: Name of the model.

    Input `(batch, n_harmonics, levels, frames)`, output the embedding `(batch, widths[-1])`.

    Raises:
        ValueError: `widths` and `pools` differ in length.
    """

    def __init__(
        self,
        n_harmonics: int = 6,
        levels: int = 128,
        widths: tuple[int, ...] = (128, 128, 128, 128, 256, 256, 256),
        pools: tuple[tuple[int, int], ...] = ((2, 2), (2, 2), (2, 2), (2, 2), (2, 2), (2, 3), (2, 3)),
        name: str = "harmonic_cnn",
    ):
        if len(widths) != len(pools):
            raise ValueError(
                f"HarmonicCNN: one pool per width, got {len(widths)} widths and {len(pools)} pools."
            )
        pools = tuple(map(tuple, pools))
        features = keras.Input((n_harmonics, levels, None), name="features")
        x = AtLeast(math.prod(frames for _, frames in pools), name="length_check")(features)
        x = layers.Permute((2, 3, 1), name="as_image")(x)  # (batch, levels, frames, harmonics)
        x = batch_norm(x, "input_norm")
        for number, (width, pool) in enumerate(zip(widths, pools, strict=True), start=1):
            if x.shape[-1] != width:
                x = conv_block(x, width, pool, f"layer{number}")
            else:
                x = residual_block(x, width, f"layer{number}_block")
                x = layers.MaxPooling2D(pool, name=f"layer{number}")(x)
        x = layers.GlobalMaxPooling2D(name="max")(x)
        super().__init__(inputs=features, outputs=dense_block(x, widths[-1]), name=name)
        self.n_harmonics = n_harmonics
        self.levels = levels
        self.widths = tuple(widths)
        self.pools = pools

    def get_config(self) -> dict:
        """Return the constructor's arguments."""
        return {
            "n_harmonics": self.n_harmonics,
            "levels": self.levels,
            "widths": list(self.widths),
            "pools": [list(pool) for pool in self.pools],
            "name": self.name,
        }


# ---- configs -----------------------------------------------------------------------------------------------

#: Classifiers without labels and name.
CONFIGS = {
    "harmonic-cnn": {
        "front_end": {
            "sample_rate": 16_000,
            "layers": [
                {"layer": "STFT", "config": {"n_fft": 512, "hop_length": 256, "pad_mode": "reflect"}},
                {"layer": "HarmonicFilterBank", "config": {"sample_rate": 16_000, "n_fft": 512}},
                {"layer": "Decibels", "config": {"top_db": None}},
            ],
        },
        "backbone": {"architecture": "HarmonicCNN", "config": {}},
        "task": "multi_label",
        "window": 5.0,
        "pooling": "none",
        "dropout": 0.5,
    },
}
