"""The Million Song Dataset (Bertin-Mahieux et al. 2011), by the lists that taggers are trained on."""

import pickle
from os import PathLike
from pathlib import Path

import numpy as np

from music_zoo.datasets.audio_dataset import AudioDataset, AudioSplit, folder_of, present_files
from music_zoo.datasets.files import require_files
from music_zoo.errors import DatasetError

#: The classes of CALS, most frequent first, as its authors' code names them.
CALS_TAGS = tuple(
    "rock,pop,indie,alternative,electronic,hip-hop,metal,jazz,punk,folk,alternative rock,indie rock,dance,"
    "hard rock,00s,soul,hardcore,80s,country,classic rock,punk rock,blues,chillout,experimental,heavy metal,"
    "death metal,90s,reggae,progressive rock,ambient,acoustic,beautiful,british,rnb,funk,metalcore,mellow,"
    "world,guitar,trance,indie pop,christian,house,spanish,latin,psychedelic,electro,piano,70s,"
    "progressive metal".split(",")
)

#: Of the list for training, the first so many tracks are for training and the others for validation.
_LEE_TRAIN = 201_680

# All that the pickles of these lists need: numpy arrays of numbers.
_HARMLESS = {
    (module, name)
    for package in ("numpy.core", "numpy._core")
    for module, name in ((f"{package}.multiarray", "_reconstruct"), (f"{package}.multiarray", "scalar"))
} | {("numpy", "ndarray"), ("numpy", "dtype"), ("_codecs", "encode")}


class Msd(AudioDataset):
    """Tracks of the Million Song Dataset with 50 tags of Last.fm.

    - `"cals"`, cleaned, by artist and stratified (Won et al. 2021, arXiv:2111.13457): expects
      `splits/{train,valid,test}_ids.npy`, `splits/{train,valid,test}_binaries.npy` and, for a split of
      unlabelled tracks `"student"`, `splits/student_ids.npy`.
    - `"lee"` (Lee et al. 2017): expects `splits/filtered_list_train.cP`, `splits/filtered_list_test.cP`,
      `splits/msd_id_to_tag_vector.cP` and `splits/50tagList.txt`.

    The audio, which cannot be had freely, is expected as `audio/A/B/C/TRABC....wav` (or `.mp3`, `.flac`); or,
    with the tables `splits/MSD_id_to_7D_id.pkl` and `splits/7D_id_to_path.pkl`, under the names of 7digital's
    clips such as `audio/8/9/8947470.clip.mp3`.

    Args:
        root: The folder that holds `splits` and `audio`.
        lists: `"cals"` or `"lee"`.
        allow_missing: Leave out the audio that is missing instead of raising.

    Raises:
        DatasetError: A file that is missing or damaged.
        ValueError: Other lists.
    """

    def __init__(self, root: str | PathLike, lists: str = "cals", *, allow_missing: bool = False):
        if lists not in ("cals", "lee"):
            raise ValueError(f"expected the lists 'cals' or 'lee', got {lists!r}")
        root = folder_of(root)
        require_files(root, "splits", "audio")
        labels, tracks = (_read_cals if lists == "cals" else _read_lee)(root / "splits")
        find = _clip_finder(root)
        splits = {name: AudioSplit(find(ids), targets, ids) for name, (ids, targets) in tracks.items()}
        super().__init__(
            f"msd-{lists}",
            root,
            labels,
            "multi_label",
            splits,
            archive="the clips",
            allow_missing=allow_missing,
        )


def read_id_list(path: str | PathLike) -> tuple[str, ...]:
    """Return the ids in a list of tracks: a `.npy` array of text, or a pickled list (`.cP`, `.pkl`).

    Raises:
        DatasetError: No such file, or no list of ids.
    """
    path = Path(path)
    loaded = _load_array(path) if path.suffix == ".npy" else _load_pickle(path)
    ids = tuple(_text(id_) for id_ in list(loaded))
    if not all(isinstance(id_, str) for id_ in ids):
        raise DatasetError(f"{path}: expected a list of ids, got one of {type(loaded).__name__}.")
    return ids


def _read_cals(folder: Path) -> tuple[tuple[str, ...], dict]:
    names = {"train": "train", "validation": "valid", "test": "test"}
    require_files(folder, *(f"{name}_{what}.npy" for name in names.values() for what in ("ids", "binaries")))
    tracks: dict[str, tuple] = {}
    for split, name in names.items():
        ids = read_id_list(folder / f"{name}_ids.npy")
        tags = _load_array(folder / f"{name}_binaries.npy")
        _check_tags(folder / f"{name}_binaries.npy", tags, len(ids), len(CALS_TAGS))
        tracks[split] = ids, tags.astype(np.int64)
    if (folder / "student_ids.npy").is_file():
        tracks["student"] = read_id_list(folder / "student_ids.npy"), None
    return CALS_TAGS, tracks


def _read_lee(folder: Path) -> tuple[tuple[str, ...], dict]:
    files = ("filtered_list_train.cP", "filtered_list_test.cP", "msd_id_to_tag_vector.cP", "50tagList.txt")
    require_files(folder, *files)
    train, test = (read_id_list(folder / name) for name in files[:2])
    labels = tuple((folder / files[3]).read_text(encoding="utf-8").splitlines())
    by_id = _load_table(folder / files[2])
    tracks = {}
    lists = {"train": train[:_LEE_TRAIN], "validation": train[_LEE_TRAIN:], "test": test}
    for split, ids in lists.items():
        missing = [id_ for id_ in ids if id_ not in by_id]
        if missing:
            raise DatasetError(
                f"{folder / files[2]}: no tags for {len(missing)} tracks, such as {', '.join(missing[:3])}."
            )
        tags = np.array([np.ravel(by_id[id_]) for id_ in ids]) if ids else np.zeros((0, len(labels)))
        _check_tags(folder / files[2], tags, len(ids), len(labels))
        tracks[split] = ids, tags.astype(np.int64)
    return labels, tracks


def _clip_finder(root: Path):
    """Return what finds the audio of tracks, by 7digital's names if there are tables of them."""
    audio, tables = (
        root / "audio",
        [root / "splits" / f"{name}.pkl" for name in ("MSD_id_to_7D_id", "7D_id_to_path")],
    )
    if all(table.is_file() for table in tables):
        to_clip, to_path = map(_load_table, tables)

        def find(ids):
            unknown = [id_ for id_ in ids if _text(to_clip.get(id_)) not in to_path]
            if unknown:
                raise DatasetError(
                    f"{tables[0].name} and {tables[1].name} name no clip for {len(unknown)} tracks, such as "
                    f"{', '.join(unknown[:3])}."
                )
            return tuple(audio / _text(to_path[_text(to_clip[id_])]) for id_ in ids)

        return find

    def find_by_id(ids):
        choices = [
            [audio / id_[2] / id_[3] / id_[4] / f"{id_}{suffix}" for suffix in (".wav", ".mp3", ".flac")]
            for id_ in ids
        ]
        present = present_files(path for paths in choices for path in paths)
        return tuple(next((path for path in paths if path in present), paths[0]) for paths in choices)

    return find_by_id


def _check_tags(path: Path, tags: np.ndarray, tracks: int, labels: int) -> None:
    if tags.shape != (tracks, labels) or not np.isin(tags, (0, 1)).all():
        raise DatasetError(
            f"{path}: expected 0 or 1 for each of {tracks} tracks and {labels} tags; got {tags.dtype} "
            f"{tags.shape}."
        )


def _text(value):
    return value.decode() if isinstance(value, bytes) else value


def _load_table(path: Path) -> dict:
    table = _load_pickle(path)
    if not isinstance(table, dict):
        raise DatasetError(f"{path}: expected a table by id, got {type(table).__name__}.")
    return {_text(key): value for key, value in table.items()}


def _load_array(path: Path) -> np.ndarray:
    try:
        return np.load(path, allow_pickle=False)
    except (ValueError, EOFError, OSError) as error:
        raise DatasetError(f"{path} cannot be read as an .npy array; fetch it again: {error}") from error


class _Harmless(pickle.Unpickler):
    """Reads lists, tables, text and numpy arrays; a pickle can otherwise run any code."""

    def find_class(self, module: str, name: str):
        if (module, name) in _HARMLESS:
            return super().find_class(module, name)
        raise pickle.UnpicklingError(f"it asks for {module}.{name}, which no list of tracks needs")


def _load_pickle(path: Path):
    try:
        with path.open("rb") as file:
            return _Harmless(file, encoding="bytes").load()
    except (
        pickle.UnpicklingError,
        EOFError,
        OSError,
        ValueError,
        ImportError,
        AttributeError,
        KeyError,
    ) as error:
        raise DatasetError(f"{path} cannot be read as a pickled list; fetch it again: {error}") from error
