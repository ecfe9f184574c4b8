"""The classifier: front end, backbone, pooling, head and calibrator as one model that takes audio."""

from collections.abc import Mapping, Sequence

import keras

from music_zoo.audio_model import AudioModel
from music_zoo.calibration.base import Calibrator
from music_zoo.calibration.calibrators import calibration, calibrator_config, calibrator_from_config
from music_zoo.layers import FrontEnd, GlobalPooling
from music_zoo.models import BACKBONES, Backbone
from music_zoo.task_model import TASKS


@keras.saving.register_keras_serializable(package="music_zoo")
class Classifier(AudioModel):
    """Audio in, calibrated probabilities out.

    A functional model from a batch of windows of waveform, `(batch, window)` float32, mono, at
    `front_end.sample_rate`, to probabilities `(batch, num_classes)`. Compile and `fit` it like any Keras
    model. `classify` and `embed` take files and arrays of any length and do all that lies before and after
    the network. To train only the head, set `classifier.backbone.trainable = False` before `compile`; the
    backbone's batch normalisation then keeps its statistics.

    Args:
        front_end: Waveform to features.
        backbone: Features to feature map.
        labels: One name per class, in the order of the outputs.
        task: `"single_label"` (softmax) or `"multi_label"` (sigmoid).
        window: Length of a window in seconds.
        pooling: `"mean"`, `"max"`, `"mean_max"`, or `"none"` where the backbone gives the embedding, see
            `music_zoo.layers.GlobalPooling`.
        dropout: Rate before the head, while training.
        calibrator: One of `music_zoo.calibration.CALIBRATORS`; a temperature of 1 if None.
        name: Name of the model.

    Attributes:
        front_end, backbone, pooling, head, calibrator: The parts, in the order of the data.
        labels: Tuple of label names.
        sample_rate: Of the waveform, in Hz.
        window: In seconds.
        window_samples: The same in samples.

    Raises:
        ValueError: A setting that cannot be: an unknown task, no or repeated labels, a window too short for
            the front end.
    """

    kind = "classifier"

    def __init__(
        self,
        front_end: FrontEnd,
        backbone: Backbone,
        labels: Sequence[str],
        *,
        task: str = "single_label",
        window: float,
        pooling: str = "mean",
        dropout: float = 0.0,
        calibrator: Calibrator | None = None,
        name: str = "classifier",
    ):
        labels = (labels,) if isinstance(labels, str) else tuple(labels)  # no string is a list of letters
        _check_settings(front_end, labels, task, window)
        pool = GlobalPooling(
            pooling, dtype="float32"
        )  # embeddings keep their digits under mixed precision, too
        drop = keras.layers.Dropout(dropout, name="dropout")
        head = keras.layers.Dense(len(labels), dtype="float32", name="head")
        calibrate = calibration(calibrator, task, len(labels))
        activation = keras.layers.Activation(TASKS[task], dtype="float32", name="probabilities")

        def network(features) -> dict:
            embedding = pool(backbone(features))
            logits = head(drop(embedding))
            return {
                "embedding": embedding,
                "logits": logits,
                "probabilities": activation(calibrate(logits)),
            }

        super().__init__(
            front_end,
            network,
            backbone.input_shape[1:],
            calibration=calibrate,
            labels=labels,
            task=task,
            window=window,
            xla_on_tensorflow=backbone.xla_on_tensorflow,
            name=name,
        )
        self.backbone = backbone
        self.pooling = pool
        self.head = head
        self.dropout = dropout

    @property
    def architecture(self) -> str:
        """Name of the backbone's class."""
        return type(self.backbone).__name__

    @property
    def _parts(self) -> dict[str, keras.layers.Layer]:
        return {name: getattr(self, name) for name in ("front_end", "backbone", "head", "calibrator")}

    def with_labels(self, labels: Sequence[str], task: str | None = None) -> "Classifier":
        """Return a classifier that shares front end and backbone, with a fresh head and calibrator.

        Args:
            labels: Names of the classes.
            task: That of this classifier if None.

        Raises:
            ValueError: Labels or a task that a classifier cannot have.
        """
        own = {"labels": labels, "task": task or self.task, "calibrator": None}
        return Classifier(
            **self.get_config() | own | {"front_end": self.front_end, "backbone": self.backbone}
        )

    def get_config(self) -> dict:
        """Return a description in plain JSON from which `from_config` builds the same network."""
        return {
            "front_end": self.front_end.get_config(),
            "backbone": {"architecture": self.architecture, "config": self.backbone.get_config()},
            "labels": list(self.labels),
            "task": self.task,
            "window": self.window,
            "pooling": self.pooling.mode,
            "dropout": self.dropout,
            **calibrator_config(self.calibrator),
            "name": self.name,
        }

    @classmethod
    def from_config(cls, config: Mapping, custom_objects=None) -> "Classifier":
        """Build an untrained classifier from what `get_config` returned.

        Only layers and backbones of this package can be named.

        Raises:
            ValueError: An unknown architecture or layer.
        """
        config = dict(config)
        backbone = config.pop("backbone")
        if backbone["architecture"] not in BACKBONES:
            raise ValueError(
                f"Unknown architecture {backbone['architecture']!r}; expected one of {', '.join(BACKBONES)}."
            )
        return cls(
            front_end=FrontEnd.from_config(config.pop("front_end")),
            backbone=BACKBONES[backbone["architecture"]].from_config(backbone["config"]),
            calibrator=calibrator_from_config(config.pop("calibrator", None)),
            **config,
        )


def _check_settings(front_end: FrontEnd, labels: tuple[str, ...], task: str, window: float) -> None:
    if task not in TASKS:
        raise ValueError(f"`task` must be one of {', '.join(TASKS)}, got {task!r}.")
    if unnamed := [label for label in labels if not isinstance(label, str)]:
        raise ValueError(f"Labels are names, texts; got {unnamed[:3]}.")
    if len(labels) < (2 if task == "single_label" else 1):
        raise ValueError(f"A {task} classifier needs more labels than {len(labels)}: {list(labels)}.")
    repeated = sorted({label for label in labels if labels.count(label) > 1})
    if repeated:
        raise ValueError(f"Labels must differ from each other; repeated: {repeated}.")
    if not front_end.min_samples <= window * front_end.sample_rate < float("inf"):
        raise ValueError(
            f"A window must hold at least the {front_end.min_samples} samples that the front end needs at "
            f"{front_end.sample_rate} Hz, got {window} s."
        )
