"""The embeddings of a data set's splits, which probes are fitted to, and a classifier made of a probe."""

from collections.abc import Callable

import numpy as np

from music_zoo.calibration import fit_temperature
from music_zoo.calibration.checks import Task
from music_zoo.calibration.fitting import MIN_FILES
from music_zoo.classifier import Classifier
from music_zoo.datasets import AudioDataset, LogMelDataset
from music_zoo.errors import DatasetError
from music_zoo.evaluation.probes import Probe
from music_zoo.evaluation.split_outputs import SplitOutputs, check_features, groups_of, run_recordings


def task_of(dataset: LogMelDataset | AudioDataset) -> Task:
    """Return the task of a data set's targets."""
    return getattr(dataset, "task", "single_label")


def embed_split(
    classifier: Classifier,
    dataset: LogMelDataset | AudioDataset,
    split: str,
    progress: Callable[[int, int], None] | None = None,
    most: int | None = None,
) -> SplitOutputs:
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
    examples = dataset.split(split)
    if examples.targets is None:
        raise DatasetError(f"{dataset.name} has no labels for the split {split!r}.")
    rows = np.arange(len(examples.ids))
    if most is not None:
        rows = np.sort(np.random.default_rng(0).permutation(rows)[:most])
    if isinstance(dataset, LogMelDataset):
        check_features(classifier, dataset)
        recordings = examples.features if most is None else examples.features[rows]  # a memory map, or a copy
    else:
        recordings = [examples.paths[row] for row in rows]
    groups = groups_of(dataset, split)
    return run_recordings(
        classifier,
        dataset.name,
        recordings,
        examples.targets[rows],
        "embedding",
        progress,
        None if groups is None else groups[rows],
    )


def probed_classifier(
    classifier: Classifier,
    probe: Probe,
    labels: tuple[str, ...],
    task: Task,
    name: str,
    validation: SplitOutputs | None = None,
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
