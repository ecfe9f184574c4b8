"""Swin Transformer over a log-mel image: attention in windows that shift from block to block (Swin).

Liu et al. 2021, arXiv:2103.14030 (code: microsoft/Swin-Transformer, MIT), for images; S3T (Zhao et al. 2022,
arXiv:2202.10139) brought it to music. Equal to the authors' PyTorch code for images that its windows divide.
Others, as spectrograms mostly are, are padded inside, and no token attends to the padding.
"""

import functools

import keras
import numpy as np
from keras import layers, ops

from music_zoo.layers.attention import LearnedPositions, SelfAttention, drop_path
from music_zoo.layers.fused import Conv2D, Dense
from music_zoo.models.backbone import Backbone
from music_zoo.models.blocks import batch_norm, layer_norm, mel_image
from music_zoo.models.front_ends import unit_mel

# ---- layers ------------------------------------------------------------------------------------------------

# Added to a logit that must not count. The -100 of the original leaves it a weight of 4e-44, which changes no
# result, but numbers so small are computed with a hundred times slower.
MASKED = -1e4


def _attention_mask(height, width, window: int, shift: int, numpy=np):
    """Which tokens of a window may attend to each other after padding and shifting.

    Args:
        height: Rows of the image before it is padded to a multiple of `window`.
        width: Its columns.
        window: Side of a window.
        shift: By how much the padded image was rolled up and to the left.
        numpy: `keras.ops` where `width` is known only when the graph runs.

    Returns:
        `(windows, 1, window**2, window**2)`: 0 where they may, `MASKED` where one of them is padding, or
        where they are neighbours only because rolling brought the image's two ends together.
    """

    def regions(length):
        """Number the parts along one axis: 0 the image, 1 what was rolled to its end, 2 padding."""
        padded = length + -length % window
        position = numpy.arange(padded)
        rolled = numpy.where(position >= padded - shift, 1, 0)
        return numpy.where((position + shift) % padded >= length, 2, rolled)

    rows = numpy.reshape(regions(height), (-1, 1, window, 1))
    columns = numpy.reshape(regions(width), (1, -1, 1, window))
    region = numpy.reshape(3 * rows + columns, (-1, 1, window * window))
    differ = numpy.expand_dims(region, -1) != numpy.expand_dims(region, -2)
    return numpy.where(differ, MASKED, 0.0)


_known_mask = functools.lru_cache(maxsize=64)(_attention_mask)  # made once, for all blocks and all calls


def _relative_positions(window: int) -> np.ndarray:
    """Row of the bias table for each pair of tokens of a window, `(window**2, window**2)`."""
    tokens = np.stack(np.meshgrid(*[np.arange(window)] * 2, indexing="ij"), axis=-1).reshape(-1, 2)
    rows, columns = np.moveaxis(tokens[:, None] - tokens[None] + window - 1, -1, 0)
    return rows * (2 * window - 1) + columns


@keras.saving.register_keras_serializable(package="music_zoo")
class WindowAttention(layers.Layer):
    """Self-attention among the tokens of each window of an image, with a bias for each relative position.

    Args:
        heads: Number of heads.
        window: Side of a window in tokens.
        shift: Rows and columns by which the windows are moved against the image's corner.
        name: Name of the layer.
        **kwargs: Passed on to `keras.layers.Layer`.

    Input and output `(batch, height, width, channels)`, of any height and width.
    """

    def __init__(self, heads: int, window: int, shift: int = 0, name: str | None = None, **kwargs):
        super().__init__(name=name, **kwargs)
        self.heads = heads
        self.window = window
        self.shift = shift

    def build(self, input_shape) -> None:
        """Make the attention and the bias table, `((2 * window - 1)**2, heads)`."""
        self.attention = SelfAttention(
            self.heads, kernel_initializer=_initializer(), dtype=self.dtype_policy, name="attention"
        )
        self.attention.build((None, self.window**2, input_shape[-1]))
        self.bias_table = self.add_weight(
            shape=((2 * self.window - 1) ** 2, self.heads), initializer=_initializer(), name="bias_table"
        )
        self.relative_positions = _relative_positions(self.window)

    def call(self, inputs, attention_only: bool = False):
        """Let the tokens of each window attend to each other.

        Args:
            inputs: `(batch, height, width, channels)`.
            attention_only: Return who attends to whom, `(batch, windows, heads, window**2, window**2)`,
                instead; windows row by row over the padded and rolled image.
        """
        batch, height, width, channels = ops.shape(inputs)
        window, shift = self.window, self.shift
        rows, columns = -(-height // window), -(-width // window)
        x = _padded(inputs, rows * window - height, columns * window - width)
        if shift:
            x = ops.roll(x, (-shift, -shift), axis=(1, 2))
        x = ops.reshape(x, (batch, rows, window, columns, window, channels))
        x = ops.reshape(ops.transpose(x, (0, 1, 3, 2, 4, 5)), (batch, rows * columns, window**2, channels))
        x = self.attention(x, bias=self._bias(height, width), attention_only=attention_only)
        if attention_only:
            return x
        x = ops.reshape(x, (batch, rows, columns, window, window, channels))
        x = ops.reshape(
            ops.transpose(x, (0, 1, 3, 2, 4, 5)), (batch, rows * window, columns * window, channels)
        )
        if shift:
            x = ops.roll(x, (shift, shift), axis=(1, 2))
        return x[:, :height, :width]

    def _bias(self, height, width):
        """Return what is added to the logits: `(heads, n, n)`, or `(windows, heads, n, n)` with a mask."""
        bias = ops.transpose(ops.take(self.bias_table, self.relative_positions, axis=0), (2, 0, 1))
        if isinstance(height, int) and isinstance(width, int):
            if not self.shift and not height % self.window and not width % self.window:
                return bias
            mask = _known_mask(height, width, self.window, self.shift)
        else:
            mask = _attention_mask(height, width, self.window, self.shift, numpy=ops)
        return bias + ops.cast(mask, bias.dtype)

    def compute_output_spec(self, inputs, attention_only: bool = False):
        """Return the shape of the output, which TensorFlow would lose in padding an unknown width."""
        if attention_only:
            return super().compute_output_spec(inputs, attention_only=True)
        return keras.KerasTensor(inputs.shape, dtype=self.compute_dtype)

    def get_config(self) -> dict:
        """Return the constructor's arguments."""
        return super().get_config() | {"heads": self.heads, "window": self.window, "shift": self.shift}


@keras.saving.register_keras_serializable(package="music_zoo")
class PatchMerging(layers.Layer):
    """Concatenates 2x2 neighbours: `(batch, h, w, c)` to `(batch, ceil(h / 2), ceil(w / 2), 4 * c)`."""

    def call(self, inputs):
        """Merge, with zeros for neighbours that an odd size lacks."""
        batch, height, width, channels = ops.shape(inputs)
        x = _padded(inputs, height % 2, width % 2)
        x = ops.reshape(x, (batch, (height + 1) // 2, 2, (width + 1) // 2, 2, channels))
        x = ops.transpose(x, (0, 1, 3, 4, 2, 5))  # neighbours column by column, the order of the original
        return ops.reshape(x, (batch, (height + 1) // 2, (width + 1) // 2, 4 * channels))

    def compute_output_shape(self, input_shape) -> tuple:
        """Return the shape with both axes halved."""
        batch, height, width, channels = input_shape
        return (batch, (height + 1) // 2, None if width is None else (width + 1) // 2, 4 * channels)


def _padded(x, rows, columns):
    """Put zeros behind the rows and columns of `(batch, height, width, channels)`, in a copy if need be."""
    if isinstance(rows, int) and isinstance(columns, int) and not rows and not columns:
        return x
    return ops.pad(x, ((0, 0), (0, rows), (0, columns), (0, 0)))


def _initializer() -> keras.Initializer:
    return keras.initializers.TruncatedNormal(stddev=0.02)


def _dense(x, width: int, name: str, **settings):
    return Dense(width, kernel_initializer=_initializer(), name=name, **settings)(x)


def _block(x, heads: int, window: int, shift: int, mlp_ratio: int, drop_rate: float, name: str):
    """Attention in windows, then two layers for each token: `(batch, height, width, channels)` in and out."""
    branch = WindowAttention(heads, window, shift, name=f"{name}_attention")(layer_norm(x, f"{name}_norm1"))
    x = layers.Add(name=f"{name}_add1")([x, drop_path(branch, drop_rate, f"{name}_drop_path1")])
    branch = _dense(
        layer_norm(x, f"{name}_norm2"), mlp_ratio * x.shape[-1], f"{name}_mlp1", activation="gelu"
    )
    branch = _dense(branch, x.shape[-1], f"{name}_mlp2")
    return layers.Add(name=f"{name}_add2")([x, drop_path(branch, drop_rate, f"{name}_drop_path2")])


def _patches(image, patch_size: int, embed_dim: int, stem: tuple[int, ...]):
    """Embed the patches of an image, in one step or, with a stem, by convolutions that overlap."""
    if not stem:
        return Conv2D(embed_dim, patch_size, patch_size, padding="same", name="patch_conv")(image)
    for number, width in enumerate(stem, 1):
        x = Conv2D(width, 3, 2, padding="same", use_bias=False, name=f"stem_conv{number}")(image)
        image = layers.ReLU(name=f"stem_relu{number}")(batch_norm(x, f"stem_norm{number}"))
    return Conv2D(embed_dim, 1, name="patch_conv")(image)


def swin_features(
    image,
    *,
    patch_size: int,
    embed_dim: int,
    depths: tuple[int, ...],
    heads: tuple[int, ...],
    window: int,
    mlp_ratio: int,
    drop_path_rate: float,
    position_columns: int | None,
    frequency_positions: bool = False,
    stem: tuple[int, ...] = (),
):
    """Apply the network to an image `(batch, height, width, channels)`, whose width may be unknown.

    Settings as of `Swin`; `position_columns` counts patches. Returns a feature map,
    `(batch, ceil(height / s), ceil(width / s), embed_dim * 2**(stages - 1))` with
    `s = patch_size * 2**(stages - 1)`.
    """
    x = layer_norm(_patches(image, patch_size, embed_dim, stem), "patch_norm")
    if position_columns is not None:
        x = LearnedPositions(position_columns, rows=x.shape[1])(x)
    elif frequency_positions:
        x = LearnedPositions(None, rows=x.shape[1])(x)
    rates = iter(np.linspace(0, drop_path_rate, sum(depths)).tolist())
    for stage, (depth, head_count) in enumerate(zip(depths, heads, strict=True)):
        if stage > 0:
            x = layer_norm(PatchMerging(name=f"stage{stage}_merging")(x), f"stage{stage}_merging_norm")
            x = _dense(x, x.shape[-1] // 2, f"stage{stage}_merging_dense", use_bias=False)
        # A window as high as the image cannot shift. Time has no say in this, so that weights fit any length.
        side = min(window, x.shape[1])
        shift = side // 2 if x.shape[1] > side else 0
        for block in range(depth):
            x = _block(
                x,
                head_count,
                side,
                shift if block % 2 else 0,
                mlp_ratio,
                next(rates),
                f"stage{stage}_block{block}",
            )
    return layer_norm(x, "norm")


# ---- backbone ----------------------------------------------------------------------------------------------


@keras.saving.register_keras_serializable(package="music_zoo")
class Swin(Backbone):
    """Swin Transformer over a log-mel image of any number of frames.

    A last patch that the image does not fill is filled with zeros, so zero should be an unremarkable feature.

    Args:
        n_mels: Mel bands of the input.
        patch_size: Side of a patch, in bands and frames.
        embed_dim: Channels of the first stage; each later stage doubles them and halves the image.
        depths: Blocks in each stage; every other one shifts its windows.
        heads: Attention heads in each stage.
        window: Side of an attention window in tokens; no more than the rows of the stage's image.
        mlp_ratio: Width of a block's hidden layer, in multiples of its channels.
        drop_path_rate: Chance that the last block is left out while training; it rises linearly from 0 at the
            first.
        position_frames: Frames that have a learned absolute position, the most that an input may then have.
            None, as in all of the paper's models, for relative positions only.
        frequency_positions: Give each row of patches a learned position, the same at all times: a thing is
            the same wherever it is in a photograph, a note in a spectrogram is not. `position_frames` does
            so, too.
        stem: Channels of 3x3 convolutions that embed the patches, each halving both axes, in place of one
            linear map of each patch (Xiao et al. 2021, arXiv:2106.14881); their number follows from
            `patch_size`. Empty, as in the paper's models: none. Trains faster, and on fewer examples.
        input_mean, input_std: Of the features, to which they are standardised first: 0.4 and 0.25 for a front
            end that ends in the range 0 to 1.
        name: Name of the model.

    Input `(batch, n_mels, frames)`; output as of `swin_features`.

    Raises:
        ValueError: `depths` and `heads` differ in length, heads do not divide the channels of their stage,
            the convolutions of `stem` do not end in patches of `patch_size`, or the last stage is left with a
            single row, of which there is nothing to attend to.
    """

    def __init__(
        self,
        n_mels: int = 128,
        patch_size: int = 4,
        embed_dim: int = 96,
        depths: tuple[int, ...] = (2, 2, 6, 2),
        heads: tuple[int, ...] = (3, 6, 12, 24),
        window: int = 7,
        mlp_ratio: int = 4,
        drop_path_rate: float = 0.1,
        position_frames: int | None = None,
        frequency_positions: bool = False,
        stem: tuple[int, ...] = (),
        input_mean: float = 0.0,
        input_std: float = 1.0,
        name: str = "swin",
    ):
        if len(depths) != len(heads):
            raise ValueError(
                f"Swin: `depths` and `heads` need one number per stage, got {len(depths)} depths "
                f"{tuple(depths)} and {len(heads)} heads {tuple(heads)}."
            )
        if stem and 2 ** len(stem) != patch_size:
            raise ValueError(
                f"Swin: the {len(stem)} convolutions of `stem` {tuple(stem)} make patches of "
                f"{2 ** len(stem)}, got patch_size={patch_size}."
            )
        least = patch_size * 2 ** (len(depths) - 1)
        if n_mels <= least:
            raise ValueError(
                f"Swin: {len(depths)} stages over patches of {patch_size} leave more than one row only of "
                f"more than {least} mel bands, got n_mels={n_mels}."
            )
        features = keras.Input((n_mels, None), name="features")
        image = mel_image(features, n_mels)
        if (input_mean, input_std) != (0.0, 1.0):
            image = layers.Rescaling(1 / input_std, -input_mean / input_std, name="standardize")(image)
        x = swin_features(
            image,
            patch_size=patch_size,
            embed_dim=embed_dim,
            depths=depths,
            heads=heads,
            window=window,
            mlp_ratio=mlp_ratio,
            drop_path_rate=drop_path_rate,
            position_columns=position_frames and -(-position_frames // patch_size),
            frequency_positions=frequency_positions,
            stem=stem,
        )
        super().__init__(inputs=features, outputs=x, name=name)
        self.n_mels = n_mels
        self.patch_size = patch_size
        self.embed_dim = embed_dim
        self.depths = tuple(depths)
        self.heads = tuple(heads)
        self.window = window
        self.mlp_ratio = mlp_ratio
        self.drop_path_rate = drop_path_rate
        self.position_frames = position_frames
        self.frequency_positions = frequency_positions
        self.stem = tuple(stem)
        self.input_mean = input_mean
        self.input_std = input_std

    def get_config(self) -> dict:
        """Return the constructor's arguments."""
        return {
            "n_mels": self.n_mels,
            "patch_size": self.patch_size,
            "embed_dim": self.embed_dim,
            "depths": list(self.depths),
            "heads": list(self.heads),
            "window": self.window,
            "mlp_ratio": self.mlp_ratio,
            "drop_path_rate": self.drop_path_rate,
            "position_frames": self.position_frames,
            "frequency_positions": self.frequency_positions,
            "stem": list(self.stem),
            "input_mean": self.input_mean,
            "input_std": self.input_std,
            "name": self.name,
        }


# ---- configs -----------------------------------------------------------------------------------------------


def _config(**backbone) -> dict:
    return {
        "front_end": unit_mel(22_050),
        "backbone": {"architecture": "Swin", "config": backbone},
        "task": "single_label",
        "window": 255 * 512 / 22_050,  # 5.9 s: 256 frames, so that the windows of the small configs fit
        "pooling": "mean",
        "dropout": 0.0,
    }


#: What spectrograms differ in from photographs. Without it training takes much longer to get going.
_SPECTROGRAM = {"frequency_positions": True, "input_mean": 0.4, "input_std": 0.25}

#: Classifiers without labels and name. Tiny, small and base are the networks of the paper with its drop path
#: rates; front end and window of audio are ours. So are compact and mini, which train on a CPU, and all of
#: `s3t-swin`: of S3T's configuration, only the kind of network is public.
CONFIGS = {
    "swin-tiny": _config(drop_path_rate=0.2),
    "swin-small": _config(depths=(2, 2, 18, 2), drop_path_rate=0.3),
    "swin-base": _config(embed_dim=128, depths=(2, 2, 18, 2), heads=(4, 8, 16, 32), drop_path_rate=0.5),
    "swin-compact": _config(embed_dim=48, depths=(2, 2, 2, 2), window=4),
    "swin-mini": _config(
        patch_size=8, embed_dim=48, depths=(2, 2, 2), heads=(3, 6, 12), window=4, **_SPECTROGRAM
    ),
    "s3t-swin": _config(embed_dim=48, depths=(2, 2, 6, 2), window=4, drop_path_rate=0.2, **_SPECTROGRAM),
}
