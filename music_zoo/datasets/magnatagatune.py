"""MagnaTagATune (Law et al. 2009): clips of 29 s with the tags that players of a game gave them."""

from os import PathLike

import numpy as np

from music_zoo.datasets.audio_dataset import AudioDataset, AudioSplit, folder_of
from music_zoo.datasets.files import read_table, require_files
from music_zoo.errors import DatasetError

#: The 50 most frequent tags, most frequent first, synonyms not merged: the classes of all published taggers.
TAGS = tuple(
    "guitar,classical,slow,techno,strings,drums,electronic,rock,fast,piano,ambient,beat,violin,vocal,"
    "synth,female,indian,opera,male,singing,vocals,no vocals,harpsichord,loud,quiet,flute,woman,"
    "male vocal,no vocal,pop,soft,sitar,solo,man,classic,choir,voice,new age,dance,male voice,"
    "female vocal,beats,harp,cello,no voice,weird,country,metal,female voice,choral".split(",")
)

#: Clips whose MP3 is empty in the archive.
KNOWN_BROKEN = ("35644", "55753", "57881")

#: The split is by the folder of the clip, so that clips of one recording stay together.
_FOLDERS = {"train": "0123456789ab", "validation": "c", "test": "def"}


class MagnaTagATune(AudioDataset):
    """Clips with the 50 most frequent tags.

    Expects `annotations_final.csv` and the MP3 files in the folders `0` to `f`, beside it or in `mp3`.

    Two splits are in use, by the same folders, and average precisions on them are about 0.07 apart, so that
    results must say which:

    - `"clean"`: only clips with at least one of the 50 tags (1,529 for validation, 4,332 for testing); Won
      et al. 2020 (arXiv:2006.00751), Lee et al. 2017.
    - `"full"`: all clips (18,709, 1,825 and 5,329); Pons et al. 2018, CLMR, MARBLE.

    Args:
        root: The folder.
        split: `"clean"` or `"full"`.
        allow_missing: Leave out the audio that is missing instead of raising.

    Raises:
        DatasetError: A file that is missing or damaged.
        ValueError: Another split.
    """

    def __init__(self, root: str | PathLike, split: str = "clean", *, allow_missing: bool = False):
        if split not in ("clean", "full"):
            raise ValueError(f"expected the split 'clean' or 'full', got {split!r}")
        root = folder_of(root)
        require_files(root, "annotations_final.csv")
        table = root / "annotations_final.csv"
        rows = read_table(table, "clip_id", "mp3_path", *TAGS, delimiter="\t")
        tags = np.array([row[2:] for row in rows])
        if not np.isin(tags, ("0", "1")).all():
            raise DatasetError(f"{table}: expected 0 or 1 for each tag.")
        tags = (tags == "1").astype(np.int64)
        unknown = sorted({row[1][:1] for row in rows} - set("".join(_FOLDERS.values())))
        if unknown:
            raise DatasetError(f"{table}: expected clips in the folders 0 to f; got also {unknown}.")
        use = tags.any(axis=1) | (split == "full")
        audio = root / "mp3" if (root / "mp3").is_dir() else root
        splits = {}
        for name, folders in _FOLDERS.items():
            chosen = [number for number, row in enumerate(rows) if use[number] and row[1][0] in folders]
            paths = tuple(audio / rows[number][1] for number in chosen)
            splits[name] = AudioSplit(paths, tags[chosen], tuple(rows[number][0] for number in chosen))
        super().__init__(
            f"magnatagatune-{split}",
            root,
            TAGS,
            "multi_label",
            splits,
            archive="mp3.zip.001 to mp3.zip.003, joined to one zip file,",
            known_broken=KNOWN_BROKEN,
            allow_missing=allow_missing,
        )
