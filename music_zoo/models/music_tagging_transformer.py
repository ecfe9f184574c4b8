"""Music Tagging Transformer: three residual blocks, then self-attention over time with a class token.

Won, Choi, Serra: "Semi-supervised music tagging transformer" (ISMIR 2021, arXiv:2111.13457; code:
minzwon/semi-supervised-music-tagging-transformer, MIT).
"""

import keras
from keras import layers

from music_zoo.layers.attention import ClassToken, LearnedPositions
from music_zoo.layers.fused import Dense
from music_zoo.models.backbone import Backbone
from music_zoo.models.blocks import batch_norm, encoder_block, layer_norm, mel_image, residual_block
from music_zoo.models.front_ends import decibel_mel

_POOLS = ((2, 2), (2, 2), (2, 1))  # bands and frames, behind each residual block


# ---- backbone ----------------------------------------------------------------------------------------------


@keras.saving.register_keras_serializable(package="music_zoo")
class MusicTaggingTransformer(Backbone):
    """Convolutions to one token for every four frames, transformer layers, the class token.

    What the tokens attend to, `music_zoo.layers.attention.attention_maps` shows.

    Args:
        n_mels: Mel bands of the input.
        conv_width: Channels of the residual blocks.
        embed_dim: Width of the tokens.
        depth: Transformer layers.
        heads: Attention heads of each.
        mlp_ratio: Width of a layer's hidden layer, in multiples of `embed_dim`.
        positions: Tokens that have a learned position, the class token included: the most there can be.
        dropout: Rate in the transformer, while training.
        name: Name of the model.

    Input `(batch, n_mels, frames)` of 4 to `4 * positions - 1` frames, output the embedding
    `(batch, embed_dim)`.
    """

    def __init__(
        self,
        n_mels: int = 128,
        conv_width: int = 128,
        embed_dim: int = 256,
        depth: int = 4,
        heads: int = 8,
        mlp_ratio: int = 4,
        positions: int = 513,
        dropout: float = 0.1,
        name: str = "music_tagging_transformer",
    ):
        features = keras.Input((n_mels, None), name="features")
        x = batch_norm(mel_image(features, n_mels, min_frames=4), "input_norm")
        for number, pool in enumerate(_POOLS, start=1):
            x = residual_block(x, conv_width, f"layer{number}_residual")
            x = layers.MaxPooling2D(pool, name=f"layer{number}")(x)
        # (batch, bands, time, channels) to (batch, time, channels * bands)
        bands, width = x.shape[1], x.shape[-1]
        x = layers.Permute((2, 3, 1), name="time_first")(x)
        x = layers.Reshape((-1, width * bands), name="as_sequence")(x)
        x = ClassToken()(Dense(embed_dim, name="tokens")(x))
        x = LearnedPositions(positions)(x)
        x = layers.Dropout(dropout, name="positions_dropout")(x)
        for number in range(depth):
            x = encoder_block(x, heads, mlp_ratio * embed_dim, dropout, f"encoder{number}", qkv_bias=False)
        super().__init__(inputs=features, outputs=layer_norm(x[:, 0], "norm"), name=name)
        self.time_attention = (f"encoder{depth - 1}_attention", f"encoder{depth - 1}_add1")
        self.n_mels = n_mels
        self.conv_width = conv_width
        self.embed_dim = embed_dim
        self.depth = depth
        self.heads = heads
        self.mlp_ratio = mlp_ratio
        self.positions = positions
        self.dropout = dropout

    def get_config(self) -> dict:
        """Return the constructor's arguments."""
        return {
            "n_mels": self.n_mels,
            "conv_width": self.conv_width,
            "embed_dim": self.embed_dim,
            "depth": self.depth,
            "heads": self.heads,
            "mlp_ratio": self.mlp_ratio,
            "positions": self.positions,
            "dropout": self.dropout,
            "name": self.name,
        }


# ---- configs -----------------------------------------------------------------------------------------------


def _config(**backbone) -> dict:
    return {
        "front_end": decibel_mel(22_050, n_fft=1024, n_mels=128),
        "backbone": {"architecture": "MusicTaggingTransformer", "config": backbone},
        "task": "multi_label",
        "window": 10.0,
        "pooling": "none",
        "dropout": 0.0,
    }


#: Classifiers without labels and name: the teacher, and the compact student that it teaches.
CONFIGS = {
    "music-tagging-transformer": _config(),
    "music-tagging-transformer-student": _config(embed_dim=64),
}
