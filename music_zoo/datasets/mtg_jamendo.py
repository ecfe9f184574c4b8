"""MTG-Jamendo (Bogdanov et al. 2019): full tracks with tags of genre, instrument and mood."""

from os import PathLike
from pathlib import Path

import numpy as np

from music_zoo.datasets.audio_dataset import AudioDataset, AudioSplit, folder_of, present_files
from music_zoo.datasets.files import SPLITS, require_files
from music_zoo.errors import DatasetError

#: Name of each subset in the names of its files.
SUBSETS = {
    "all": "autotagging",
    "top50": "autotagging_top50tags",
    "genre": "autotagging_genre",
    "instrument": "autotagging_instrument",
    "moodtheme": "autotagging_moodtheme",
}

_COLUMNS = ["TRACK_ID", "ARTIST_ID", "ALBUM_ID", "PATH", "DURATION", "TAGS"]


class MtgJamendo(AudioDataset):
    """Tracks with their tags and one of the five official splits.

    Expects the authors' repository, of which `data/splits/split-0/autotagging_*-train.tsv` and so on are
    read, and audio such as `00/1009600.mp3` or, in low quality, `00/1009600.low.mp3`.

    Args:
        root: The folder that holds `data`.
        subset: `"top50"` (50 tags), `"genre"` (87), `"instrument"` (40), `"moodtheme"` (56) or `"all"`.
        split: Which of the splits, 0 to 4; published results are on 0.
        audio: The folder of the folders `00` to `99`; None: `audio`, `audio-low` or `root` itself.
        allow_missing: Leave out the audio that is missing instead of raising.

    Raises:
        DatasetError: A file that is missing or damaged.
        ValueError: An unknown subset.
    """

    def __init__(
        self,
        root: str | PathLike,
        subset: str = "top50",
        split: int = 0,
        audio: str | PathLike | None = None,
        *,
        allow_missing: bool = False,
    ):
        if subset not in SUBSETS:
            raise ValueError(f"expected a subset of {', '.join(SUBSETS)}; got {subset!r}")
        root = folder_of(root)
        lists = {name: f"data/splits/split-{split}/{SUBSETS[subset]}-{name}.tsv" for name in SPLITS}
        require_files(root, *lists.values())
        if audio is None:
            audio = next((root / name for name in ("audio", "audio-low") if (root / name).is_dir()), root)
        tracks = {name: _read(root / list_) for name, list_ in lists.items()}
        labels = tuple(sorted({tag for rows in tracks.values() for *_, tags in rows for tag in tags}))
        column = {label: number for number, label in enumerate(labels)}
        splits = {}
        for name, rows in tracks.items():
            targets = np.zeros((len(rows), len(labels)), np.int64)
            for row, (*_, tags) in enumerate(rows):
                targets[row, [column[tag] for tag in tags]] = 1
            paths = _in_either_quality([Path(audio) / path for _, _, path, _ in rows])
            splits[name] = AudioSplit(paths, targets, tuple(id_ for id_, *_ in rows))
        kind = "autotagging_moodtheme" if subset == "moodtheme" else "raw_30s"
        super().__init__(
            f"mtg-jamendo-{subset}-{split}",
            root,
            labels,
            "multi_label",
            splits,
            archive=f"{kind}_audio-NN.tar (or audio-low), where NN is the folder of a file,",
            allow_missing=allow_missing,
            groups={id_: artist for rows in tracks.values() for id_, artist, *_ in rows},
            grouped_by="artists",
        )


def _in_either_quality(paths: list[Path]) -> tuple[Path, ...]:
    low = [path.with_suffix(".low.mp3") for path in paths]
    present = present_files([*paths, *low])
    return tuple(
        other if path not in present and other in present else path
        for path, other in zip(paths, low, strict=True)
    )


def _read(path: Path) -> list[tuple[str, str, str, list[str]]]:
    """Return id, artist, path and tags of each track; a line holds as many columns as the track has tags."""
    try:
        header, *lines = path.read_text(encoding="utf-8").splitlines()
    except (UnicodeDecodeError, OSError, ValueError) as error:
        raise DatasetError(f"{path} cannot be read as a table: {error}") from error
    if header.split("\t") != _COLUMNS:
        raise DatasetError(f"{path}: expected the columns {', '.join(_COLUMNS)}; got {header[:80]!r}.")
    rows = [line.split("\t") for line in lines if line]
    for number, row in enumerate(rows, start=2):
        if len(row) < len(_COLUMNS):
            raise DatasetError(f"{path}, line {number}: expected at least one tag; the row is cut short.")
    return [(row[0], row[1], row[3], row[5:]) for row in rows]
