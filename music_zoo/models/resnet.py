"""Compact residual network for log-mel patches (ResNet).

After the 420k-parameter ResNet with which Lukashevich et al. (2023, doi:10.1145/3616195.3616228) study
calibration; they take it from Grollmisch and Cano (Electronics 10(15):1807, 2021). Neither text that we
could read gives its layers, so all but the size is **our choice**: basic blocks (He et al. 2016,
arXiv:1512.03385) in three stages, a 5x5 stem that halves both axes, shortcuts that average before they
project (He et al. 2019, arXiv:1812.01187).
"""

import keras
from keras import layers

from music_zoo.layers.fused import BatchNormalization
from music_zoo.models.backbone import Backbone
from music_zoo.models.front_ends import unit_mel

# ---- layers ------------------------------------------------------------------------------------------------


def _batch_norm(x, name: str):
    return BatchNormalization(momentum=0.9, epsilon=1e-5, name=name)(x)


def _conv(x, width: int, kernel: int, stride: int, name: str):
    return layers.Conv2D(
        width,
        kernel,
        strides=stride,
        padding="same",
        use_bias=False,
        kernel_initializer="he_normal",
        name=name,
    )(x)


def _basic_block(x, width: int, stride: int, name: str):
    """Two 3x3 convolutions around a shortcut: `(batch, height, width, channels)` in and out."""
    shortcut = x
    x = _conv(x, width, 3, stride, f"{name}_conv1")
    x = layers.ReLU(name=f"{name}_relu1")(_batch_norm(x, f"{name}_norm1"))
    x = _batch_norm(_conv(x, width, 3, 1, f"{name}_conv2"), f"{name}_norm2")
    if stride > 1:
        shortcut = layers.AveragePooling2D(stride, padding="same", name=f"{name}_shortcut_pool")(shortcut)
    if shortcut.shape[-1] != width:
        shortcut = _conv(shortcut, width, 1, 1, f"{name}_shortcut_conv")
        shortcut = _batch_norm(shortcut, f"{name}_shortcut_norm")
    return layers.ReLU(name=f"{name}_relu2")(layers.Add(name=f"{name}_add")([x, shortcut]))


# ---- backbone ----------------------------------------------------------------------------------------------


@keras.saving.register_keras_serializable(package="music_zoo")
class ResNet(Backbone):
    """Residual network over a log-mel image of any number of frames.

    Args:
        n_mels: Mel bands of the input.
        stem_width: Channels after the 5x5 stem, which halves both axes.
        widths: Channels of each stage. Every stage but the first halves both axes.
        blocks: Basic blocks in each stage.
        name: Name of the model.

    Input `(batch, n_mels, frames)`, output `(batch, ceil(n_mels / 2**s), ceil(frames / 2**s), widths[-1])`
    with `s` the number of stages.

    Raises:
        ValueError: `widths` and `blocks` differ in length.
    """

    def __init__(
        self,
        n_mels: int = 128,
        stem_width: int = 24,
        widths: tuple[int, ...] = (24, 48, 96),
        blocks: tuple[int, ...] = (2, 2, 2),
        name: str = "resnet",
    ):
        if len(widths) != len(blocks):
            raise ValueError(
                f"ResNet: `widths` and `blocks` need one number per stage, got {len(widths)} widths "
                f"{tuple(widths)} and {len(blocks)} blocks {tuple(blocks)}."
            )
        features = keras.Input((n_mels, None), name="features")
        x = layers.Reshape((n_mels, -1, 1), name="as_image")(features)
        x = _conv(x, stem_width, 5, 2, "stem_conv")
        x = layers.ReLU(name="stem_relu")(_batch_norm(x, "stem_norm"))
        for stage, (width, count) in enumerate(zip(widths, blocks, strict=True)):
            for block in range(count):
                stride = 2 if stage > 0 and block == 0 else 1
                x = _basic_block(x, width, stride, f"stage{stage}_block{block}")
        super().__init__(inputs=features, outputs=x, name=name)
        self.n_mels = n_mels
        self.stem_width = stem_width
        self.widths = tuple(widths)
        self.blocks = tuple(blocks)

    def get_config(self) -> dict:
        """Return the constructor's arguments."""
        return {
            "n_mels": self.n_mels,
            "stem_width": self.stem_width,
            "widths": list(self.widths),
            "blocks": list(self.blocks),
            "name": self.name,
        }


# ---- configs -----------------------------------------------------------------------------------------------

#: Classifiers without labels and name.
CONFIGS = {
    "resnet-compact": {
        "front_end": unit_mel(44_100),
        "backbone": {"architecture": "ResNet", "config": {}},
        "task": "single_label",
        "window": 5.0,
        "pooling": "mean",
        "dropout": 0.2,
    },
}
