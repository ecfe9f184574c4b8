"""SampleCNN: convolutions of three samples, on the waveform itself.

Lee, Park, Kim, Nam: "Sample-level deep convolutional neural networks for music auto-tagging using raw
waveforms" (SMC 2017, arXiv:1703.01789), with squeeze and excitation Kim, Lee, Nam (ICASSP 2018,
arXiv:1710.10451), in the forms of Won et al. (SMC 2020, arXiv:2006.00751; code:
minzwon/sota-music-tagging-models, MIT) and of Spijkervet and Burgoyne: "Contrastive learning of musical
representations" (CLMR, ISMIR 2021, arXiv:2103.09410; code: Spijkervet/CLMR, Apache-2.0).
"""

import keras
from keras import layers, ops

from music_zoo.layers.fused import Conv1D
from music_zoo.models.backbone import Backbone
from music_zoo.models.blocks import CHANNEL_AXIS, DATA_FORMAT, AtLeast, batch_norm, dense_block
from music_zoo.models.front_ends import waveform

# ---- layers ------------------------------------------------------------------------------------------------


# All take and give steps of the waveform in the backend's layout: `(batch, steps, channels)`, on PyTorch
# `(batch, channels, steps)`.


def _conv(x, width: int, kernel: int, name: str, stride: int = 1, padding: int | None = None):
    """Convolution with PyTorch's explicit padding."""
    padding = kernel // 2 if padding is None else padding
    if stride > 1 and padding:  # Keras' own "same" would pad otherwise
        x = layers.ZeroPadding1D(padding, data_format=DATA_FORMAT, name=f"{name}_pad")(x)
    return Conv1D(
        width,
        kernel,
        strides=stride,
        padding="valid" if stride > 1 else "same",
        data_format=DATA_FORMAT,
        name=name,
    )(x)


def _norm(x, name: str):
    return batch_norm(x, name, axis=CHANNEL_AXIS)


def _basic(x, width: int, kernel: int, name: str, stride: int = 1, padding: int | None = None):
    x = _norm(_conv(x, width, kernel, f"{name}_conv", stride, padding), f"{name}_norm")
    return layers.ReLU(name=f"{name}_relu")(x)


def _squeeze_excitation(x, width: int, kernel: int, name: str, stride: int = 1, padding: int | None = None):
    """Residual block whose channels are weighed by what they are over the whole window."""
    shortcut = x
    x = _norm(_conv(x, width, kernel, f"{name}_conv_1", stride, padding), f"{name}_norm_1")
    x = layers.ReLU(name=f"{name}_relu_1")(x)
    x = _norm(_conv(x, width, kernel, f"{name}_conv_2"), f"{name}_norm_2")
    weight = layers.GlobalAveragePooling1D(data_format=DATA_FORMAT, name=f"{name}_squeeze")(x)
    weight = layers.Dense(width, activation="relu", name=f"{name}_dense1")(weight)
    weight = layers.Dense(width, activation="sigmoid", name=f"{name}_dense2")(weight)
    for_all_steps = (width, 1) if CHANNEL_AXIS == 1 else (1, width)
    weight = layers.Reshape(for_all_steps, name=f"{name}_for_all_steps")(weight)
    x = layers.Multiply(name=f"{name}_excite")([x, weight])
    if stride > 1 or shortcut.shape[CHANNEL_AXIS] != width:
        shortcut = _norm(_conv(shortcut, width, kernel, f"{name}_conv_3", stride, padding), f"{name}_norm_3")
    return layers.ReLU(name=f"{name}_relu")(layers.Add(name=f"{name}_add")([x, shortcut]))


# ---- backbone ----------------------------------------------------------------------------------------------


@keras.saving.register_keras_serializable(package="music_zoo")
class SampleCNN(Backbone):
    """A layer of stride 3, layers that pool 3, and one that looks at what is left.

    Args:
        widths: Channels of each layer, the first and the last included.
        squeeze_excitation: Residual blocks with squeeze and excitation for layers, a dense layer at the end.
        stem_padding: Zeros at both ends of the waveform: 1 in Won's networks, 0 in CLMR.
        last_kernel: Steps that the last layer sees: 1 in Won's networks, 3 in CLMR.
        name: Name of the model.

    Input `(batch, samples)`. Output `(batch, steps, widths[-1])`, one step for the published 59,049 samples;
    with squeeze and excitation, whose dense layer takes the mean over steps, `(batch, widths[-1])`.
    """

    xla_on_tensorflow = True

    def __init__(
        self,
        widths: tuple[int, ...] = (128, 128, 128, 256, 256, 256, 256, 256, 256, 512, 512),
        squeeze_excitation: bool = False,
        stem_padding: int = 1,
        last_kernel: int = 1,
        name: str = "sample_cnn",
    ):
        block = _squeeze_excitation if squeeze_excitation else _basic
        samples = keras.Input((None,), name="samples")
        # The first layer must leave one step for each pooling: 3 to the power of their number.
        least = 3 ** (len(widths) - 1) - 2 * stem_padding
        x = AtLeast(least, "samples", name="length_check")(samples)
        x = layers.Reshape((1, -1) if CHANNEL_AXIS == 1 else (-1, 1), name="as_steps")(x)
        x = block(x, widths[0], 3, "layer1", stride=3, padding=stem_padding)
        for number, width in enumerate(widths[1:-1], start=2):
            x = block(x, width, 3, f"layer{number}")
            x = layers.MaxPooling1D(3, data_format=DATA_FORMAT, name=f"layer{number}")(x)
        x = block(x, widths[-1], last_kernel, f"layer{len(widths)}")
        if CHANNEL_AXIS == 1:
            x = layers.Permute((2, 1), name="channels_last")(x)
        if squeeze_excitation:
            x = dense_block(ops.mean(x, axis=1), widths[-1])
        super().__init__(inputs=samples, outputs=x, name=name)
        self.widths = tuple(widths)
        self.squeeze_excitation = squeeze_excitation
        self.stem_padding = stem_padding
        self.last_kernel = last_kernel

    def get_config(self) -> dict:
        """Return the constructor's arguments."""
        return {
            "widths": list(self.widths),
            "squeeze_excitation": self.squeeze_excitation,
            "stem_padding": self.stem_padding,
            "last_kernel": self.last_kernel,
            "name": self.name,
        }


# ---- configs -----------------------------------------------------------------------------------------------


def _config(sample_rate: int, pooling: str = "mean", **backbone) -> dict:
    return {
        "front_end": waveform(sample_rate),
        "backbone": {"architecture": "SampleCNN", "config": backbone},
        "task": "multi_label",
        "window": 59_049 / sample_rate,
        "pooling": pooling,
        "dropout": 0.5,
    }


#: Classifiers without labels and name.
CONFIGS = {
    "sample-cnn": _config(16_000),
    "sample-cnn-se": _config(16_000, "none", squeeze_excitation=True),
    "sample-cnn-clmr": _config(22_050, stem_padding=0, last_kernel=3),
}
