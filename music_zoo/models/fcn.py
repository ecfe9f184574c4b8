"""Fully convolutional tagger (FCN): five convolutions and poolings down to one point of a 29-second image.

Choi, Fazekas, Sandler: "Automatic tagging using deep convolutional neural networks" (ISMIR 2016,
arXiv:1606.00298), in the form of Won et al.: "Evaluation of CNN-based automatic music tagging models" (SMC
2020, arXiv:2006.00751; code: minzwon/sota-music-tagging-models, MIT) and of the baseline of the MTG-Jamendo
data set (code: MTG/mtg-jamendo-dataset, Apache-2.0), which has ELU in place of ReLU.
"""

import math

import keras

from music_zoo.models.backbone import Backbone
from music_zoo.models.blocks import batch_norm, conv_block, mel_image
from music_zoo.models.front_ends import decibel_mel

# ---- backbone ----------------------------------------------------------------------------------------------


@keras.saving.register_keras_serializable(package="music_zoo")
class FCN(Backbone):
    """3x3 convolutions, each with batch normalisation, activation and maximum pooling.

    Args:
        n_mels: Mel bands of the input.
        widths: Channels of each convolution.
        pools: Pooling behind each, `(bands, frames)`.
        activation: `"relu"` or `"elu"`.
        name: Name of the model.

    Input `(batch, n_mels, frames)`, output `(batch, bands, steps, widths[-1])`: both axes divided by their
    pools, 1 x 1 for 96 bands and the published 1813 frames.

    Raises:
        ValueError: `widths` and `pools` differ in length.
    """

    def __init__(
        self,
        n_mels: int = 96,
        widths: tuple[int, ...] = (64, 128, 128, 128, 64),
        pools: tuple[tuple[int, int], ...] = ((2, 4), (2, 4), (2, 4), (3, 5), (4, 4)),
        activation: str = "relu",
        name: str = "fcn",
    ):
        if len(widths) != len(pools):
            raise ValueError(f"FCN: one pool per width, got {len(widths)} widths and {len(pools)} pools.")
        pools = tuple(map(tuple, pools))
        features = keras.Input((n_mels, None), name="features")
        x = mel_image(features, n_mels, min_frames=math.prod(frames for _, frames in pools))
        x = batch_norm(x, "input_norm")
        for number, (width, pool) in enumerate(zip(widths, pools, strict=True), start=1):
            x = conv_block(x, width, pool, f"layer{number}", activation)
        super().__init__(inputs=features, outputs=x, name=name)
        self.n_mels = n_mels
        self.widths = tuple(widths)
        self.pools = pools
        self.activation = activation

    def get_config(self) -> dict:
        """Return the constructor's arguments."""
        return {
            "n_mels": self.n_mels,
            "widths": list(self.widths),
            "pools": [list(pool) for pool in self.pools],
            "activation": self.activation,
            "name": self.name,
        }


# ---- configs -----------------------------------------------------------------------------------------------


def _config(front_end: dict, window: float, **backbone) -> dict:
    return {
        "front_end": front_end,
        "backbone": {"architecture": "FCN", "config": backbone},
        "task": "multi_label",
        "window": window,
        "pooling": "mean",
        "dropout": 0.5,
    }


#: Classifiers without labels and name. The front end of "fcn-mtg" is Essentia's but for its window, which is
#: symmetric there: decibels of the *squared* power, down to -200.
CONFIGS = {
    "fcn": _config(decibel_mel(16_000, n_fft=512, n_mels=96), 29.0),
    "fcn-mtg": _config(
        {
            "sample_rate": 12_000,
            "layers": [
                {"layer": "STFT", "config": {"n_fft": 512, "hop_length": 256}},
                {"layer": "MelFilterBank", "config": {"sample_rate": 12_000, "n_fft": 512, "n_mels": 96}},
                {"layer": "Decibels", "config": {"of": "amplitude", "amin": 1e-10, "top_db": None}},
            ],
        },
        1365 * 256 / 12_000,  # 1366 frames
        activation="elu",
    ),
}
