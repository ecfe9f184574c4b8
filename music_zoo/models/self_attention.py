"""CNN with self-attention (CNNSA): a residual front, then two encoder layers of BERT over 15 seconds.

Won, Chun, Serra: "Toward interpretable music tagging with self-attention" (2019, arXiv:1906.04972), in the
form of Won et al. (SMC 2020, arXiv:2006.00751; code: minzwon/sota-music-tagging-models, MIT).
"""

import keras
import numpy as np
from keras import layers, ops

from music_zoo.layers.attention import SelfAttention
from music_zoo.layers.fused import Dense
from music_zoo.models.backbone import Backbone
from music_zoo.models.blocks import batch_norm, mel_image, residual_block
from music_zoo.models.front_ends import decibel_mel

# ---- layers ------------------------------------------------------------------------------------------------


@keras.saving.register_keras_serializable(package="music_zoo")
class FixedToken(layers.Layer):
    """Puts a token in front that is never trained: `(batch, n, width)` to `(batch, n + 1, width)`.

    It is what the original draws at the start, uniform from 0 to 1, from NumPy's generator seeded with 0.
    """

    def build(self, input_shape) -> None:
        """Draw the token."""
        self._token = np.random.RandomState(0).random_sample((1, 1, input_shape[-1])).astype("float32")

    def call(self, inputs):
        """Put the token in front."""
        token = ops.cast(self._token, inputs.dtype)
        token = ops.broadcast_to(token, (ops.shape(inputs)[0], 1, inputs.shape[-1]))
        return ops.concatenate([token, inputs], axis=1)

    def compute_output_shape(self, input_shape) -> tuple:
        """Return the input's shape with one token more."""
        batch, tokens, width = input_shape
        return batch, None if tokens is None else tokens + 1, width


def _encoder(x, heads: int, inner_width: int, dropout: float, attention_dropout: float, name: str):
    """Attention, two dense layers, each normalised after its shortcut: `(batch, tokens, width)`."""
    width = x.shape[-1]

    def add_and_normalise(x, branch, part: str):
        branch = layers.Dropout(dropout, name=f"{name}_{part}_dropout")(branch)
        x = layers.Add(name=f"{name}_{part}_add")([x, branch])
        return layers.LayerNormalization(epsilon=1e-12, name=f"{name}_{part}_norm")(x)

    attend = SelfAttention(heads, dropout=attention_dropout, name=f"{name}_attention")
    x = add_and_normalise(x, attend(x), "attention")
    branch = Dense(inner_width, name=f"{name}_dense1")(x)
    branch = Dense(width, name=f"{name}_dense2")(ops.gelu(branch, approximate=False))
    return add_and_normalise(x, branch, "dense")


# ---- backbone ----------------------------------------------------------------------------------------------


@keras.saving.register_keras_serializable(package="music_zoo")
class CNNSA(Backbone):
    """Residual blocks until one band is left, a class token, encoder layers, a dense layer on the token.

    There is no information on positions, so any number of frames serves. What the tokens attend to,
    `music_zoo.layers.attention.attention_maps` shows.

    Args:
        n_mels: Mel bands of the input, at most 2 to the power of the number of blocks.
        widths: Channels of each residual block; the last is that of the tokens.
        strides: Of each block along time; along bands it is 2.
        encoders: Encoder layers.
        heads: Attention heads of each.
        inner_width: Units between their two dense layers.
        dropout: Rate in the encoder layers, while training.
        attention_dropout: Rate for what tokens attend to, while training.
        name: Name of the model.

    Input `(batch, n_mels, frames)`, output the embedding `(batch, widths[-1])`.

    Raises:
        ValueError: `widths` and `strides` differ in length, or more than one band is left.
    """

    def __init__(
        self,
        n_mels: int = 128,
        widths: tuple[int, ...] = (128, 128, 256, 256, 256, 256, 256),
        strides: tuple[int, ...] = (2, 2, 2, 1, 1, 1, 1),
        encoders: int = 2,
        heads: int = 8,
        inner_width: int = 1024,
        dropout: float = 0.4,
        attention_dropout: float = 0.5,
        name: str = "cnnsa",
    ):
        if len(widths) != len(strides):
            raise ValueError(
                f"CNNSA: one stride per width, got {len(widths)} widths, {len(strides)} strides."
            )
        if n_mels > 2 ** len(widths):
            raise ValueError(f"CNNSA: {len(widths)} blocks leave more than one of {n_mels} mel bands.")
        features = keras.Input((n_mels, None), name="features")
        x = mel_image(features, n_mels)
        x = batch_norm(x, "input_norm")
        for number, (width, stride) in enumerate(zip(widths, strides, strict=True), start=1):
            x = residual_block(x, width, f"layer{number}", stride=(2, stride))
        x = layers.Reshape((-1, widths[-1]), name="as_sequence")(x)  # (batch, steps, channels)
        x = FixedToken(name="class_token")(x)
        for number in range(encoders):
            x = _encoder(x, heads, inner_width, dropout, attention_dropout, f"encoder{number}")
        x = Dense(widths[-1], activation="tanh", name="pooler")(x[:, 0])
        super().__init__(inputs=features, outputs=x, name=name)
        self.time_attention = (f"encoder{encoders - 1}_attention", f"encoder{encoders - 1}_attention_add")
        self.n_mels = n_mels
        self.widths = tuple(widths)
        self.strides = tuple(strides)
        self.encoders = encoders
        self.heads = heads
        self.inner_width = inner_width
        self.dropout = dropout
        self.attention_dropout = attention_dropout

    def get_config(self) -> dict:
        """Return the constructor's arguments."""
        return {
            "n_mels": self.n_mels,
            "widths": list(self.widths),
            "strides": list(self.strides),
            "encoders": self.encoders,
            "heads": self.heads,
            "inner_width": self.inner_width,
            "dropout": self.dropout,
            "attention_dropout": self.attention_dropout,
            "name": self.name,
        }


# ---- configs -----------------------------------------------------------------------------------------------

#: Classifiers without labels and name.
CONFIGS = {
    "self-attention-cnn": {
        "front_end": decibel_mel(16_000, n_fft=512, n_mels=128),
        "backbone": {"architecture": "CNNSA", "config": {}},
        "task": "multi_label",
        "window": 15.0,
        "pooling": "none",
        "dropout": 0.5,
    },
}
