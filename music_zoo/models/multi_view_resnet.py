"""ResNet of the multi-view study: means in place of strides, attention in place of pooling (MultiViewResNet).

Meseguer-Brocal, Desblancs, Hennequin: "An experimental comparison of multi-view self-supervised methods for
music tagging" (ICASSP 2024, arXiv:2404.09177; code: deezer/multi-view-ssl-benchmark). The network is the
modified ResNet of CLIP (Radford et al. 2021, arXiv:2103.00020), made small.
"""

import keras
from keras import layers, ops

from music_zoo.layers.attention import SelfAttention
from music_zoo.models.backbone import Backbone
from music_zoo.models.blocks import batch_norm, mel_image

# ---- layers ------------------------------------------------------------------------------------------------


@keras.saving.register_keras_serializable(package="music_zoo")
class AttentionPooling(layers.Layer):
    """Pools a feature map by attention: what the mean of all its points attends to, as one vector.

    Every point has a learned position, and so has the mean.

    Args:
        heads: Attention heads; must divide the channels.
        output_dim: Length of the vector.
        columns: The most columns that a map may have.
        name: Name of the layer.
        **kwargs: Passed on to `keras.layers.Layer`.

    Input `(batch, rows, columns, channels)`, output `(batch, output_dim)`.

    Raises:
        ValueError: In the call, for a map with more columns than there are positions.
    """

    def __init__(self, heads: int, output_dim: int, columns: int, name: str = "attention_pooling", **kwargs):
        super().__init__(name=name, **kwargs)
        self.heads = heads
        self.output_dim = output_dim
        self.columns = columns

    def build(self, input_shape) -> None:
        """Make the positions, the mean's first, and the attention."""
        _, rows, _, channels = input_shape
        self.positions = self.add_weight(
            shape=(1 + rows * self.columns, channels),
            initializer=keras.initializers.RandomNormal(stddev=channels**-0.5),
            name="positions",
        )
        self.attention = SelfAttention(
            self.heads, output_dim=self.output_dim, dtype=self.dtype_policy, name="attention"
        )
        self.attention.build((None, None, channels))

    def call(self, inputs):
        """Pool a feature map."""
        self.compute_output_shape(inputs.shape)
        batch, rows, columns, channels = ops.shape(inputs)
        positions = ops.cast(self.positions, inputs.dtype)
        grid = ops.reshape(positions[1:], (rows, self.columns, channels))[:, :columns]
        points = ops.reshape(inputs + grid, (batch, rows * columns, channels))
        mean = ops.mean(inputs, axis=(1, 2))[:, None] + positions[0]
        return self.attention(ops.concatenate([mean, points], axis=1))[:, 0]

    def compute_output_shape(self, input_shape) -> tuple:
        """Return `(batch, output_dim)`."""
        if (columns := input_shape[2]) is not None and columns > self.columns:
            raise ValueError(
                f"The network has learned positions for at most {self.columns} steps of time, got {columns}; "
                "take a shorter window."
            )
        return (input_shape[0], self.output_dim)

    def get_config(self) -> dict:
        """Return the constructor's arguments."""
        return super().get_config() | {
            "heads": self.heads,
            "output_dim": self.output_dim,
            "columns": self.columns,
        }


def _conv(x, width: int, kernel: int, name: str, activate: bool = True, stride: int = 1):
    """Convolution without bias, batch normalisation, ReLU if `activate`."""
    if stride > 1:  # Keras' own "same" would pad even sizes behind only
        x = layers.ZeroPadding2D(kernel // 2, name=f"{name}_pad")(x)
    padding = "valid" if stride > 1 else "same"
    x = layers.Conv2D(width, kernel, stride, padding=padding, use_bias=False, name=f"{name}_conv")(x)
    x = batch_norm(x, f"{name}_norm")
    return layers.ReLU(name=f"{name}_relu")(x) if activate else x


def _bottleneck(x, width: int, stride: int, name: str):
    """1x1, 3x3 and 1x1 convolutions around a shortcut, to four times `width` channels."""
    shortcut = x
    x = _conv(_conv(x, width, 1, f"{name}_1"), width, 3, f"{name}_2")
    if stride > 1:
        x = layers.AveragePooling2D(stride, name=f"{name}_pool")(x)
        shortcut = layers.AveragePooling2D(stride, name=f"{name}_shortcut_pool")(shortcut)
    x = _conv(x, 4 * width, 1, f"{name}_3", activate=False)
    if stride > 1 or shortcut.shape[-1] != 4 * width:
        shortcut = _conv(shortcut, 4 * width, 1, f"{name}_shortcut", activate=False)
    return layers.ReLU(name=name)(layers.Add(name=f"{name}_add")([x, shortcut]))


# ---- backbone ----------------------------------------------------------------------------------------------


@keras.saving.register_keras_serializable(package="music_zoo")
class MultiViewResNet(Backbone):
    """Residual network over four seconds of a log-mel image.

    Args:
        n_mels: Mel bands of the input.
        frames: The frames that positions in time are learned for, the most that an input may have.
        width: Channels of the stem; stages have 4, 8, 16 and so on times as many.
        blocks: Blocks in each stage. Every stage but the first halves both axes, the stem quarters them.
        heads: Of the attention that pools.
        embedding_dim: Length of the embedding.
        name: Name of the model.

    Input `(batch, n_mels, frames)`, output the embedding `(batch, embedding_dim)`.

    Raises:
        ValueError: Nothing of the input would be left after the halving.
    """

    def __init__(
        self,
        n_mels: int = 128,
        frames: int = 126,
        width: int = 16,
        blocks: tuple[int, ...] = (3, 4, 6, 3),
        heads: int = 8,
        embedding_dim: int = 1024,
        name: str = "multi_view_resnet",
    ):
        # The first convolution rounds up, all halving behind it down.
        halvings = 2 ** len(blocks)
        columns = (frames + 1) // 2 // halvings
        if columns < 1 or (n_mels + 1) // 2 < halvings:
            raise ValueError(
                f"MultiViewResNet: {len(blocks)} stages need at least {2 * halvings - 1} mel bands and "
                f"frames, got n_mels={n_mels} and frames={frames}."
            )
        features = keras.Input((n_mels, None), name="features")
        x = mel_image(features, n_mels, min_frames=2 * halvings - 1)
        x = _conv(x, width // 2, 3, "stem1", stride=2)
        x = _conv(_conv(x, width // 2, 3, "stem2"), width, 3, "stem3")
        x = layers.AveragePooling2D(2, name="stem_pool")(x)
        for stage, count in enumerate(blocks):
            for block in range(count):
                stride = 2 if stage > 0 and block == 0 else 1
                x = _bottleneck(x, width * 2**stage, stride, f"stage{stage}_block{block}")
        x = AttentionPooling(heads, embedding_dim, columns)(x)
        super().__init__(inputs=features, outputs=x, name=name)
        self.n_mels = n_mels
        self.frames = frames
        self.width = width
        self.blocks = tuple(blocks)
        self.heads = heads
        self.embedding_dim = embedding_dim

    def get_config(self) -> dict:
        """Return the constructor's arguments."""
        return {
            "n_mels": self.n_mels,
            "frames": self.frames,
            "width": self.width,
            "blocks": list(self.blocks),
            "heads": self.heads,
            "embedding_dim": self.embedding_dim,
            "name": self.name,
        }


# ---- configs -----------------------------------------------------------------------------------------------

# The original divides its spectrogram by the sum of the squared window, which for decibels is a reference.
_WINDOW_POWER = 1024 * 3 / 8

#: Classifiers without labels and name. The original scales its waveforms to a peak of 1 before.
CONFIGS = {
    "multi-view-resnet": {
        "front_end": {
            "sample_rate": 16_000,
            "layers": [
                {"layer": "STFT", "config": {"n_fft": 1024, "hop_length": 512, "pad_mode": "reflect"}},
                {
                    "layer": "MelFilterBank",
                    "config": {
                        "sample_rate": 16_000,
                        "n_fft": 1024,
                        "n_mels": 128,
                        "fmax": 11_025.0,  # above half the rate: the last eleven bands are empty
                        "scale": "slaney",
                        "norm": None,
                    },
                },
                {
                    "layer": "Decibels",
                    "config": {"ref": _WINDOW_POWER, "amin": 1e-10 * _WINDOW_POWER, "top_db": 100.0},
                },
            ],
        },
        "backbone": {"architecture": "MultiViewResNet", "config": {}},
        "task": "multi_label",
        "window": 4.0,
        "pooling": "none",
        "dropout": 0.0,
    }
}
