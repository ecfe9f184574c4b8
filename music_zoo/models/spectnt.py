"""SpecTNT: in each block, attention over the frequencies of every frame, then attention over the frames.

Lu, Wang, Won, Choi, Song: "SpecTNT: a time-frequency transformer for music audio" (ISMIR 2021,
arXiv:2110.09127), built from the paper's description. The only public code, MWM-io/SpecTNT-pytorch, is not
the authors', and swaps tokens and features before each attention: there, channels attend to each other, not
frequencies. What the description leaves open is our choice: all sizes, decibels, batch normalisation of the
input, one residual block that quarters time, the normalised output, that bands may be pooled to fewer tokens,
and that the clip's token, having no frame, has no part in the spectral layers.
"""

import keras
from keras import layers, ops

from music_zoo.layers.attention import ClassToken, LearnedPositions
from music_zoo.layers.fused import Dense
from music_zoo.models.backbone import Backbone
from music_zoo.models.blocks import batch_norm, encoder_block, layer_norm, mel_image, residual_block
from music_zoo.models.front_ends import decibel_mel

# ---- layers ------------------------------------------------------------------------------------------------


@keras.saving.register_keras_serializable(package="music_zoo")
class TemporalEmbedding(layers.Layer):
    """One learned vector for each step of time, the same for all clips.

    Args:
        width: Length of a vector.
        steps: The most steps that an input may have.
        name: Name of the layer.
        **kwargs: Passed on to `keras.layers.Layer`.

    Input `(batch, steps, bins, channels)`, of which only the shape counts, output `(batch, steps, width)`.
    """

    def __init__(self, width: int, steps: int, name: str = "temporal_embedding", **kwargs):
        super().__init__(name=name, **kwargs)
        self.width = width
        self.steps = steps
        self.positions = LearnedPositions(steps, initializer="random_uniform", dtype=self.dtype_policy)

    def build(self, input_shape) -> None:
        """Make the vectors."""
        self.positions.build((input_shape[0], input_shape[1], self.width))

    def call(self, inputs):
        """Return the vectors of as many steps as the input has."""
        return self.positions(ops.zeros((*ops.shape(inputs)[:2], self.width), dtype=self.compute_dtype))

    def compute_output_shape(self, input_shape) -> tuple:
        """Return `(batch, steps, width)`."""
        return self.positions.compute_output_shape((*input_shape[:2], self.width))

    def get_config(self) -> dict:
        """Return the constructor's arguments."""
        return super().get_config() | {"width": self.width, "steps": self.steps}


def _block(spectral, temporal, clip_tokens: int, heads: tuple[int, int], dropout: float, name: str):
    """One spectral and one temporal layer, and what they tell each other by way of the frequency class token.

    Args:
        spectral: `(batch, steps, 1 + bins, spectral_dim)`, the frequency class token of each step first.
        temporal: `(batch, clip_tokens + steps, temporal_dim)`.
        clip_tokens: Tokens that stand for no step, in front: 1 or 0.
        heads: Of the spectral and of the temporal layer.
        dropout: Rate while training.
        name: Of the block's layers, as prefix.
    """
    spectral_dim, temporal_dim = spectral.shape[-1], temporal.shape[-1]
    told = Dense(spectral_dim, name=f"{name}_to_spectral")(temporal[:, clip_tokens:])
    first = spectral[:, :, :1] + ops.expand_dims(told, 2)
    spectral = ops.concatenate([first, spectral[:, :, 1:]], axis=2)
    spectral = encoder_block(spectral, heads[0], spectral_dim, dropout, f"{name}_spectral")
    told = Dense(temporal_dim, name=f"{name}_to_temporal")(spectral[:, :, 0])
    steps = temporal[:, clip_tokens:] + told
    temporal = ops.concatenate([temporal[:, :clip_tokens], steps], axis=1) if clip_tokens else steps
    return spectral, encoder_block(temporal, heads[1], temporal_dim, dropout, f"{name}_temporal")


def frame_classifier(backbone: "SpecTNT", num_classes: int) -> keras.Model:
    """Return a model from features to logits for every step of time, as melody, chords and beats need them.

    Args:
        backbone: Without a clip's token.
        num_classes: Logits of each step.

    Input as of the backbone, output `(batch, steps, num_classes)`.

    Raises:
        ValueError: The backbone gives one embedding for the clip.
    """
    if backbone.clip_token:
        raise ValueError("frame_classifier needs a SpecTNT with clip_token=False, got one that embeds clips.")
    logits = layers.Dense(num_classes, dtype="float32", name="head")(backbone(backbone.input))
    return keras.Model(backbone.input, logits)


# ---- backbone ----------------------------------------------------------------------------------------------


@keras.saving.register_keras_serializable(package="music_zoo")
class SpecTNT(Backbone):
    """A residual block, then transformers in transformers: over frequencies, and over time.

    What the tokens attend to, `music_zoo.layers.attention.attention_maps` shows.

    Args:
        n_mels: Mel bands of the input.
        spectral_dim: Channels of the residual block, width of the spectral tokens.
        temporal_dim: Width of the temporal tokens.
        depth: Blocks.
        spectral_heads: Attention heads over frequencies.
        temporal_heads: Attention heads over time.
        positions: Steps of four frames that have a learned embedding: the most there can be.
        clip_token: Whether a token of its own sums up the clip.
        bands_per_token: Neighbouring mel bands that become one token of the spectral layers.
        dropout: Rate in the transformers, while training.
        name: Name of the model.

    Input `(batch, n_mels, frames)` of 4 to `4 * positions + 3` frames, output the embedding
    `(batch, temporal_dim)`. Without `clip_token` 8 frames or more, and an embedding of every four frames,
    `(batch, frames // 4, temporal_dim)`.

    Raises:
        ValueError: Mel bands that `bands_per_token` does not divide.
    """

    def __init__(
        self,
        n_mels: int = 128,
        spectral_dim: int = 96,
        temporal_dim: int = 128,
        depth: int = 3,
        spectral_heads: int = 4,
        temporal_heads: int = 8,
        positions: int = 512,
        clip_token: bool = True,
        bands_per_token: int = 1,
        dropout: float = 0.15,
        name: str = "spectnt",
    ):
        if bands_per_token < 1 or n_mels % bands_per_token:
            raise ValueError(
                f"SpecTNT: {n_mels} mel bands do not make tokens of {bands_per_token} bands each."
            )
        features = keras.Input((n_mels, None), name="features")
        x = batch_norm(mel_image(features, n_mels, min_frames=4 if clip_token else 8), "input_norm")
        x = residual_block(x, spectral_dim, "residual")
        x = layers.MaxPooling2D((bands_per_token, 4), name="residual_pool")(x)
        x = layers.Permute((2, 1, 3), name="steps")(x)  # (batch, steps, bins, channels)
        temporal = TemporalEmbedding(temporal_dim, positions)(x)
        if clip_token:
            temporal = ClassToken("zeros", name="clip_token")(temporal)
        spectral = ClassToken("zeros", name="frequency_class_token")(x)
        spectral = LearnedPositions(
            1 + n_mels // bands_per_token, initializer="zeros", name="frequency_positions"
        )(spectral)
        heads = (spectral_heads, temporal_heads)
        for number in range(depth):
            spectral, temporal = _block(spectral, temporal, int(clip_token), heads, dropout, f"block{number}")
        temporal = layer_norm(temporal[:, 0] if clip_token else temporal, "norm")
        super().__init__(inputs=features, outputs=temporal, name=name)
        if clip_token:
            last = f"block{depth - 1}_temporal"
            self.time_attention = (f"{last}_attention", f"{last}_add1")
        self.n_mels = n_mels
        self.spectral_dim = spectral_dim
        self.temporal_dim = temporal_dim
        self.depth = depth
        self.spectral_heads = spectral_heads
        self.temporal_heads = temporal_heads
        self.positions = positions
        self.clip_token = clip_token
        self.bands_per_token = bands_per_token
        self.dropout = dropout

    def get_config(self) -> dict:
        """Return the constructor's arguments."""
        return {
            "n_mels": self.n_mels,
            "spectral_dim": self.spectral_dim,
            "temporal_dim": self.temporal_dim,
            "depth": self.depth,
            "spectral_heads": self.spectral_heads,
            "temporal_heads": self.temporal_heads,
            "positions": self.positions,
            "clip_token": self.clip_token,
            "bands_per_token": self.bands_per_token,
            "dropout": self.dropout,
            "name": self.name,
        }


# ---- configs -----------------------------------------------------------------------------------------------


def _config(pooling: str, **backbone) -> dict:
    return {
        "front_end": decibel_mel(22_050, n_fft=1024, n_mels=128),
        "backbone": {"architecture": "SpecTNT", "config": backbone},
        "task": "multi_label",
        "window": 195 * 512 / 22_050,  # 4.5 s: 196 frames, 49 steps
        "pooling": pooling,
        "dropout": 0.0,
    }


#: Classifiers without labels and name: by a token for the clip, and by the mean over frames, whose backbone
#: `frame_classifier` takes.
CONFIGS = {
    "spectnt": _config("none"),
    "spectnt-frames": _config("mean", clip_token=False),
}
