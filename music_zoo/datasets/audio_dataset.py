"""What all data sets of audio files share: splits of paths, targets and names, and what is missing."""

from collections.abc import Iterable, Mapping, Sequence
from os import PathLike
from pathlib import Path
from typing import NamedTuple

import numpy as np

from music_zoo.errors import DatasetError


class AudioSplit(NamedTuple):
    """One split of a data set of audio files.

    Attributes:
        paths: The audio file of each example.
        targets: Index into the data set's labels, `(examples,)` int64; for several labels per file 0 or 1 for
            each, `(examples, labels)` int64; None where nothing is labelled.
        ids: Name of each example.
    """

    paths: tuple[Path, ...]
    targets: np.ndarray | None
    ids: tuple[str, ...]


class AudioDataset:
    """A data set whose files lie as its authors distribute them, with its official split.

    Args:
        name: Of the data set.
        root: The folder.
        labels: Names of the labels.
        task: `"single_label"` or `"multi_label"`.
        splits: By name.
        archive: What to fetch if audio is missing.
        known_broken: Ids of recordings whose audio is known to be missing, empty or cut short.
        allow_missing: Leave out the audio that is missing instead of raising.
        tags: Further names that are true of a recording, by its id.
        groups: What a recording belongs to, by its id; recordings of one group are alike.
        grouped_by: What the groups are, in the plural: `"instruments"`.

    Attributes:
        name, root, labels, task, tags, groups, grouped_by: As given.
        known_broken: The ids among them that the splits list. They stay in the splits, so that these are the
            published ones, unless their file is not there.
        missing: Paths of the files that are not there.

    Raises:
        DatasetError: Audio files are missing, and not allowed to be; or all are.
    """

    def __init__(
        self,
        name: str,
        root: Path,
        labels: Iterable[str],
        task: str,
        splits: Mapping[str, AudioSplit],
        *,
        archive: str,
        known_broken: Iterable[str] = (),
        allow_missing: bool = False,
        tags: Mapping[str, Sequence[str]] | None = None,
        groups: Mapping[str, str] | None = None,
        grouped_by: str = "",
    ):
        self.name, self.root, self.labels, self.task = name, root, tuple(labels), task
        self.tags = {id_: tuple(names) for id_, names in (tags or {}).items()}
        self.groups = dict(groups or {})
        self.grouped_by = grouped_by if groups else ""
        broken = set(known_broken)
        paths = {
            path: id_ for split in splits.values() for path, id_ in zip(split.paths, split.ids, strict=True)
        }
        self.known_broken = tuple(id_ for id_ in paths.values() if id_ in broken)
        absent = set(paths) - present_files(paths)
        self.missing = tuple(path for path in paths if path in absent)
        unexpected = [path for path in self.missing if paths[path] not in broken]
        if unexpected and (not allow_missing or len(absent) == len(paths)):
            raise DatasetError(
                f"{root}: {len(unexpected)} of {len(paths)} audio files are missing, such as "
                f"{', '.join(_short(path, root) for path in unexpected[:3])}. Fetch {archive} and unpack it "
                "there" + (", or pass allow_missing=True to leave them out." if not allow_missing else ".")
            )
        self._splits = {name: _without(split, absent) for name, split in splits.items()}

    @property
    def splits(self) -> tuple[str, ...]:
        """Names of the splits."""
        return tuple(self._splits)

    def split(self, name: str) -> AudioSplit:
        """Return a split.

        Raises:
            DatasetError: There is no such split.
        """
        if name not in self._splits:
            raise DatasetError(f"{self.root} has the splits {', '.join(self._splits)}; got {name!r}.")
        return self._splits[name]

    def groups_of(self, split: str) -> np.ndarray | None:
        """Return the group of each recording of a split, `(recordings,)` str; None where none are known.

        Raises:
            DatasetError: There is no such split.
        """
        ids = self.split(split).ids
        return np.array([self.groups[id_] for id_ in ids]) if self.groups else None

    @property
    def tag_names(self) -> tuple[str, ...]:
        """Sorted names of all tags."""
        return tuple(sorted({tag for tags in self.tags.values() for tag in tags}))

    def tag_targets(self, split: str, names: Sequence[str]) -> np.ndarray:
        """Return the multi-label target of a split: 1 where a recording has a tag, `(recordings, names)`.

        Raises:
            DatasetError: There is no such split, or no recording of the data set has one of the tags.
        """
        if unknown := sorted(set(names) - set(self.tag_names)):
            raise DatasetError(f"{self.name} has no recording with the tags {unknown}.")
        chosen = [self.tags.get(id_, ()) for id_ in self.split(name=split).ids]
        return np.array([[name in tags for name in names] for tags in chosen], dtype=np.int64)


def folder_of(root: str | PathLike) -> Path:
    """Return a folder as a path.

    Raises:
        DatasetError: It is none.
    """
    path = Path(root)
    if not path.is_dir():
        raise DatasetError(f"{path} is no folder. Expected the folder of a data set.")
    return path


def present_files(paths: Iterable[Path]) -> set[Path]:
    """Return which files are there; each folder is listed once, which for 100,000 files is faster."""
    wanted: dict[Path, set[Path]] = {}
    for path in paths:
        wanted.setdefault(path.parent, set()).add(path)
    found = set()
    for folder, files in wanted.items():
        if folder.is_dir():
            names = {entry.name for entry in folder.iterdir()}
            found |= {file for file in files if file.name in names}
    return found


def _short(path: Path, root: Path) -> str:
    return str(path.relative_to(root)) if path.is_relative_to(root) else str(path)


def _without(split: AudioSplit, absent: set[Path]) -> AudioSplit:
    keep = [row for row, path in enumerate(split.paths) if path not in absent]
    if len(keep) == len(split.paths):
        return split
    return AudioSplit(
        tuple(split.paths[row] for row in keep),
        None if split.targets is None else split.targets[keep],
        tuple(split.ids[row] for row in keep),
    )
