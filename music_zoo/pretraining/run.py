"""One run of pretraining, from settings and data to a preset: what `music-zoo pretrain` does."""

import time
from collections.abc import Callable, Mapping
from math import ceil
from pathlib import Path
from typing import Any, Literal

import keras
import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from music_zoo.classifier import Classifier
from music_zoo.datasets import LogMelDataset, dequantize
from music_zoo.datasets.batches import ImageBatches
from music_zoo.errors import DatasetError, PretrainingError
from music_zoo.evaluation import fit_probe
from music_zoo.layers.augmentation import CHAINS, TwoSegments
from music_zoo.layers.front_end import FrontEnd
from music_zoo.models import named_configs
from music_zoo.pretraining import METHODS, Pretrainer, TwoViews
from music_zoo.pretraining.checkpoints import Checkpoint
from music_zoo.pretraining.schedules import warmup_cosine

#: The one label of a preset whose head is untrained. Load it with labels of your own.
UNTRAINED = "untrained"

#: Weights that decay would only hurt.
NO_DECAY = ["bias", "gamma", "beta", "bias_table", "table"]

#: Tracks of the training split that the periodic kNN accuracy looks at, at most.
KNN_TRACKS = 2000


class Settings(BaseModel):
    """All that decides a run, but for the data; what a configuration file may hold.

    Attributes:
        method: Name of one of `music_zoo.pretraining.METHODS`.
        encoder: Name of a configuration, see `music_zoo.models.named_configs`.
        method_options: Arguments of the method's class.
        encoder_options: Settings of the backbone that differ from its configuration's.
        augmentation: Name of one of `music_zoo.layers.augmentation.CHAINS`.
        segment: Length of a view in seconds.
        distance: Seconds from the end of one view to the start of the other, at the least; negative: overlap.
        epochs, batch_size, seed: Of the training.
        learning_rate: The largest; it rises over `warmup_epochs` and falls to 0 on a cosine.
        weight_decay, clip_norm: Of AdamW.
        precision: Keras' dtype policy.
        knn_every: Epochs from one kNN accuracy to the next, where the data have labels; 0: none.
    """

    model_config = ConfigDict(extra="forbid")

    method: Literal[tuple(METHODS)]
    encoder: str = "swin-compact"
    method_options: dict[str, Any] = {}
    encoder_options: dict[str, Any] = {}
    augmentation: Literal[tuple(CHAINS)] = "s3t"
    segment: float = Field(10.0, gt=0)
    distance: float = 0.0
    epochs: int = Field(20, gt=0)
    batch_size: int = Field(64, gt=1)
    learning_rate: float = Field(1e-3, gt=0)
    warmup_epochs: float = Field(1.0, ge=0)
    weight_decay: float = Field(0.05, ge=0)
    clip_norm: float = Field(3.0, gt=0)
    precision: Literal["float32", "mixed_bfloat16", "mixed_float16"] = "float32"
    knn_every: int = Field(5, ge=0)
    seed: int = 0


def settings_of(values: Mapping[str, Any]) -> Settings:
    """Return settings, checked.

    Raises:
        PretrainingError: Settings that there are not, or of values that cannot be; the message names each.
    """
    known = Settings.model_fields
    if unknown := [str(name) for name in values if name not in known]:
        raise PretrainingError(
            f"There is no setting {', '.join(map(repr, unknown))}; expected some of {', '.join(known)}."
        )
    try:
        return Settings(**values)
    except ValidationError as error:
        wrong = [f"{'.'.join(map(str, one['loc']))}: {one['msg']}" for one in error.errors()]
        raise PretrainingError(f"Settings of the pretraining: {'; '.join(wrong)}.") from error


def pretrain(
    settings: Settings,
    dataset: LogMelDataset,
    output: Path,
    say: Callable[[str], None] = print,
    callbacks: tuple[keras.callbacks.Callback, ...] = (),
) -> Classifier:
    """Train an encoder without labels; take up a run that was interrupted; write a preset.

    Args:
        settings: Of the run.
        dataset: Stored features, of which the training split is used, without labels. The labels serve only
            the kNN accuracy on the validation split, by which a person may follow the run.
        output: Folder for `checkpoint.safetensors`, `log.csv` and `preset/`.
        say: Given a line of progress after each epoch.
        callbacks: More of them.

    Returns:
        The encoder as a classifier with one label, `UNTRAINED`: `music_zoo.load(output / "preset",
        labels=[...])` gives it a head.

    Raises:
        PretrainingError: Settings that cannot be, a loss that is not finite, a damaged checkpoint.
        DatasetError: Recordings shorter than two segments.
        OSError: A full disk. The last checkpoint is kept.
    """
    keras.config.set_dtype_policy(settings.precision)
    keras.utils.set_random_seed(settings.seed)
    classifier = new_classifier(settings.encoder, dataset, output.name, settings.encoder_options)
    batches = ImageBatches(dataset.split("train").features, settings.batch_size, settings.seed)
    trainer = new_trainer(settings, classifier.view("features", "embedding"), dataset, len(batches))
    output.mkdir(parents=True, exist_ok=True)
    checkpoint = Checkpoint(output, settings.model_dump() | {"data": dataset.name})
    epoch = batches.epoch = checkpoint.restore(trainer, say)
    if epoch:
        say(f"taking up {output} after epoch {epoch} of {settings.epochs}")
    watch = [Score(classifier, dataset, settings.knn_every)] if settings.knn_every else []
    if epoch < settings.epochs:
        trainer.fit(
            batches,
            epochs=settings.epochs,
            initial_epoch=epoch,
            shuffle=False,  # the batches are drawn at random already
            callbacks=[*watch, checkpoint, Lines(say), *callbacks],
            verbose=0,
        )
    elif (output / "preset").is_dir():
        say(f"{output} holds this run already, finished; nothing is left to do")
        return classifier
    classifier.save_preset(output / "preset")
    say(f"wrote {output / 'preset'}")
    return classifier


def new_classifier(
    encoder: str, dataset: LogMelDataset, name: str, backbone_options: dict | None = None
) -> Classifier:
    """Return an untrained classifier of a named configuration with the front end of stored features.

    Raises:
        PretrainingError: No such configuration, or one that takes waveforms.
    """
    configs = named_configs()
    if encoder not in configs:
        raise PretrainingError(f"There is no encoder {encoder!r}; expected one of {', '.join(configs)}.")
    config = configs[encoder]
    if not config["front_end"]["layers"]:
        raise PretrainingError(f"{encoder} listens to waveforms; {dataset.name} holds spectrograms.")
    backbone = config["backbone"] | {"config": config["backbone"]["config"] | (backbone_options or {})}
    return Classifier.from_config(
        config
        | {
            "front_end": FrontEnd.from_config(dataset.front_end).get_config(),
            "backbone": backbone,
            "window": dataset.seconds,
            "task": "multi_label",  # of which one label is enough
            "labels": [UNTRAINED],
            "name": name,
        }
    )


def new_trainer(
    settings: Settings, encoder: keras.Model, dataset: LogMelDataset, steps_per_epoch: int
) -> Pretrainer:
    """Return the method around an encoder, compiled.

    Raises:
        PretrainingError: An option that the method does not have.
        DatasetError: Recordings shorter than two segments.
    """
    frames = dataset.features.shape[2]
    length, distance = (round(s / dataset.seconds * frames) for s in (settings.segment, settings.distance))
    if not 1 <= length <= 2 * length + distance <= frames:
        raise DatasetError(
            f"Two segments of {settings.segment:g} s, {settings.distance:g} s apart, do not fit into "
            f"recordings of {dataset.seconds:g} s: shorten `segment`, or lower `distance` (below 0, they "
            "overlap)."
        )
    seeds = [int(state >> 1) for state in np.random.SeedSequence(settings.seed).generate_state(3)]
    views = TwoViews(
        TwoSegments(length, distance, seed=seeds[0]), [CHAINS[settings.augmentation](seed=seeds[1])]
    )
    total = steps_per_epoch * settings.epochs
    options = dict(settings.method_options)
    if settings.method in ("byol", "clustering"):
        options.setdefault("total_steps", total)
    if settings.method == "clustering":
        options.setdefault("warmup_steps", min(10 * steps_per_epoch, ceil(total / 5)))
    if settings.method == "moco":
        options.setdefault("seed", seeds[2])
    for name in ("projection", "teacher_temperatures"):
        if name in options:
            options[name] = tuple(options[name])
    try:
        trainer = METHODS[settings.method](encoder, views, **options)
    except TypeError as error:
        raise PretrainingError(f"method_options of {settings.method}: {error}") from error
    warmup = min(round(settings.warmup_epochs * steps_per_epoch), total - 1)
    optimizer = keras.optimizers.AdamW(
        warmup_cosine(settings.learning_rate, total, warmup),
        weight_decay=settings.weight_decay,
        clipnorm=settings.clip_norm,
    )
    optimizer.exclude_from_weight_decay(var_names=NO_DECAY)
    trainer.compile(optimizer, jit_compile=encoder.jit_compile)
    trainer.optimizer.build(trainer.trainable_variables)  # so that a checkpoint finds its places
    return trainer


class Score(keras.callbacks.Callback):
    """Adds the kNN accuracy on the validation split to the logs now and then."""

    def __init__(self, classifier: Classifier, dataset: LogMelDataset, every: int):
        super().__init__()
        self.encoder = classifier.view("features", "embedding")
        self.train, self.validation = dataset.split("train"), dataset.split("validation")
        self.every = every

    def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
        """Score; NaN in the epochs between."""
        logs["knn_accuracy"] = float("nan")
        if (epoch + 1) % self.every == 0 or epoch + 1 == self.params["epochs"]:
            if hasattr(self.model, "jax_state_sync"):
                self.model.jax_state_sync()
            rows = np.random.default_rng(0).permutation(len(self.train.features))[:KNN_TRACKS]
            probe = fit_probe("knn", self._embed(self.train.features[rows]), self.train.targets[rows])
            found = probe.predict_proba(self._embed(self.validation.features)).argmax(axis=1)
            logs["knn_accuracy"] = float(np.mean(found == self.validation.targets))

    def _embed(self, features: np.ndarray) -> np.ndarray:
        return self.encoder.predict(dequantize(features), batch_size=64, verbose=0)


class Lines(keras.callbacks.Callback):
    """Says after each epoch what it brought, how fast, and how long the rest will take."""

    def __init__(self, say: Callable[[str], None]):
        super().__init__()
        self.say = say

    def on_train_begin(self, logs: dict | None = None) -> None:
        """Start the clock."""
        self.begin, self.done = time.monotonic(), 0

    def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
        """Say it."""
        self.done += 1
        seconds = (time.monotonic() - self.begin) / self.done
        left = seconds * (self.params["epochs"] - epoch - 1)
        values = "  ".join(f"{name} {value:.4f}" for name, value in (logs or {}).items() if value == value)
        rate = self.params["steps"] / seconds if self.params["steps"] else 0.0
        self.say(
            f"epoch {epoch + 1}/{self.params['epochs']}  {values}  {rate:.1f} batches/s, "
            f"{left / 60:.0f} min left"
        )
