"""NSynth (Engel et al. 2017, arXiv:1704.01279): single notes of instruments, of known family."""

import json
from os import PathLike
from pathlib import Path

import numpy as np

from music_zoo.datasets.audio_dataset import AudioDataset, AudioSplit, folder_of
from music_zoo.datasets.files import SPLITS, check_splits, read_table, require_files
from music_zoo.errors import DatasetError

FAMILIES = tuple("bass brass flute guitar keyboard mallet organ reed string synth_lead vocal".split())
QUALITIES = tuple(
    "bright dark distortion fast_decay long_release multiphonic nonlinear_env percussive reverb "
    "tempo-synced".split()
)

_FOLDERS = {"train": "nsynth-train", "validation": "nsynth-valid", "test": "nsynth-test"}


class NSynth(AudioDataset):
    """The whole of NSynth with its official split: no instrument for training is in another split.

    Expects the folders `nsynth-train`, `nsynth-valid` and `nsynth-test`, or some of them, each with
    `examples.json` and `audio/<note>.wav`. The family synth_lead occurs in train only.

    Args:
        root: The folder that holds them.
        target: `"family"`, one of 11 for each note, whose tags are then its qualities; or `"qualities"`, any
            of 10 for each note.
        allow_missing: Leave out the audio that is missing instead of raising.

    Raises:
        DatasetError: A file that is missing or damaged.
        ValueError: Another target.
    """

    def __init__(self, root: str | PathLike, target: str = "family", *, allow_missing: bool = False):
        if target not in ("family", "qualities"):
            raise ValueError(f"expected the target 'family' or 'qualities', got {target!r}")
        root = folder_of(root)
        labels, field = (
            (FAMILIES, "instrument_family_str") if target == "family" else (QUALITIES, "qualities_str")
        )
        splits, tags, groups = {}, {}, {}
        for split, name in _FOLDERS.items():
            folder = root / name
            if not folder.is_dir():
                continue
            require_files(folder, "examples.json", "audio")
            examples = _read_examples(folder / "examples.json", field)
            notes = {note: example[field] for note, example in examples.items()}
            try:
                if target == "family":
                    targets = np.array([labels.index(family) for family in notes.values()], np.int64)
                else:
                    targets = np.zeros((len(notes), len(labels)), np.int64)
                    for row, names in enumerate(notes.values()):
                        targets[row, [labels.index(quality) for quality in names]] = 1
            except (ValueError, TypeError) as error:
                raise DatasetError(f"{folder / 'examples.json'}: a value of {field}: {error}") from error
            paths = tuple(folder / "audio" / f"{note}.wav" for note in notes)
            splits[split] = AudioSplit(paths, targets, tuple(notes))
            groups |= {note: example.get("instrument_str", "") for note, example in examples.items()}
            if target == "family":
                tags |= {note: example.get("qualities_str", ()) for note, example in examples.items()}
        if not splits:
            raise DatasetError(
                f"{root}: expected at least one of the folders {', '.join(_FOLDERS.values())}."
            )
        archives = [f"{_FOLDERS[split]}.jsonwav.tar.gz" for split in splits]
        super().__init__(
            f"nsynth-{target}",
            root,
            labels,
            "single_label" if target == "family" else "multi_label",
            splits,
            archive=" and ".join(archives),
            allow_missing=allow_missing,
            tags=tags,
            groups=groups if all(groups.values()) else None,
            grouped_by="instruments",
        )


class NSynthTest(AudioDataset):
    """The notes of the NSynth test set, split so that no instrument is in two splits.

    Expects `examples.json` (of each note `instrument_str`), `instrument-split.csv` (`instrument, family,
    split`) and `audio/<note>.opus`. Ten families: `synth_lead` does not occur. Flute and vocal have two
    instruments each, so that their scores say little. The notes' tags are their qualities.

    Args:
        root: The folder.

    Raises:
        DatasetError: A file that is missing or damaged, an instrument without a split, or one in two splits.
    """

    def __init__(self, root: str | PathLike):
        root = folder_of(root)
        require_files(root, "examples.json", "instrument-split.csv", "audio")
        table = root / "instrument-split.csv"
        rows = read_table(table, "instrument", "family", "split")
        check_splits(table, [split for _, _, split in rows], SPLITS)
        instruments = {instrument: (family, split) for instrument, family, split in rows}
        if len(instruments) < len(rows):
            raise DatasetError(
                f"{table}: expected each instrument once, so that it is in one split; some are repeated."
            )
        labels = tuple(sorted({family for family, _ in instruments.values()}))
        examples = _read_examples(root / "examples.json", "instrument_str")
        notes = {note: example["instrument_str"] for note, example in examples.items()}
        if unknown := sorted(set(notes.values()) - set(instruments)):
            raise DatasetError(
                f"{root / 'examples.json'}: instruments that instrument-split.csv does not list: "
                f"{', '.join(unknown[:3])}."
            )
        splits = {}
        for name in SPLITS:
            ids = tuple(note for note, instrument in notes.items() if instruments[instrument][1] == name)
            targets = np.array([labels.index(instruments[notes[note]][0]) for note in ids], dtype=np.int64)
            splits[name] = AudioSplit(tuple(root / "audio" / f"{note}.opus" for note in ids), targets, ids)
        super().__init__(
            "nsynth-test",
            root,
            labels,
            "single_label",
            splits,
            archive="the folder",
            tags={note: example.get("qualities_str", ()) for note, example in examples.items()},
            groups=notes,
            grouped_by="instruments",
        )


def _read_examples(path: Path, field: str) -> dict[str, dict]:
    """Return what is said of each note, sorted by note, if that includes a field."""
    try:
        examples = json.loads(path.read_text(encoding="utf-8"))
        every = {note: examples[note] for note in sorted(examples)}
        for example in every.values():
            example[field]
    except (ValueError, KeyError, TypeError) as error:
        raise DatasetError(f"{path}: expected an object with `{field}` for each note: {error!r}") from error
    return every
