"""Recordings as log-mel features in 8 bits: FMA-small and GTZAN as they are stored, others from their audio.

There is one uint8 image per recording, low mel bands first, made from audio by steps that the presets' front
ends repeat: see `dequantize`.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from os import PathLike
from pathlib import Path
from typing import NamedTuple

import numpy as np

from music_zoo.datasets.audio_dataset import AudioDataset, AudioSplit
from music_zoo.datasets.features import MemoryMappedFeatures, write_features
from music_zoo.datasets.files import SPLITS, check_splits, read_arrays, read_table, require_files
from music_zoo.errors import DatasetError


def _front_end(sample_rate: int, n_frames: int, trim: int) -> dict:
    """The steps from audio to features, as a config of `music_zoo.layers.FrontEnd`."""
    return {
        "sample_rate": sample_rate,
        "layers": [
            {"layer": "STFT", "config": {"n_fft": 2048, "hop_length": 512}},
            {"layer": "MelFilterBank", "config": {"sample_rate": sample_rate, "n_fft": 2048, "n_mels": 128}},
            {"layer": "Decibels", "config": {"ref": "max", "top_db": 80.0}},
            {"layer": "MinMaxNormalization"},
            {"layer": "FrameSelection", "config": {"n_frames": n_frames, "trim": trim}},
        ],
    }


#: FMA-small's tracks were analysed at their own rate, nearly always 44,100 Hz; GTZAN's clips at 22,050 Hz.
FRONT_ENDS = {"fma-small": _front_end(44_100, 128, 0), "gtzan": _front_end(22_050, 387, 2)}


class LogMelSplit(NamedTuple):
    """One split of a `LogMelDataset`.

    Attributes:
        features: `(recordings, n_mels, frames)` uint8; `dequantize` makes a front end's output of them.
        targets: Index into `labels` of each recording, `(recordings,)` int64.
        ids: Name of each recording, `(recordings,)` str.
    """

    features: np.ndarray
    targets: np.ndarray
    ids: np.ndarray


@dataclass(frozen=True, eq=False)
class LogMelDataset:
    """Recordings as log-mel features, with their labels and the data set's own split.

    Attributes:
        name: `"fma-small"`, `"gtzan"`, or that of the data set of audio.
        labels: Sorted names of the classes.
        ids: Name of each recording, `(recordings,)` str: FMA's track number, or GTZAN's such as
            `blues.00000`.
        splits: `"train"`, `"validation"`, `"test"`, or `""` for a recording that the split leaves out.
        features: `(recordings, n_mels, frames)` uint8.
        targets: Index into `labels`, `(recordings,)` int64.
        tags: All genre names of each recording, the multi-label target of FMA; for others its one label.
        front_end: Config of the `music_zoo.layers.FrontEnd` that makes these features of a recording's
            beginning.
        seconds: Length of that beginning.
    """

    name: str
    labels: tuple[str, ...]
    ids: np.ndarray = field(repr=False)
    splits: np.ndarray = field(repr=False)
    features: np.ndarray = field(repr=False)
    targets: np.ndarray = field(repr=False)
    tags: tuple[tuple[str, ...], ...] = field(repr=False)
    front_end: dict = field(repr=False)
    seconds: float = 30.0

    def split(self, name: str) -> LogMelSplit:
        """Return the recordings of a split, copied.

        Raises:
            DatasetError: There is no such split.
        """
        chosen = self._chosen(name)
        return LogMelSplit(self.features[chosen], self.targets[chosen], self.ids[chosen])

    @property
    def tag_names(self) -> tuple[str, ...]:
        """Sorted names of all tags."""
        return tuple(sorted({tag for tags in self.tags for tag in tags}))

    def tag_targets(self, split: str, names: Sequence[str]) -> np.ndarray:
        """Return the multi-label target of a split: 1 where a recording has a tag, `(recordings, names)`.

        Raises:
            DatasetError: There is no such split, or no recording of the data set has one of the tags.
        """
        if unknown := sorted(set(names) - set(self.tag_names)):
            raise DatasetError(f"{self.name} has no recording with the tags {unknown}.")
        chosen = [tags for tags, use in zip(self.tags, self._chosen(split), strict=True) if use]
        return np.array([[name in tags for name in names] for tags in chosen], dtype=np.int64)

    def _chosen(self, split: str) -> np.ndarray:
        chosen = self.splits == split
        if split not in SPLITS or not chosen.any():
            there = [name for name in SPLITS if name in self.splits]
            raise DatasetError(f"{self.name} has the splits {', '.join(there)}; got {split!r}.")
        return chosen


def dequantize(features: np.ndarray) -> np.ndarray:
    """Return stored features as a front end gives them: float32 in [0, 1], of the same shape.

    What is stored is `round(255 * x)`, where x is the log-mel spectrogram of a recording, in decibels below
    its loudest point down to -80, scaled so that its smallest value is 0 and its largest 1. So x comes back
    to within 1/510, that is 0.16 dB.

    Raises:
        TypeError: Features that are not uint8, which have been dequantized already or never were quantized.
    """
    if features.dtype != np.uint8:
        raise TypeError(f"dequantize expects the stored uint8 features, got {features.dtype}.")
    return features.astype(np.float32) / np.float32(255)


def read_fma_small(root: str | PathLike) -> LogMelDataset:
    """Read FMA-small (Defferrard et al. 2017): 8 balanced genres, the official split.

    Expects `tracks.csv` (`track_id, split, genre, genres`, of which the last joins all genre names by `|`)
    and `part-*.npz` (`track_id`, `logmel`), which together hold each track once.

    Raises:
        DatasetError: A file that is missing or damaged, or tables and features that do not hold the same
            tracks.
    """
    root = Path(root)
    require_files(root, "tracks.csv")
    parts = sorted(root.glob("part-*.npz"))
    if not parts:
        raise DatasetError(
            f"{root} is incomplete: expected part-0.npz, part-1.npz, ...; found no part-*.npz."
        )
    rows = read_table(root / "tracks.csv", "track_id", "split", "genre", "genres")
    stored = [read_arrays(part, "track_id", "logmel") for part in parts]
    for part, (ids, features) in zip(parts, stored, strict=True):
        _check_features(part, ids, features)
    shapes = {features.shape[1:] for _, features in stored}
    if len(shapes) > 1:
        raise DatasetError(f"{root}: the parts hold features of different shapes: {sorted(shapes)}.")
    ids = np.concatenate([ids for ids, _ in stored]).astype(str)
    features = np.concatenate([features for _, features in stored])
    source = ", ".join(part.name for part in parts)
    return _dataset("fma-small", root / "tracks.csv", rows, source, ids, features)


def read_gtzan(root: str | PathLike) -> LogMelDataset:
    """Read GTZAN with the fault-filtered split (Kereliuk et al. 2015), of which no two parts share an artist.

    Expects `clips.csv` (`clip, genre, fault_filtered_split`) and `logmel.npz` (`clip`, `logmel`). Clips that
    the split leaves out, being faulty or repeated, have the split `""`.

    Raises:
        DatasetError: A file that is missing or damaged, or a table and features that do not hold the same
            clips.
    """
    root = Path(root)
    require_files(root, "clips.csv", "logmel.npz")
    rows = read_table(root / "clips.csv", "clip", "fault_filtered_split", "genre", "genre")
    ids, features = read_arrays(root / "logmel.npz", "clip", "logmel")
    _check_features(root / "logmel.npz", ids, features)
    return _dataset("gtzan", root / "clips.csv", rows, "logmel.npz", ids.astype(str), features)


def compute_log_mels(
    dataset: AudioDataset,
    front_end: Callable,
    seconds: float,
    folder: str | PathLike,
    progress: Callable[[int, int], None] | None = None,
) -> LogMelDataset:
    """Return the features of a data set of audio, computed once and kept in a folder.

    A computation that was interrupted goes on where it stopped.

    Args:
        dataset: Recordings of one label each.
        front_end: The `music_zoo.layers.FrontEnd`, whose features lie between 0 and 1.
        seconds: How much of the beginning of each recording to take; what is shorter is repeated.
        folder: Where to keep the features.
        progress: Called with the numbers of recordings done and to do.

    Raises:
        DatasetError: The folder holds features of another front end, of another length or of other
            recordings; or what `music_zoo.datasets.write_features` raises.
        ValueError: Several labels for a recording, or none.
    """
    parts = {name: dataset.split(name) for name in SPLITS if name in dataset.splits}
    if dataset.task != "single_label" or any(part.targets is None for part in parts.values()):
        raise ValueError(f"{dataset.name}: expected one label for each recording.")
    every = AudioSplit(
        sum((part.paths for part in parts.values()), ()),
        np.concatenate([part.targets for part in parts.values()]),
        sum((part.ids for part in parts.values()), ()),
    )
    if (Path(folder) / "features.json").exists():
        stored = MemoryMappedFeatures(folder)
    else:
        stored = write_features(every, front_end, folder, seconds=seconds, dtype=np.uint8, progress=progress)
    found = {*stored.ids, *stored.skipped}
    if (stored.front_end, stored.seconds, found) != (front_end.get_config(), seconds, set(every.ids)):
        raise DatasetError(
            f"{folder} holds features of another front end, of another length or of other recordings than "
            f"these of {dataset.name}: delete it, or name another folder."
        )
    split_of = {id_: name for name, part in parts.items() for id_ in part.ids}
    targets = stored.targets(every)
    return LogMelDataset(
        name=dataset.name,
        labels=dataset.labels,
        ids=np.array(stored.ids),
        splits=np.array([split_of[id_] for id_ in stored.ids]),
        features=stored.features,
        targets=targets,
        tags=tuple(
            dataset.tags[id_] if dataset.tags else (dataset.labels[target],)
            for id_, target in zip(stored.ids, targets, strict=True)
        ),
        front_end=stored.front_end,
        seconds=seconds,
    )


def _check_features(path: Path, ids: np.ndarray, features: np.ndarray) -> None:
    if features.dtype != np.uint8 or features.ndim != 3 or ids.shape != features.shape[:1]:
        raise DatasetError(
            f"{path}: expected `logmel` as uint8 (recordings, mel bands, frames) and one id for each; "
            f"got {features.dtype} {features.shape} and ids {ids.shape}."
        )


def _dataset(
    name: str,
    table: Path,
    rows: Sequence[tuple[str, ...]],  # id, split, genre, all genres joined by |
    source: str,
    ids: np.ndarray,
    features: np.ndarray,
) -> LogMelDataset:
    """Join the table's rows to the features, in the order of the features."""
    by_id = {row[0]: row for row in rows}
    stored = set(ids.tolist())
    if len(by_id) < len(rows) or len(stored) < len(ids):
        raise DatasetError(f"{table} and {source}: expected each id once; some are repeated.")
    for there, lacking, here in ((by_id.keys(), stored, source), (stored, by_id.keys(), table.name)):
        missing = sorted(there - lacking)
        if missing:
            raise DatasetError(
                f"{table.parent}: {len(missing)} of the recordings are missing from {here}, such as "
                f"{', '.join(missing[:3])}. Fetch the folder again."
            )
    _, splits, genres, all_genres = zip(*(by_id[id_] for id_ in ids.tolist()), strict=True)
    check_splits(table, splits, ("", *SPLITS))
    labels, targets = np.unique(genres, return_inverse=True)
    return LogMelDataset(
        name=name,
        labels=tuple(labels.tolist()),
        ids=ids,
        splits=np.array(splits),
        features=features,
        targets=targets.astype(np.int64),
        tags=tuple(tuple(names.split("|")) for names in all_genres),
        front_end=FRONT_ENDS[name],
    )
