"""Features computed once and kept in a folder: an array that is mapped from disk, and what its rows are."""

import json
import os
from collections.abc import Callable
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np

from music_zoo.audio import load
from music_zoo.datasets.audio_dataset import AudioSplit
from music_zoo.datasets.files import require_files
from music_zoo.errors import AudioError, DatasetError
from music_zoo.files import replacing

_ARRAY, _TABLE = "features.npy", "features.json"
_PART, _JOURNAL = "features.npy.part", "features.journal"


class MemoryMappedFeatures:
    """Features in a folder, as `write_features` writes them.

    Only what is looked at is read from disk, so that an array may be larger than memory.

    Args:
        folder: The folder, with `features.npy` and `features.json`.

    Attributes:
        features: `(recordings, ...)`, mapped from disk and read-only.
        ids: Name of each recording.
        front_end: Config of what computed the features, or what else was noted of it.
        sample_rate, seconds: Of the audio that was given to it, in Hz and seconds.
        skipped: Why, of each recording that could not be used.

    Raises:
        DatasetError: A file is missing or damaged, or the two do not belong together.
    """

    def __init__(self, folder: str | PathLike):
        self.folder = Path(folder)
        if (self.folder / _JOURNAL).exists() and not (self.folder / _TABLE).exists():
            raise DatasetError(
                f"{self.folder} is not finished: call write_features again, which goes on there."
            )
        require_files(self.folder, _ARRAY, _TABLE)
        try:
            table = json.loads((self.folder / _TABLE).read_text(encoding="utf-8"))
            self.ids: tuple[str, ...] = tuple(table["ids"])
            self.skipped: dict[str, str] = dict(table["skipped"])
            self.front_end, self.sample_rate = table["front_end"], table["sample_rate"]
            self.seconds = table["seconds"]
            self.features = np.load(self.folder / _ARRAY, mmap_mode="r", allow_pickle=False)
        except (ValueError, KeyError, TypeError, EOFError, OSError) as error:
            raise DatasetError(f"{self.folder}: features that cannot be read: {error!r}") from error
        if len(self.features) != len(self.ids):
            raise DatasetError(
                f"{self.folder}: {_TABLE} names {len(self.ids)} recordings, {_ARRAY} holds "
                f"{len(self.features)}."
            )

    def __len__(self) -> int:
        """Return the number of recordings."""
        return len(self.ids)

    def targets(self, split: AudioSplit) -> np.ndarray:
        """Return the targets of the recordings in a split, in the order of the features.

        Raises:
            DatasetError: The split does not hold all recordings, or has no targets.
        """
        if split.targets is None:
            raise DatasetError("the split has no targets")
        row = {id_: number for number, id_ in enumerate(split.ids)}
        unknown = [id_ for id_ in self.ids if id_ not in row]
        if unknown:
            raise DatasetError(
                f"{self.folder}: {len(unknown)} recordings are not in the split, such as "
                f"{', '.join(unknown[:3])}."
            )
        return split.targets[[row[id_] for id_ in self.ids]]


def write_features(
    split: AudioSplit,
    front_end: Callable[[Any], Any],
    folder: str | PathLike,
    *,
    sample_rate: int | None = None,
    seconds: float | None = None,
    dtype: type | str = np.float32,
    note: Any = None,
    progress: Callable[[int, int], None] | None = None,
) -> MemoryMappedFeatures:
    """Compute features of all files of a split, and keep them in a folder.

    A run that was interrupted goes on where it stopped when it is called again in the same way. What the
    folder held before is replaced in the end. Recordings that cannot be decoded are left out and noted.

    Args:
        split: The files.
        front_end: From audio `(1, samples)` float32 to features `(1, ...)` of one shape for all, such as a
            `music_zoo.layers.FrontEnd` or a view of a classifier.
        folder: Where to write; it is made.
        sample_rate: Of the audio in Hz; None: the front end's own.
        seconds: Take so much of the beginning of each file, and repeat what is shorter; None: all of it.
        dtype: Of what is stored. uint8: features from 0 to 1 are stored as `round(255 * x)`, which
            `music_zoo.datasets.dequantize` and `ImageBatches` reverse.
        note: What to write down of the front end; None: its config if it has one.
        progress: Called with the numbers of recordings done and to do.

    Raises:
        DatasetError: An unfinished run with other recordings or settings is in the folder; no recording can
            be used; features of different shapes, or beyond 0 to 1 where they are to be stored as uint8.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    rate = sample_rate or getattr(front_end, "sample_rate", None)
    if rate is None:
        raise ValueError("sample_rate is missing: give the rate of the audio that the front end takes, in Hz")
    if note is None and hasattr(front_end, "get_config"):
        note = front_end.get_config()
    settings = {
        "front_end": note,
        "sample_rate": rate,
        "seconds": seconds,
        "dtype": np.dtype(dtype).name,
        "recordings": list(split.ids),
    }
    settings = json.loads(json.dumps(settings))  # as it comes back from the journal
    with _Part(folder, settings) as part:
        for number, (path, id_) in enumerate(zip(split.paths, split.ids, strict=True)):
            if number >= len(part.done):
                try:
                    audio, _ = load(path, rate)
                except (AudioError, OSError) as error:
                    part.skip(id_, str(error))
                else:
                    if seconds is not None:
                        samples = round(seconds * rate)
                        audio = audio[:samples] if len(audio) >= samples else np.resize(audio, samples)
                    part.add(id_, _stored(_compute(front_end, audio), np.dtype(dtype), path))
            if progress:
                progress(number + 1, len(split.ids))
        part.finish()
    return MemoryMappedFeatures(folder)


def _compute(front_end: Callable[[Any], Any], audio: np.ndarray) -> np.ndarray:
    features = front_end(audio[None])
    if not isinstance(features, np.ndarray):
        import keras  # what is no array is a tensor of the backend

        features = keras.ops.convert_to_numpy(features)
    return features[0]


def _stored(features: np.ndarray, dtype: np.dtype, path: Path) -> np.ndarray:
    if dtype != np.uint8 or features.dtype == np.uint8:
        return features.astype(dtype)
    if features.min() < 0 or features.max() > 1:
        raise DatasetError(
            f"{path}: to be stored as uint8, features must be from 0 to 1; got {features.min():g} to "
            f"{features.max():g}. Normalize them, or give dtype=numpy.float16."
        )
    return np.rint(255 * features).astype(np.uint8)


class _Part:
    """The unfinished array, and a journal of what is in it, which begins with the settings."""

    def __init__(self, folder: Path, settings: dict):
        self.folder, self.settings = folder, settings
        self.done: list[dict] = []
        self._shape: tuple[int, ...] | None = None
        self._array = None
        self._resume()

    def _resume(self) -> None:
        journal, part = self.folder / _JOURNAL, self.folder / _PART
        lines = journal.read_bytes().split(b"\n")[:-1] if journal.exists() else []  # the last may be torn
        if lines:
            found, *self.done = map(json.loads, lines)
            if found != self.settings:
                raise DatasetError(
                    f"{self.folder} holds an unfinished run with other recordings or settings: call "
                    f"write_features as then, or delete {_JOURNAL} and {_PART} there."
                )
        stored = [entry for entry in self.done if "shape" in entry]
        self._shape = tuple(stored[0]["shape"]) if stored else None
        is_in_place = len(self.done) == len(self.settings["recordings"]) and not part.exists()
        if stored and not is_in_place:  # else the run was interrupted between its last steps
            end = len(self._header(0)) + len(stored) * self._row_bytes()
            if not part.is_file() or part.stat().st_size < end:
                raise DatasetError(f"{part} is cut short: delete it and {_JOURNAL}, and begin again.")
            self._array = part.open("r+b")
            self._array.truncate(end)
            self._array.seek(end)
        self._journal = journal.open("ab")
        # What was torn is cut off.
        self._journal.truncate(sum(len(line) + 1 for line in lines))
        if not lines:
            self._note(self.settings)

    def __enter__(self) -> "_Part":
        return self

    def __exit__(self, *_) -> None:
        self._journal.close()
        if self._array is not None:
            self._array.close()

    def _row_bytes(self) -> int:
        return int(np.prod(self._shape, dtype=np.int64)) * np.dtype(self.settings["dtype"]).itemsize

    def _header(self, rows: int) -> bytes:
        """The head of an `.npy` file (format 1.0): of one length, so that it can be rewritten."""
        dtype = np.lib.format.dtype_to_descr(np.dtype(self.settings["dtype"]))
        text = repr({"descr": dtype, "fortran_order": False, "shape": (rows, *self._shape)})
        # 10 bytes (what it is, version, length of the text) and the text: a multiple of 64 together.
        return b"\x93NUMPY\x01\x00" + (502).to_bytes(2, "little") + text.ljust(501).encode() + b"\n"

    def _note(self, entry: dict) -> None:
        self._journal.write(json.dumps(entry).encode() + b"\n")
        self._journal.flush()

    def skip(self, id_: str, why: str) -> None:
        """Note a recording that cannot be used."""
        self.done.append({"id": id_, "skipped": why})
        self._note(self.done[-1])

    def add(self, id_: str, row: np.ndarray) -> None:
        """Append a row, then note it."""
        if self._shape is None:
            self._shape = row.shape
            self._array = (self.folder / _PART).open("w+b")
            self._array.write(self._header(0))
        elif row.shape != self._shape:
            raise DatasetError(
                f"{id_}: features of shape {row.shape}, those before are {self._shape}; give `seconds`, so "
                "that all are of one length."
            )
        self._array.write(np.ascontiguousarray(row).tobytes())
        self._array.flush()
        self.done.append({"id": id_, "shape": list(row.shape)})
        self._note(self.done[-1])

    def finish(self) -> None:
        """Put array and table in place."""
        ids = [entry["id"] for entry in self.done if "shape" in entry]
        skipped = {entry["id"]: entry["skipped"] for entry in self.done if "skipped" in entry}
        if not ids:
            why = next(iter(skipped.values()), "the split is empty")
            raise DatasetError(f"none of {len(self.done)} recordings can be used: {why}")
        table = {**self.settings, "ids": ids, "skipped": skipped}
        del table["recordings"], table["dtype"]
        if self._array is not None:
            self._array.seek(0)
            self._array.write(self._header(len(ids)))
            self._array.close()
            # The old table goes first: it never stands beside an array that is not its own.
            (self.folder / _TABLE).unlink(missing_ok=True)
            os.replace(self.folder / _PART, self.folder / _ARRAY)
        with replacing(self.folder / _TABLE) as temporary:
            temporary.write_text(json.dumps(table), encoding="utf-8")
        self._journal.close()
        (self.folder / _JOURNAL).unlink()
