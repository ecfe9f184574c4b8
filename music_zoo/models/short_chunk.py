"""Short-chunk CNN, plain and residual: seven 3x3 layers over 3.7 seconds.

Won, Ferraro, Bogdanov, Serra: "Evaluation of CNN-based automatic music tagging models" (SMC 2020,
arXiv:2006.00751; code: minzwon/sota-music-tagging-models, MIT).
"""

import keras
from keras import layers

from music_zoo.models.backbone import Backbone
from music_zoo.models.blocks import batch_norm, conv_block, dense_block, mel_image, residual_block
from music_zoo.models.front_ends import decibel_mel

# ---- backbone ----------------------------------------------------------------------------------------------


@keras.saving.register_keras_serializable(package="music_zoo")
class ShortChunkCNN(Backbone):
    """Layers that halve both axes, the maximum over what is left, a dense layer.

    Args:
        n_mels: Mel bands of the input.
        widths: Channels of each layer; the last is that of the dense layer, too.
        residual: Residual blocks that halve by their stride, in place of convolutions with pooling.
        name: Name of the model.

    Input `(batch, n_mels, frames)`, output the embedding `(batch, widths[-1])`.
    """

    def __init__(
        self,
        n_mels: int = 128,
        widths: tuple[int, ...] = (128, 128, 256, 256, 256, 256, 512),
        residual: bool = False,
        name: str = "short_chunk_cnn",
    ):
        features = keras.Input((n_mels, None), name="features")
        x = mel_image(features, n_mels, min_frames=1 if residual else 2 ** len(widths))
        x = batch_norm(x, "input_norm")
        for number, width in enumerate(widths, start=1):
            if residual:
                x = residual_block(x, width, f"layer{number}", stride=2)
            else:
                x = conv_block(x, width, 2, f"layer{number}")
        x = layers.GlobalMaxPooling2D(name="max")(x)
        super().__init__(inputs=features, outputs=dense_block(x, widths[-1]), name=name)
        self.n_mels = n_mels
        self.widths = tuple(widths)
        self.residual = residual

    def get_config(self) -> dict:
        """Return the constructor's arguments."""
        return {
            "n_mels": self.n_mels,
            "widths": list(self.widths),
            "residual": self.residual,
            "name": self.name,
        }


# ---- configs -----------------------------------------------------------------------------------------------


def _config(**backbone) -> dict:
    return {
        "front_end": decibel_mel(16_000, n_fft=512, n_mels=128),
        "backbone": {"architecture": "ShortChunkCNN", "config": backbone},
        "task": "multi_label",
        "window": 59_049 / 16_000,
        "pooling": "none",
        "dropout": 0.5,
    }


#: Classifiers without labels and name.
CONFIGS = {
    "short-chunk-cnn": _config(),
    "short-chunk-resnet": _config(residual=True),
}
