"""Blocks that several architectures share, with PyTorch's conventions, which published weights rely on."""

import keras
from keras import layers

from music_zoo.layers.attention import SelfAttention
from music_zoo.layers.fused import BatchNormalization, Conv2D, Dense

#: Where the backend's own convolutions have the channels. Networks of convolutions compute in this layout
#: where Keras' usual one, channels last, would cost a copy before and behind every layer.
DATA_FORMAT = "channels_first" if keras.config.backend() == "torch" else "channels_last"
CHANNEL_AXIS = 1 if DATA_FORMAT == "channels_first" else -1


@keras.saving.register_keras_serializable(package="music_zoo")
class AtLeast(layers.Layer):
    """Passes its input on; one that is too short for the layers behind it is refused in plain words.

    Args:
        length: The least size of the last axis that gives an output.
        unit: What that axis counts: `"frames"` or `"samples"`.
        **kwargs: Passed on to `keras.layers.Layer`.

    Raises:
        ValueError: In the call, for a shorter input.
    """

    def __init__(self, length: int, unit: str = "frames", **kwargs):
        super().__init__(**kwargs)
        self.length = length
        self.unit = unit

    def call(self, inputs):
        """Return the input."""
        self.compute_output_shape(inputs.shape)
        return inputs

    def compute_output_shape(self, input_shape) -> tuple:
        """Return the shape of the input."""
        if (length := input_shape[-1]) is not None and length < self.length:
            raise ValueError(
                f"The network needs at least {self.length} {self.unit}, got {length}; take a longer window."
            )
        return tuple(input_shape)

    def get_config(self) -> dict:
        """Return the constructor's arguments."""
        return super().get_config() | {"length": self.length, "unit": self.unit}


def batch_norm(x, name: str, momentum: float = 0.9, epsilon: float = 1e-5, axis: int = -1):
    """Batch normalisation over the channels, with PyTorch's defaults (its momentum of 0.1 is 0.9 here)."""
    return BatchNormalization(axis=axis, momentum=momentum, epsilon=epsilon, name=name)(x)


def mel_image(features, n_mels: int, min_frames: int = 1):
    """`(batch, n_mels, frames)` to an image with one channel, `(batch, n_mels, frames, 1)`."""
    x = AtLeast(min_frames, name="length_check")(features)
    return layers.Reshape((n_mels, -1, 1), name="as_image")(x)


def conv_block(x, width: int, pool: int | tuple[int, int], name: str, activation: str = "relu"):
    """3x3 convolution, batch normalisation, activation, maximum over `pool` (what remains is dropped)."""
    x = Conv2D(width, 3, padding="same", name=f"{name}_conv")(x)
    x = layers.Activation(activation, name=f"{name}_activation")(batch_norm(x, f"{name}_norm"))
    return layers.MaxPooling2D(pool, name=name)(x)


def residual_block(x, width: int, name: str, stride: int | tuple[int, int] = 1):
    """Two 3x3 convolutions around a shortcut, which is one more 3x3 convolution where the shape changes.

    The shortcut of He et al. (2016) is 1x1; this one, and the numbering of its parts (1, 2, 3: shortcut), are
    those of Won et al. (2020).
    """
    shortcut = x
    stride = (stride, stride) if isinstance(stride, int) else stride

    def conv(x, part: int, stride=(1, 1)):
        if max(stride) > 1:  # Keras' own "same" would pad even sizes behind only
            x = layers.ZeroPadding2D(1, name=f"{name}_pad_{part}")(x)
        padding = "valid" if max(stride) > 1 else "same"
        x = Conv2D(width, 3, strides=stride, padding=padding, name=f"{name}_conv_{part}")(x)
        return batch_norm(x, f"{name}_norm_{part}")

    x = layers.ReLU(name=f"{name}_relu_1")(conv(x, 1, stride))
    x = conv(x, 2)
    if max(stride) > 1 or shortcut.shape[-1] != width:
        shortcut = conv(shortcut, 3, stride)
    return layers.ReLU(name=name)(layers.Add(name=f"{name}_add")([x, shortcut]))


def layer_norm(x, name: str):
    """Layer normalisation of the channels, with PyTorch's default."""
    return layers.LayerNormalization(epsilon=1e-5, name=name)(x)


def encoder_block(x, heads: int, mlp_width: int, dropout: float, name: str, qkv_bias: bool = True):
    """Attention, then two dense layers, each normalised before: `(batch, ..., tokens, width)` in and out."""
    attend = SelfAttention(heads, qkv_bias=qkv_bias, name=f"{name}_attention")
    branch = attend(layer_norm(x, f"{name}_norm1"))
    branch = layers.Dropout(dropout, name=f"{name}_dropout1")(branch)
    x = layers.Add(name=f"{name}_add1")([x, branch])
    branch = Dense(mlp_width, activation="gelu", name=f"{name}_mlp1")(layer_norm(x, f"{name}_norm2"))
    branch = layers.Dropout(dropout, name=f"{name}_dropout2")(branch)
    branch = Dense(x.shape[-1], name=f"{name}_mlp2")(branch)
    branch = layers.Dropout(dropout, name=f"{name}_dropout3")(branch)
    return layers.Add(name=f"{name}_add2")([x, branch])


def dense_block(x, width: int):
    """Linear layer, batch normalisation, ReLU: `(batch, channels)` to the embedding `(batch, width)`."""
    x = Dense(width, name="dense")(x)
    return layers.ReLU(name="embedding")(batch_norm(x, "dense_norm"))
