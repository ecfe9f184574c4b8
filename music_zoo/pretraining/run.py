"""One run of pretraining, from settings and data to a preset: what `music-zoo pretrain` does."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from math import ceil, inf
from pathlib import Path
from typing import Any

import keras
import numpy as np

from music_zoo.audio import load as load_audio
from music_zoo.audio import probe
from music_zoo.calibration.checks import Task
from music_zoo.classifier import Classifier
from music_zoo.datasets import AudioDataset, LogMelDataset
from music_zoo.datasets.batches import Batches, ImageBatches, WaveformBatches
from music_zoo.datasets.streaming import AudioBatches
from music_zoo.errors import AudioError, PretrainingError
from music_zoo.layers.augmentation import CHAINS, TwoSegments, clmr
from music_zoo.layers.front_end import FrontEnd
from music_zoo.pretraining import METHODS, Pretrainer, TwoViews
from music_zoo.pretraining.callbacks import Lines, NeighbourScore, can_score
from music_zoo.pretraining.checkpoints import Checkpoint
from music_zoo.pretraining.schedules import warmup_cosine
from music_zoo.pretraining.settings import Precision, Settings, named_config, resolved
from music_zoo.zoo import load

#: The one label of a preset whose head is untrained. Load it with labels of your own.
UNTRAINED = "untrained"

#: Weights that decay would only hurt.
NO_DECAY = ["bias", "gamma", "beta", "bias_table", "table"]

#: Audio that takes no more bytes than this, as 16-bit floats, is decoded once and kept.
MEMORY = 1_000_000_000

#: More files than this are not even asked for their length.
MANY_FILES = 20_000


def pretrain(
    settings: Settings,
    dataset: LogMelDataset | AudioDataset,
    output: Path,
    say: Callable[[str], None] = print,
    callbacks: tuple[keras.callbacks.Callback, ...] = (),
) -> Classifier:
    """Train an encoder without labels; take up a run that was interrupted; write a preset.

    Args:
        settings: Of the run.
        dataset: Stored features or audio, of which the training split is used, without labels. The labels
            serve only the kNN accuracy on the validation split, by which a person may follow the run.
        output: Folder for `checkpoint.safetensors`, `log.csv` and `preset/`.
        say: Given a line of progress after each epoch.
        callbacks: More of them.

    Returns:
        The encoder as a classifier with one label, `UNTRAINED`: `music_zoo.load(output / "preset",
        labels=[...])` gives it a head.

    Raises:
        PretrainingError: Settings that cannot be, a loss that is not finite, a damaged checkpoint.
        DatasetError: Recordings shorter than two segments, or too few that can be read.
        OSError: A full disk. The last checkpoint is kept.
    """
    settings = resolved(settings, dataset)
    checkpoint = Checkpoint(output, settings.model_dump() | {"data": dataset.name})
    preset = output / "preset"
    if preset.is_dir() and checkpoint.epochs() >= settings.epochs:
        say(f"{output} holds this run already, finished; nothing is left to do")
        return load(preset)

    def encoder() -> Classifier:
        return new_classifier(
            settings.encoder,
            dataset,
            output.name,
            settings.encoder_options,
            sample_rate=settings.sample_rate,
            window=settings.segment,
        )

    with dtype_policy(settings.precision), ExitStack() as stack:
        keras.utils.set_random_seed(settings.seed)
        classifier = encoder()
        try:
            batches = _batches(settings, dataset, say, stack)
        except ValueError as error:  # too few recordings
            raise PretrainingError(f"{dataset.name}: {error}") from error
        trainer = _new_trainer(settings, classifier, dataset, len(batches))
        epoch = batches.epoch = checkpoint.restore(trainer, say)
        if epoch:
            say(f"taking up {output} after epoch {epoch} of {settings.epochs}")
        output.mkdir(parents=True, exist_ok=True)
        is_scored = settings.knn_every and can_score(dataset)
        watch = [NeighbourScore(classifier, dataset, settings.knn_every)] if is_scored else []
        if epoch < settings.epochs:
            trainer.fit(
                batches,
                epochs=settings.epochs,
                initial_epoch=epoch,
                shuffle=False,  # the batches are drawn at random already
                callbacks=[*watch, checkpoint, Lines(say), *callbacks],
                verbose=0,
            )
    if settings.precision != "float32":  # presets compute in float32
        tensors, classifier = classifier.tensors(), encoder()
        classifier.set_tensors(tensors)
    classifier.save_preset(preset)
    say(f"wrote {preset}")
    return classifier


def new_classifier(
    encoder: str,
    dataset: LogMelDataset | AudioDataset,
    name: str,
    backbone_options: dict | None = None,
    *,
    labels: Sequence[str] = (UNTRAINED,),
    task: Task = "multi_label",  # of which one label is enough
    sample_rate: int | None = None,
    window: float | None = None,
) -> Classifier:
    """Return an untrained classifier of a named configuration: of stored features, with their front end.

    Args:
        encoder: Name of the configuration.
        dataset: What it shall learn from.
        name: Of the classifier.
        backbone_options: Settings that differ from the configuration's.
        labels: Of the classifier.
        task: Of the classifier.
        sample_rate: Of audio, in Hz; None: the configuration's.
        window: Of audio, in seconds; None: the configuration's.

    Raises:
        PretrainingError: No such configuration or option, or one that takes waveforms for stored features.
    """
    config = named_config(encoder)
    front_end, seconds = config["front_end"], window or config["window"]
    if isinstance(dataset, LogMelDataset):
        if not front_end["layers"]:
            raise PretrainingError(f"{encoder} listens to waveforms; {dataset.name} holds spectrograms.")
        front_end, seconds = FrontEnd.from_config(dataset.front_end).get_config(), dataset.seconds
    elif sample_rate is not None:
        front_end = _at_rate(front_end, sample_rate)
    backbone = config["backbone"] | {"config": config["backbone"]["config"] | (backbone_options or {})}
    own = {"front_end": front_end, "backbone": backbone, "window": seconds}
    try:
        return Classifier.from_config(config | own | {"task": task, "labels": list(labels), "name": name})
    except (TypeError, ValueError) as error:
        raise PretrainingError(f"{encoder} with {backbone_options or 'its settings'}: {error}") from error


def _at_rate(front_end: Mapping, sample_rate: int) -> dict:
    """Return the config of a front end for another sample rate."""
    layers = [dict(layer) for layer in front_end["layers"]]
    for layer in layers:
        if "sample_rate" in layer.get("config", {}):
            layer["config"] = layer["config"] | {"sample_rate": sample_rate}
    return dict(front_end) | {"sample_rate": sample_rate, "layers": layers}


def _batches(
    settings: Settings, dataset: LogMelDataset | AudioDataset, say: Callable[[str], None], stack: ExitStack
) -> Batches:
    """Return the clips of the training split, in memory if they fit."""
    train = dataset.split("train")
    if isinstance(dataset, LogMelDataset):
        return ImageBatches(train.features, settings.batch_size, settings.seed)
    rate = settings.sample_rate
    if 2 * rate * _seconds_of(train.paths) <= MEMORY:
        say(f"decoding {len(train.paths)} files, which fit into memory")
        recordings = list(_decoded(train.paths, rate, say))
        return WaveformBatches(recordings, settings.batch_size, round(settings.clip * rate), settings.seed)
    batches = AudioBatches(train, settings.batch_size, settings.clip, rate, settings.seed, unlabelled=True)
    return stack.enter_context(batches)


def _seconds_of(paths: Sequence[Path]) -> float:
    """Return the length of all files, infinite if it is not known."""
    if len(paths) > MANY_FILES:
        return inf
    total = 0.0
    for path in paths:
        with suppress(AudioError):  # what cannot be read takes no memory
            total += probe(path).duration or inf
    return total


def _decoded(paths: Sequence[Path], rate: int, say: Callable[[str], None]) -> Iterator[np.ndarray]:
    def decode(path: Path) -> np.ndarray | str:
        try:
            return load_audio(path, rate)[0].astype(np.float16)
        except (AudioError, OSError) as error:
            return str(error)

    with ThreadPoolExecutor(2) as pool:
        for audio in pool.map(decode, paths):
            if isinstance(audio, str):
                say(f"left out: {audio}")
            else:
                yield audio


def _new_trainer(
    settings: Settings, classifier: Classifier, dataset: LogMelDataset | AudioDataset, steps_per_epoch: int
) -> Pretrainer:
    """Return the method around the encoder, compiled."""
    seeds = [int(state >> 1) for state in np.random.SeedSequence(settings.seed).generate_state(3)]
    chain = CHAINS[settings.augmentation]
    if isinstance(dataset, LogMelDataset):
        rate = dataset.features.shape[2] / dataset.seconds
        ends, steps = ("features", "embedding"), [chain(seed=seeds[1])]
    else:
        rate = settings.sample_rate
        steps = [chain(rate, seed=seeds[1])] if chain is clmr else [chain(seed=seeds[1])]
        front_end = classifier.front_end
        ends = ("features" if front_end.layers else "waveform", "embedding")
        if front_end.layers:
            steps = [*steps, front_end] if chain is clmr else [front_end, *steps]
    encoder = classifier.view(*ends)
    length, clip = round(settings.segment * rate), round((settings.clip or 0) * rate)
    length = classifier.window_samples if clip else length
    distance = max(-length, min(round(settings.distance * rate), clip - 2 * length if clip else inf))
    views = TwoViews(TwoSegments(length, distance, seed=seeds[0]), steps)
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
    # On TensorFlow, XLA makes the augmentations of waveforms three times as slow (its random numbers do).
    slow = chain is clmr and keras.config.backend() == "tensorflow"
    compile_for(trainer, settings, steps_per_epoch, jit_compile=encoder.jit_compile and not slow)
    return trainer


def compile_for(trainer: keras.Model, settings: Any, steps_per_epoch: int, **options) -> None:
    """Compile with AdamW on a warm-up and a cosine, ready for a checkpoint.

    Args:
        trainer: What is trained.
        settings: With epochs, learning_rate, warmup_epochs, weight_decay and clip_norm.
        steps_per_epoch: Batches of an epoch.
        **options: Of `compile`.
    """
    total = steps_per_epoch * settings.epochs
    warmup = min(round(settings.warmup_epochs * steps_per_epoch), total - 1)
    optimizer = keras.optimizers.AdamW(
        warmup_cosine(settings.learning_rate, total, warmup),
        weight_decay=settings.weight_decay,
        clipnorm=settings.clip_norm,
    )
    optimizer.exclude_from_weight_decay(var_names=NO_DECAY)
    trainer.compile(optimizer, **options)
    trainer.optimizer.build(trainer.trainable_variables)  # so that a checkpoint finds its places


@contextmanager
def dtype_policy(precision: Precision) -> Iterator[None]:
    """Set Keras' dtype policy for a while."""
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(precision)
    try:
        yield
    finally:
        keras.config.set_dtype_policy(before)
