"""Readers of the public data sets' own layouts and splits, and of a plain folder of audio.

Nothing here downloads: the folders are given, read, and never written to.
"""

from os import PathLike
from pathlib import Path

from music_zoo.datasets.folder import AudioFolder
from music_zoo.datasets.log_mel import LogMelDataset, dequantize, read_fma_small, read_gtzan
from music_zoo.datasets.nsynth import NSynthTest
from music_zoo.errors import DatasetError

__all__ = [
    "open_dataset",
    "AudioFolder",
    "LogMelDataset",
    "NSynthTest",
    "dequantize",
    "read_fma_small",
    "read_gtzan",
]

#: The file by which a data set is known, and its reader.
_READERS = {"tracks.csv": read_fma_small, "clips.csv": read_gtzan, "instrument-split.csv": NSynthTest}


def open_dataset(path: str | PathLike, split: str | None = None) -> LogMelDataset | NSynthTest | AudioFolder:
    """Recognise a data set by what lies in its folder, and read it.

    Args:
        path: A folder of FMA-small log-mels (`tracks.csv`), of GTZAN log-mels (`clips.csv`), of the NSynth
            test set (`instrument-split.csv`), or of audio with one sub-folder per label.
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
        if (root / index).is_file():
            return reader(root)
    if any(entry.is_dir() for entry in root.iterdir()):
        return AudioFolder(root, split)
    raise DatasetError(
        f"{root} holds no known data set. Expected one of: tracks.csv and part-*.npz (FMA-small log-mels); "
        "clips.csv and logmel.npz (GTZAN log-mels); instrument-split.csv, examples.json and audio/ (NSynth "
        "test set); one sub-folder of audio files per label."
    )
