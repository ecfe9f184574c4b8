"""A plain folder of audio: one sub-folder per label."""

from os import PathLike
from pathlib import Path

import numpy as np

from music_zoo.audio.find import AUDIO_EXTENSIONS, is_audio
from music_zoo.errors import DatasetError


class AudioFolder:
    """Audio files laid out as `root/label/file`, or as `root/split/label/file`.

    Hidden files, other kinds of files and deeper folders are passed over. With splits, the labels are those
    of all splits together, so that a target means the same in each.

    Args:
        root: The folder.
        split: Name of a sub-folder of `root` such as `"train"`, whose sub-folders are the labels; if None,
            those of `root` are.

    Attributes:
        root: The folder.
        split: As given.
        labels: Sorted names of the labels.
        paths: The audio files, sorted by label and name.
        targets: Index into `labels` of each file, `(files,)` int64.

    Raises:
        DatasetError: No such folder or split, no sub-folders, or a label without audio.
    """

    def __init__(self, root: str | PathLike, split: str | None = None):
        self.root = Path(root)
        self.split = split
        if not self.root.is_dir():
            raise DatasetError(
                f"{self.root} is no folder. Expected one with a sub-folder of audio files per label."
            )
        outer = _folders(self.root)
        if split is not None and split not in outer:
            raise DatasetError(
                f"{self.root} has no split {split!r}: expected a folder of that name with one sub-folder per "
                f"label; found the folders {list(outer) or 'none'}."
            )
        chosen = outer if split is None else _folders(outer[split])
        if not chosen:
            raise DatasetError(
                f"{self.root / (split or '')} has no sub-folders: expected one per label, holding audio."
            )
        files = {label: sorted(filter(is_audio, folder.iterdir())) for label, folder in chosen.items()}
        for label, found in files.items():
            if not found:
                raise DatasetError(self._empty(label, chosen[label]))
        siblings = [] if split is None else [label for folder in outer.values() for label in _folders(folder)]
        self.labels = tuple(sorted({*files, *siblings}))
        self.paths = tuple(path for found in files.values() for path in found)
        counts = [len(found) for found in files.values()]
        self.targets = np.repeat(
            np.array([self.labels.index(label) for label in files], dtype=np.int64), counts
        )

    def __len__(self) -> int:
        """Return the number of files."""
        return len(self.paths)

    def _empty(self, label: str, folder: Path) -> str:
        endings = ", ".join(sorted(AUDIO_EXTENSIONS))
        message = f"{folder}: the label {label!r} holds no audio file (expected {endings})."
        if self.split is None and (deeper := list(_folders(folder))):
            message += f" It holds the folders {deeper[:3]}: if {label!r} is a split, say split={label!r}."
        return message


def _folders(root: Path) -> dict[str, Path]:
    return {
        path.name: path for path in sorted(root.iterdir()) if path.is_dir() and not path.name.startswith(".")
    }
