"""The embeddings of a data set's splits, which probes are fitted to, and a classifier made of a probe."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from music_zoo.calibration import fit_temperature
from music_zoo.calibration.checks import Task
from music_zoo.calibration.fitting import MIN_FILES
from music_zoo.classifier import Classifier
from music_zoo.datasets import AudioDataset, LogMelDataset, dequantize
from music_zoo.errors import DatasetError, MusicZooError
from music_zoo.evaluation.evaluate import check_features
from music_zoo.evaluation.probes import Probe

#: Recordings that become floats at once.
CHUNK = 512


@dataclass(frozen=True, eq=False)
class Embedded:
    """The embeddings of a split.

    Attributes:
        windows: Of each file, `(windows, embedding_dim)`.
        targets: Of each file.
        skipped: Why, of each file that could not be used.
    """

    windows: tuple[np.ndarray, ...]
    targets: np.ndarray
    skipped: tuple[str, ...] = ()

    @property
    def features(self) -> np.ndarray:
        """The mean over windows, `(files, embedding_dim)`."""
        return np.stack([windows.mean(axis=0) for windows in self.windows])


def task_of(dataset: LogMelDataset | AudioDataset) -> Task:
    """Return the task of a data set's targets."""
    return getattr(dataset, "task", "single_label")


def embed_split(
    classifier: Classifier,
    dataset: LogMelDataset | AudioDataset,
    split: str,
    progress: Callable[[int, int], None] | None = None,
    most: int | None = None,
) -> Embedded:
    """Return the embeddings of a split.

    Args:
        classifier: Of stored features, one with the front end that made them.
        dataset: Stored features or audio files, with labels.
        split: Its name.
        progress: Called with the numbers of files done and to do.
        most: Take no more files than this, drawn at random, always the same.

    Raises:
        DatasetError: No such split or no labels, features of another front end, or no file can be used.
    """
    stored = isinstance(dataset, LogMelDataset)
    if stored:
        check_features(classifier, dataset)
    examples = dataset.split(split)
    if examples.targets is None:
        raise DatasetError(f"{dataset.name} has no labels for the split {split!r}.")
    rows = np.arange(len(examples.ids))
    if most is not None and len(rows) > most:
        rows = np.sort(np.random.default_rng(0).permutation(rows)[:most])
    if stored:
        embed = classifier.view("features", "embedding")
        windows = []
        for start in range(0, len(rows), CHUNK):
            images = dequantize(examples.features[rows[start : start + CHUNK]])
            windows.extend(embed.predict(images, batch_size=64, verbose=0)[:, np.newaxis])
            if progress:
                progress(len(windows), len(rows))
        return Embedded(tuple(windows), examples.targets[rows])
    results = []
    for result in classifier.infer([examples.paths[row] for row in rows], "embedding"):
        results.append(result)
        if progress:
            progress(len(results), len(rows))
    usable = [not isinstance(result, MusicZooError) for result in results]
    skipped = tuple(str(result) for result in results if isinstance(result, MusicZooError))
    if not any(usable):
        raise DatasetError(f"{dataset.name}: no file of {split} could be used. First: {skipped[0]}")
    windows = tuple(result.outputs for result, use in zip(results, usable, strict=True) if use)
    return Embedded(windows, examples.targets[rows[usable]], skipped)


def probed_classifier(
    classifier: Classifier,
    probe: Probe,
    labels: tuple[str, ...],
    task: Task,
    name: str,
    validation: Embedded | None = None,
) -> Classifier:
    """Return a classifier whose head is a linear probe: for one window, its logits are the probe's.

    Args:
        classifier: On whose embeddings the probe was fitted. Its parts before the head are shared.
        probe: Of kind `"linear"`.
        labels: Of the probe's classes.
        task: The probe's.
        name: Of the new classifier.
        validation: What to fit the temperature to, if it holds files enough.

    Raises:
        ValueError: A probe that is no dense layer, or not of these labels.
    """
    if len(labels) != probe.num_classes:
        raise ValueError(f"The probe knows {probe.num_classes} classes, there are {len(labels)} labels.")
    kernel, bias = probe.dense()
    own = {"labels": labels, "task": task, "name": name, "calibrator": None}
    trained = {"front_end": classifier.front_end, "backbone": classifier.backbone}
    result = Classifier(**classifier.get_config() | own | trained)
    result.set_tensors({"head.kernel": kernel, "head.bias": bias}, parts=["head"])
    if validation is not None and len(validation.windows) >= MIN_FILES:
        logits = [windows @ kernel + bias for windows in validation.windows]
        result.calibrator.temperature.assign(fit_temperature(logits, validation.targets, task))
    return result
