"""Readers of the public data sets' own layouts and splits, and of a plain folder of audio.

Nothing here downloads: the folders are given, read, and never written to. Training on what they give, by
`music_zoo.datasets.batches` and `music_zoo.datasets.streaming`, imports Keras and is therefore imported by
those names; `music_zoo.datasets.features` keeps features in a folder.
"""

from os import PathLike
from pathlib import Path

from music_zoo.audio.find import find_audio
from music_zoo.datasets.audio_dataset import AudioDataset, AudioSplit
from music_zoo.datasets.features import MemoryMappedFeatures, write_features
from music_zoo.datasets.files import SPLITS
from music_zoo.datasets.fma import SUBSETS as _FMA_SUBSETS
from music_zoo.datasets.fma import Fma
from music_zoo.datasets.folder import AudioFolder
from music_zoo.datasets.gtzan import GtzanAudio
from music_zoo.datasets.log_mel import (
    LogMelDataset,
    compute_log_mels,
    dequantize,
    read_fma_small,
    read_gtzan,
)
from music_zoo.datasets.magnatagatune import MagnaTagATune
from music_zoo.datasets.msd import Msd
from music_zoo.datasets.mtg_jamendo import MtgJamendo
from music_zoo.datasets.nsynth import NSynth, NSynthTest
from music_zoo.errors import DatasetError

__all__ = [
    "open_dataset",
    "open_splits",
    # audio
    "AudioDataset",
    "AudioFolder",
    "AudioSplit",
    "Fma",
    "GtzanAudio",
    "MagnaTagATune",
    "Msd",
    "MtgJamendo",
    "NSynth",
    "NSynthTest",
    # features
    "LogMelDataset",
    "MemoryMappedFeatures",
    "compute_log_mels",
    "dequantize",
    "read_fma_small",
    "read_gtzan",
    "write_features",
]


def _open_fma(root: Path) -> Fma:
    there = (subset for subset in _FMA_SUBSETS if (root / f"fma_{subset}").is_dir())
    return Fma(root, next(there, "small"))


#: The file or folder by which a data set is known, and its reader.
_READERS = {
    "tracks.csv": read_fma_small,
    "clips.csv": read_gtzan,
    "instrument-split.csv": NSynthTest,
    "fma_metadata": _open_fma,
    "annotations_final.csv": MagnaTagATune,
    "data/splits/split-0": MtgJamendo,
    "train_filtered.txt": GtzanAudio,
    "nsynth-train": NSynth,
    "nsynth-valid": NSynth,
    "nsynth-test": NSynth,
    "splits/train_ids.npy": Msd,
    "splits/filtered_list_train.cP": lambda root: Msd(root, "lee"),
}


def open_dataset(
    path: str | PathLike, split: str | None = None
) -> LogMelDataset | AudioDataset | AudioFolder:
    """Recognise a data set by what lies in its folder, and read it.

    Args:
        path: A folder of FMA-small log-mels (`tracks.csv`), of GTZAN log-mels (`clips.csv`), of the NSynth
            test set (`instrument-split.csv`), of FMA (`fma_metadata`), MagnaTagATune
            (`annotations_final.csv`), MTG-Jamendo (`data/splits`), GTZAN (`train_filtered.txt`), NSynth
            (`nsynth-train`, ...) or lists of the Million Song Dataset (`splits`), each read with its reader's
            defaults; or of audio with one sub-folder per label.
        split: For a folder of audio laid out as `split/label/file`: which split. The other data sets list
            their splits themselves, and give them by their method `split`.

    Raises:
        DatasetError: No such folder, none of these layouts, or one that is incomplete; the message says what
            is expected and what is missing.
    """
    root = Path(path)
    if not root.is_dir():
        raise DatasetError(f"{root} is no folder. Expected the folder of a data set.")
    for index, reader in _READERS.items():
        if (root / index).exists():
            return reader(root)
    if any(entry.is_dir() for entry in root.iterdir()):
        return AudioFolder(root, split)
    raise DatasetError(
        f"{root} holds no known data set. Expected one of: tracks.csv and part-*.npz (FMA-small log-mels); "
        "clips.csv and logmel.npz (GTZAN log-mels); instrument-split.csv, examples.json and audio/ (NSynth "
        "test set); fma_metadata/ and fma_small/ (FMA); annotations_final.csv (MagnaTagATune); data/splits/ "
        "(MTG-Jamendo); train_filtered.txt and genres/ (GTZAN); nsynth-train/ (NSynth); splits/ and audio/ "
        "(Million Song Dataset); one sub-folder of audio files per label."
    )


def open_splits(path: str | PathLike) -> LogMelDataset | AudioDataset:
    """Read a data set by its splits, or a folder of any audio as one split without labels.

    Args:
        path: The folder of a known data set, see `open_dataset`; one laid out as `split/label/file`, with the
            splits train, validation and test or some of these; or any other folder, all of whose audio files
            make the split `"train"`.

    Raises:
        DatasetError: What `open_dataset` raises for known data sets.
        AudioError: A folder without audio.
    """
    root = Path(path)
    if not root.is_dir() or any((root / index).exists() for index in _READERS):
        return open_dataset(root)
    if not (root / "train").is_dir():
        files = tuple(find_audio(root))
        split = AudioSplit(files, None, tuple(str(file.relative_to(root)) for file in files))
        return AudioDataset(root.name, root, (), "single_label", {"train": split}, archive="the files")
    folders = {name: AudioFolder(root, name) for name in SPLITS if (root / name).is_dir()}
    splits = {
        name: AudioSplit(folder.paths, folder.targets, tuple(str(p.relative_to(root)) for p in folder.paths))
        for name, folder in folders.items()
    }
    labels = folders["train"].labels
    return AudioDataset(root.name, root, labels, "single_label", splits, archive="the files")
