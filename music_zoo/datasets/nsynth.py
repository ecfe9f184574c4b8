"""The NSynth test set (Engel et al. 2017, arXiv:1704.01279): single notes of instruments, of known family."""

import json
from os import PathLike
from pathlib import Path
from typing import NamedTuple

import numpy as np

from music_zoo.datasets.files import SPLITS, check_splits, read_table, require_files
from music_zoo.errors import DatasetError


class NSynthSplit(NamedTuple):
    """One split of `NSynthTest`.

    Attributes:
        paths: The audio file of each note.
        targets: Index into `labels` of each note's family, `(notes,)` int64.
        ids: Name of each note.
    """

    paths: tuple[Path, ...]
    targets: np.ndarray
    ids: tuple[str, ...]


class NSynthTest:
    """The notes of the NSynth test set, split so that no instrument is in two splits.

    Expects `examples.json` (of each note `instrument_str`), `instrument-split.csv` (`instrument, family,
    split`) and `audio/<note>.opus`. Ten families: `synth_lead` does not occur. Flute and vocal have two
    instruments each, so that their scores say little.

    Args:
        root: The folder.

    Attributes:
        labels: Sorted names of the families.

    Raises:
        DatasetError: A file that is missing or damaged, an instrument without a split, or one in two splits.
    """

    def __init__(self, root: str | PathLike):
        self.root = Path(root)
        require_files(self.root, "examples.json", "instrument-split.csv", "audio")
        table = self.root / "instrument-split.csv"
        rows = read_table(table, "instrument", "family", "split")
        check_splits(table, [split for _, _, split in rows], SPLITS)
        self._instruments = {instrument: (family, split) for instrument, family, split in rows}
        if len(self._instruments) < len(rows):
            raise DatasetError(
                f"{table}: expected each instrument once, so that it is in one split; some are repeated."
            )
        self.labels = tuple(sorted({family for family, _ in self._instruments.values()}))
        self._notes = self._read_notes()

    def split(self, name: str) -> NSynthSplit:
        """Return the notes of `"train"`, `"validation"` or `"test"`, sorted by name.

        Raises:
            DatasetError: There is no such split.
        """
        if name not in SPLITS:
            raise DatasetError(f"{self.root} has the splits {', '.join(SPLITS)}; got {name!r}.")
        notes = [note for note, instrument in self._notes.items() if self._instruments[instrument][1] == name]
        families = [self._instruments[self._notes[note]][0] for note in notes]
        targets = np.array([self.labels.index(family) for family in families], dtype=np.int64)
        return NSynthSplit(tuple(self._audio(note) for note in notes), targets, tuple(notes))

    def _audio(self, note: str) -> Path:
        return self.root / "audio" / f"{note}.opus"

    def _read_notes(self) -> dict[str, str]:
        """Return the instrument of each note, sorted by note."""
        path = self.root / "examples.json"
        try:
            examples = json.loads(path.read_text(encoding="utf-8"))
            notes = {note: examples[note]["instrument_str"] for note in sorted(examples)}
        except (ValueError, KeyError, TypeError) as error:
            raise DatasetError(
                f"{path}: expected an object with `instrument_str` for each note: {error!r}"
            ) from error
        unknown = sorted(set(notes.values()) - set(self._instruments))
        if unknown:
            raise DatasetError(
                f"{path}: instruments that instrument-split.csv does not list: {', '.join(unknown[:3])}."
            )
        present = {file.name for file in (self.root / "audio").iterdir()}
        missing = [note for note in notes if f"{note}.opus" not in present]
        if missing:
            raise DatasetError(
                f"{self.root / 'audio'}: {len(missing)} of {len(notes)} notes are missing, such as "
                f"{', '.join(f'{note}.opus' for note in missing[:3])}."
            )
        return notes
