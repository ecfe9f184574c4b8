"""One run of a noisy student on stored log-mels: what `music-zoo distill` does."""

from collections.abc import Callable
from pathlib import Path

import keras
import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from music_zoo.calibration import fit_temperature
from music_zoo.calibration.fitting import MIN_FILES
from music_zoo.classifier import Classifier
from music_zoo.datasets import LogMelDataset, dequantize
from music_zoo.datasets.batches import ImageBatches
from music_zoo.errors import DatasetError, PretrainingError
from music_zoo.evaluation.split_outputs import check_features, targets_of
from music_zoo.layers.augmentation import s3t
from music_zoo.pretraining.callbacks import Lines
from music_zoo.pretraining.checkpoints import Checkpoint
from music_zoo.pretraining.noisy_student import Halves, NoisyStudent
from music_zoo.pretraining.run import compile_for, dtype_policy, new_classifier
from music_zoo.pretraining.settings import Precision
from music_zoo.zoo import load


class DistillSettings(BaseModel):
    """All that decides a run, but for teacher and data.

    Attributes:
        student: Name of a configuration, see `music_zoo.models.named_configs`.
        student_options: Settings of the backbone that differ from its configuration's.
        weight: Of the teacher's labels; that of the true ones is 1.
        epochs, batch_size, seed: Of the training; a batch has as many examples without labels besides.
        learning_rate: The largest; it rises over `warmup_epochs` and falls to 0 on a cosine.
        weight_decay, clip_norm: Of AdamW.
        precision: Keras' dtype policy.
    """

    model_config = ConfigDict(extra="forbid")

    student: str
    student_options: dict = {}
    weight: float = Field(1.0, ge=0)
    epochs: int = Field(30, gt=0)
    batch_size: int = Field(32, gt=0)
    learning_rate: float = Field(1e-3, gt=0)
    warmup_epochs: float = Field(1.0, ge=0)
    weight_decay: float = Field(0.05, ge=0)
    clip_norm: float = Field(3.0, gt=0)
    precision: Precision = "float32"
    seed: int = 0


def distill(
    settings: DistillSettings,
    teacher: Classifier,
    dataset: LogMelDataset,
    output: Path,
    unlabelled: LogMelDataset | None = None,
    say: Callable[[str], None] = print,
    callbacks: tuple[keras.callbacks.Callback, ...] = (),
) -> Classifier:
    """Train a student by labels and by a teacher; take up a run that was interrupted; write a preset.

    The student sees the chain `s3t` of augmentations. Its temperature is fitted on the validation split.

    Args:
        settings: Of the run.
        teacher: A classifier with labels of the data set.
        dataset: Stored features of the teacher's front end.
        output: Folder for `checkpoint.safetensors`, `log.csv` and `preset/`.
        unlabelled: More features of the same front end, of which the training split is used without labels;
            None: the training split of the data set itself.
        say: Given a line of progress after each epoch.
        callbacks: More of them.

    Returns:
        The student, calibrated.

    Raises:
        DatasetError: Labels or features that are not the teacher's.
        PretrainingError: Settings that cannot be, a loss that is not finite, a damaged checkpoint.
        OSError: A full disk. The last checkpoint is kept.
    """
    unlabelled = dataset if unlabelled is None else unlabelled
    for one in (dataset, unlabelled):
        if not isinstance(one, LogMelDataset):
            raise DatasetError(f"A student learns from stored log-mels; {one.name} holds audio.")
        check_features(teacher, one)
    train, validation = (dataset.split(name).features for name in ("train", "validation"))
    targets, validation_targets = (targets_of(teacher, dataset, name) for name in ("train", "validation"))
    about = {"teacher": teacher.name, "data": dataset.name, "unlabelled": unlabelled.name}
    checkpoint = Checkpoint(output, settings.model_dump() | about)
    preset = output / "preset"
    if preset.is_dir() and checkpoint.epochs() >= settings.epochs:
        say(f"{output} holds this run already, finished; nothing is left to do")
        return load(preset)

    def new_student() -> Classifier:
        return new_classifier(
            settings.student,
            dataset,
            output.name,
            settings.student_options,
            labels=teacher.labels,
            task=teacher.task,
        )

    with dtype_policy(settings.precision):
        keras.utils.set_random_seed(settings.seed)
        student = new_student()
        seeds = [int(state >> 1) for state in np.random.SeedSequence(settings.seed).generate_state(2)]
        try:
            batches = Halves(
                ImageBatches(train, settings.batch_size, settings.seed, targets),
                ImageBatches(unlabelled.split("train").features, settings.batch_size, seeds[0]),
            )
        except ValueError as error:  # too few recordings
            raise PretrainingError(f"{dataset.name}: {error}") from error
        trainer = NoisyStudent(
            student.view("features", "logits"),
            teacher.view("features", "logits"),
            s3t(seed=seeds[1]),
            teacher.task,
            settings.weight,
        )
        compile_for(trainer, settings, len(batches), jit_compile=student.jit_compile)
        epoch = batches.epoch = checkpoint.restore(trainer, say)
        if epoch:
            say(f"taking up {output} after epoch {epoch} of {settings.epochs}")
        output.mkdir(parents=True, exist_ok=True)
        validation = dequantize(validation)
        if epoch < settings.epochs:
            trainer.fit(
                batches,
                epochs=settings.epochs,
                initial_epoch=epoch,
                shuffle=False,  # the batches are drawn at random already
                validation_data=(validation, validation_targets),
                callbacks=[checkpoint, Lines(say), *callbacks],
                verbose=0,
            )
    if settings.precision != "float32":  # presets compute in float32
        tensors, student = student.tensors(), new_student()
        student.set_tensors(tensors)
    if len(validation) >= MIN_FILES:
        logits = student.view("features", "logits").predict(validation, batch_size=64, verbose=0)
        student.calibrator.temperature.assign(fit_temperature(logits, validation_targets, teacher.task))
    student.save_preset(preset)
    say(f"wrote {preset}")
    return student
