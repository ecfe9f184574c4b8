"""GTZAN (Tzanetakis and Cook 2002) as audio, with the fault-filtered split of Kereliuk et al. 2015."""

from os import PathLike
from pathlib import Path

import numpy as np

from music_zoo.datasets.audio_dataset import AudioDataset, AudioSplit, folder_of, present_files
from music_zoo.datasets.files import require_files
from music_zoo.errors import DatasetError

GENRES = tuple("blues classical country disco hiphop jazz metal pop reggae rock".split())

_LISTS = {"train": "train_filtered.txt", "validation": "valid_filtered.txt", "test": "test_filtered.txt"}


class GtzanAudio(AudioDataset):
    """Clips of 30 s of ten genres: 443 for training, 197 for validation, 290 for testing.

    Faulty and repeated clips are left out, and no artist is in two splits. Expects audio such as
    `genres/blues/blues.00000.wav` (or `.au`; the folder may be called `genres_original` or be missing), and
    the lists `train_filtered.txt`, `valid_filtered.txt` and `test_filtered.txt` of lines such as
    `blues/blues.00029.wav`, from https://github.com/jongpillee/music_dataset_split.

    Args:
        root: The folder that holds the lists and the audio.
        allow_missing: Leave out the audio that is missing instead of raising.

    Raises:
        DatasetError: A file that is missing or damaged.
    """

    def __init__(self, root: str | PathLike, *, allow_missing: bool = False):
        root = folder_of(root)
        require_files(root, *_LISTS.values())
        audio = next((root / name for name in ("genres", "genres_original") if (root / name).is_dir()), root)
        splits = {}
        for split, name in _LISTS.items():
            clips = _read(root / name)
            paths = _present(audio, clips)
            targets = np.array([GENRES.index(clip.split("/")[0]) for clip in clips], np.int64)
            ids = tuple(Path(clip).stem for clip in clips)
            splits[split] = AudioSplit(paths, targets, ids)
        super().__init__(
            "gtzan",
            root,
            GENRES,
            "single_label",
            splits,
            archive="genres.tar.gz",
            allow_missing=allow_missing,
        )


def _read(path: Path) -> list[str]:
    try:
        clips = path.read_text(encoding="utf-8").split()
    except (UnicodeDecodeError, OSError) as error:
        raise DatasetError(f"{path} cannot be read as text: {error}") from error
    odd = [clip for clip in clips if clip.split("/")[0] not in GENRES or clip.count("/") != 1]
    if odd or not clips:
        raise DatasetError(
            f"{path}: expected lines such as blues/blues.00029.wav; got {', '.join(odd[:3]) or 'none'}."
        )
    return clips


def _present(audio: Path, clips: list[str]) -> tuple[Path, ...]:
    """Return the file of each clip in the format in which it is there."""
    choices = [[(audio / clip).with_suffix(suffix) for suffix in (".wav", ".au", ".mp3")] for clip in clips]
    present = present_files(path for paths in choices for path in paths)
    return tuple(next((path for path in paths if path in present), paths[0]) for paths in choices)
