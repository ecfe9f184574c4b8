"""FMA, the Free Music Archive data set (Defferrard et al. 2017, arXiv:1612.01840), as its authors pack it."""

import csv
from os import PathLike
from pathlib import Path

import numpy as np

from music_zoo.datasets.audio_dataset import AudioDataset, AudioSplit, folder_of
from music_zoo.datasets.files import check_splits, require_files
from music_zoo.errors import DatasetError

#: Each subset holds those before it; "full" holds the tracks of "large", uncut.
SUBSETS = ("small", "medium", "large", "full")

#: Tracks cut at the wrong place, shorter than 30 s or without any audio (99134, 108925, 133297), as the
#: authors list them: https://github.com/mdeff/fma/issues/8 and /44.
KNOWN_BROKEN = tuple(
    "1486 5574 65753 80391 98558 98559 98560 98565 98566 98567 98568 98569 98571 99134 105247 108924 108925 "
    "126981 127336 133297 143992".split()
)

_SPLITS = {"training": "train", "validation": "validation", "test": "test"}


class Fma(AudioDataset):
    """Tracks of the Free Music Archive with their top genre and the official split.

    Expects `fma_metadata/tracks.csv`, and audio such as `fma_small/000/000002.mp3`. Tracks without a top
    genre, which only "large" and "full" hold, are in the splits `"unlabelled-train"` and so on.

    Args:
        root: The folder that holds `fma_metadata` and `fma_small`.
        subset: `"small"` (8 balanced genres), `"medium"` (16), `"large"` or `"full"`.
        allow_missing: Leave out the audio that is missing instead of raising.

    Raises:
        DatasetError: A file that is missing or damaged.
        ValueError: An unknown subset.
    """

    def __init__(self, root: str | PathLike, subset: str = "small", *, allow_missing: bool = False):
        if subset not in SUBSETS:
            raise ValueError(f"expected a subset of {', '.join(SUBSETS)}; got {subset!r}")
        root = folder_of(root)
        require_files(root, "fma_metadata/tracks.csv", f"fma_{subset}")
        table = root / "fma_metadata" / "tracks.csv"
        held = SUBSETS[: SUBSETS.index(subset) + 1]
        tracks = [track for track in _read_tracks(table) if track[2] in held]
        check_splits(table, [split for _, split, *_ in tracks], tuple(_SPLITS))
        labels = sorted({genre for _, _, _, genre, _ in tracks if genre})
        splits = {}
        for is_labelled, prefix in ((True, ""), (False, "unlabelled-")):
            for split, name in _SPLITS.items():
                chosen = [track for track in tracks if track[1] == split and bool(track[3]) == is_labelled]
                ids = tuple(track[0] for track in chosen)
                files = [f"{int(id_):06d}" for id_ in ids]
                paths = tuple(root / f"fma_{subset}" / file[:3] / f"{file}.mp3" for file in files)
                targets = np.array([labels.index(track[3]) for track in chosen if is_labelled], np.int64)
                if chosen or is_labelled:
                    splits[prefix + name] = AudioSplit(paths, targets if is_labelled else None, ids)
        super().__init__(
            f"fma-{subset}",
            root,
            labels,
            "single_label",
            splits,
            archive=f"fma_{subset}.zip",
            known_broken=KNOWN_BROKEN,
            allow_missing=allow_missing,
            groups={id_: artist for id_, *_, artist in tracks},
            grouped_by="artists",
        )


def _read_tracks(path: Path) -> list[tuple[str, str, str, str, str]]:
    """Return id, split, subset, top genre and number of the artist of each track.

    The table has two header lines, of which the first groups the columns, and a third with the name of the
    index alone.
    """
    wanted = (("set", "split"), ("set", "subset"), ("track", "genre_top"), ("artist", "id"))
    try:
        with path.open(newline="", encoding="utf-8") as file:
            lines = csv.reader(file)
            columns = list(zip(next(lines, []), next(lines, []), strict=False))
            missing = [".".join(name) for name in wanted if name not in columns]
            if missing:
                raise DatasetError(
                    f"{path}: expected two header lines with set.split, set.subset, track.genre_top and "
                    f"artist.id; missing: {', '.join(missing)}."
                )
            at = [columns.index(name) for name in wanted]
            rows = [(line, lines.line_num) for line in lines if line and line[0] != "track_id"]
    except (UnicodeDecodeError, csv.Error, OSError) as error:
        raise DatasetError(f"{path} cannot be read as a CSV file: {error}") from error
    for line, number in rows:
        if len(line) != len(columns) or not line[0].isdecimal():
            raise DatasetError(
                f"{path}, line {number}: expected a track number and {len(columns)} columns, got "
                f"{line[0]!r} and {len(line)}; fetch fma_metadata.zip again."
            )
    return [(line[0], *(line[column] for column in at)) for line, _ in rows]
