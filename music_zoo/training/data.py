"""The data of a recipe: opened, its features computed, cut down for a rehearsal."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np

from music_zoo.calibration.fitting import MIN_FILES
from music_zoo.datasets import AudioDataset, AudioSplit, LogMelDataset, compute_log_mels, open_splits
from music_zoo.datasets.log_mel import FRONT_ENDS
from music_zoo.errors import DatasetError
from music_zoo.layers import FrontEnd
from music_zoo.pretraining.settings import named_config
from music_zoo.training.recipe import Recipe

Dataset = LogMelDataset | AudioDataset
Say = Callable[[str], None]


def open_data(recipe: Recipe, folder: Path, output: Path, say: Say, most: int | None = None) -> Dataset:
    """Return the data set of a recipe; features of audio are computed once, and kept.

    Raises:
        DatasetError: Another data set, or one that is incomplete.
    """
    dataset = open_splits(folder)
    if dataset.name != recipe.data and not dataset.name.startswith(f"{recipe.data}-"):
        raise DatasetError(f"{recipe.preset} learns from {recipe.data}; {folder} holds {dataset.name}.")
    if most is not None:
        dataset = few(dataset, most)
    own = named_config(recipe.encoder)["front_end"]["layers"]
    front_end = recipe.front_end or FRONT_ENDS.get(dataset.name)
    if isinstance(dataset, LogMelDataset) or not (own and front_end):
        return dataset
    kept = output / "features"
    say(f"features of {dataset.name}, kept in {kept}")
    return compute_log_mels(dataset, FrontEnd.from_config(front_end), recipe.seconds, kept)


def few(dataset: Dataset, most: int) -> Dataset:
    """Return a data set with so many recordings of each label in a split, or enough to be calibrated on."""

    def chosen(targets: np.ndarray) -> np.ndarray:
        keys = targets if targets.ndim == 1 else targets.argmax(axis=1)
        keys, rank = np.asarray(keys), np.empty(len(keys), int)
        for key in np.unique(keys):
            rank[keys == key] = np.arange(np.sum(keys == key))
        count = max(most, -(-MIN_FILES // len(np.unique(keys))))
        return np.flatnonzero(rank < count)

    if isinstance(dataset, LogMelDataset):
        splits = np.full_like(dataset.splits, "")
        for name in ("train", "validation"):
            rows = np.flatnonzero(dataset.splits == name)
            splits[rows[chosen(dataset.targets[rows])]] = name
        return replace(dataset, splits=splits)
    parts = {}
    for name in ("train", "validation"):
        paths, targets, ids = dataset.split(name)
        rows = chosen(targets)
        parts[name] = AudioSplit(tuple(paths[r] for r in rows), targets[rows], tuple(ids[r] for r in rows))
    return AudioDataset(
        dataset.name,
        dataset.root,
        dataset.labels,
        dataset.task,
        parts,
        archive="the files",
        tags=dataset.tags,
    )


def frequent_tags(dataset: Dataset, least: int) -> tuple[str, ...]:
    """Return the sorted names of the tags that so many training recordings have, but not all of them.

    Raises:
        DatasetError: There are none.
    """
    every = dataset.tag_names
    counts = dataset.tag_targets("train", every).sum(axis=0) if every else np.zeros(0)
    total = len(dataset.split("train").ids)
    names = tuple(name for name, count in zip(every, counts, strict=True) if least <= count < total)
    if not names:
        raise DatasetError(f"{dataset.name} has no tag that {least} training recordings have, but not all.")
    return names
