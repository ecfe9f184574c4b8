"""What runs on the workers of a catalogue, on blocks that are Arrow tables.

Where decoder and model share processors, one actor does both (`Tagger`): to hand windows to another process
costs as much as to decode them. Where the model has an accelerator, tasks decode on any processor of the
cluster (`decode`), and actors only run the model (`WindowTagger`). A file of any length passes through in
pieces, of which `Sums` puts together what belongs together.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import numpy as np
import pyarrow

from music_zoo.backend import import_keras, limit_threads
from music_zoo.catalogue.sources import fetched
from music_zoo.catalogue.store import Track
from music_zoo.errors import MusicZooError
from music_zoo.inference import Cut, Windows, infer, predict

#: Windows travel in blocks of about so many bytes: large beside what a task costs, small beside the memory.
BLOCK_BYTES = 16 << 20

#: What goes in: `source` is the name in the catalogue, `path` that on disk, which may be no text.
FILES = pyarrow.schema([("source", pyarrow.string()), ("path", pyarrow.binary())])
# Of both stages, where a file ends: how many windows it has had in all, and what there is to say.
_END = [
    ("total", pyarrow.int64()),
    ("notes", pyarrow.list_(pyarrow.string())),
    ("error", pyarrow.string()),
]
# A row is a window or the end of a file. `stop` is the window's end in the audio, in samples.
_WINDOWS = pyarrow.schema(
    [
        ("source", pyarrow.string()),
        ("samples", pyarrow.large_binary()),  # float32
        ("stop", pyarrow.int64()),
        *_END,
    ]
)
# A row is what a block holds of a file: its windows' outputs, added up.
_SUMS = pyarrow.schema(
    [
        ("source", pyarrow.string()),
        ("sum", pyarrow.binary()),  # float64
        ("windows", pyarrow.int64()),
        ("stop", pyarrow.int64()),
        *_END,
    ]
)


class Tagger:
    """The model and decoders, in a process that keeps the model: files to sums over their windows.

    Args:
        model: As in `music_zoo.load`.
        cut: How to cut.
        allow_truncated: As in `music_zoo.inference.infer_together`.
        folder: That relative paths start from.
        backend: Of Keras.
        threads: For the model, where the backend lets itself be told; its own choice if None.
    """

    def __init__(
        self,
        model: str,
        cut: Cut,
        allow_truncated: bool,
        folder: str,
        backend: str | None,
        threads: int | None,
    ):
        if threads:  # before Keras is imported, here and in no process but these
            limit_threads(threads)
        if backend:
            os.environ["KERAS_BACKEND"] = backend
        import_keras()

        from music_zoo import zoo

        self._network = zoo.load(model).view("waveform", ("probabilities", "embedding"))
        self._cut, self._allow_truncated, self._folder = cut, allow_truncated, folder

    def __call__(self, files: pyarrow.Table) -> pyarrow.Table:
        """Return a row as of `_SUMS` for each file, which are as `FILES`."""
        rows, usable = [], []
        with _opened(files, self._folder) as opened:
            for source, path in opened:
                if isinstance(path, Exception):
                    rows.append((source, b"", 0, 0, 0, [], _message(path)))
                else:
                    usable.append((source, path))
            local = [path for _, path in usable]
            results = infer(self._network, local, self._cut, allow_truncated=self._allow_truncated)
            for (source, path), result in zip(usable, results, strict=True):
                if isinstance(result, MusicZooError):
                    rows.append((source, b"", 0, 0, 0, [], _message(result, path, source)))
                    continue
                windows, stop = len(result.outputs), round(result.duration * self._cut.sample_rate)
                added = result.outputs.sum(axis=0, dtype=np.float64).tobytes()
                rows.append((source, added, windows, stop, windows, result.notes, None))
        return _table(rows, _SUMS)


def decode(files: pyarrow.Table, cut: Cut, allow_truncated: bool, folder: str) -> Iterator[pyarrow.Table]:
    """Decode files, as `FILES`, into blocks of windows, as `_WINDOWS`, for `WindowTagger`."""
    rows, size = [], 0
    with _opened(files, folder) as opened:
        for source, path in opened:
            for row in _read(source, path, cut, allow_truncated):
                rows.append(row)
                size += len(row[1] or ())
                if size >= BLOCK_BYTES:
                    yield _table(rows, _WINDOWS)
                    rows, size = [], 0
    if rows:
        yield _table(rows, _WINDOWS)


def _read(source: str, path: str | Exception, cut: Cut, allow_truncated: bool) -> Iterator[tuple]:
    total, notes, error = 0, (), None
    try:
        if isinstance(path, Exception):
            raise path
        windows = Windows(path, source, [cut], allow_truncated)
        for _, piece in windows:
            yield source, memoryview(piece.samples).cast("B"), piece.stop, None, None, None
            total += 1
        (notes,) = windows.notes
    except Exception as raised:
        error = _message(raised, str(path), source)
    yield source, None, None, total, notes, error


class WindowTagger(Tagger):
    """The model alone: blocks of windows to sums over what they hold of a file."""

    def __call__(self, block: pyarrow.Table) -> pyarrow.Table:
        """Return a row as of `_SUMS` for each file that has a window or its end in the block."""
        samples = [np.frombuffer(one.as_buffer(), np.float32) for one in block["samples"] if one.is_valid]
        size = self._cut.batch_size
        batches = (samples[i : i + size] for i in range(0, len(samples), size))
        outputs = (output for batch in batches for output in predict(self._network, batch, size))
        rows: dict[str, list] = {}
        for row in block.drop_columns("samples").to_pylist():
            found = rows.setdefault(row["source"], [row["source"], 0.0, 0, 0, None, None, None])
            if row["total"] is None:
                found[1] = found[1] + next(outputs).astype(np.float64)
                found[2] += 1
                found[3] = max(found[3], row["stop"])
            else:
                found[4:] = row["total"], row["notes"], row["error"]
        for found in rows.values():
            found[1] = np.asarray(found[1]).tobytes() if found[2] else b""
        return _table(list(rows.values()), _SUMS)


@contextmanager
def _opened(files: pyarrow.Table, folder: str) -> Iterator[Iterator[tuple[str, str | Exception]]]:
    paths = [os.fsdecode(path) for path in files["path"].to_pylist()]
    with fetched(paths, folder) as local:
        yield zip(files["source"].to_pylist(), local, strict=True)


def _message(error: Exception, path: str = "", source: str = "") -> str:
    """Say what was wrong with a file, by its name in the catalogue."""
    if isinstance(error, MusicZooError):
        return str(error).replace(path, source) if path else str(error)
    return f"{type(error).__name__}: {error}"


def _table(rows: list, schema: pyarrow.Schema) -> pyarrow.Table:
    return pyarrow.table(dict(zip(schema.names, zip(*rows, strict=True), strict=True)), schema=schema)


@dataclass
class _Sum:
    sum: np.ndarray | float = 0.0
    windows: int = 0
    stop: int = 0
    total: int | None = None
    notes: tuple[str, ...] = ()
    error: str | None = None


@dataclass
class Sums:
    """Puts together the rows that `Tagger` returns, which come in any order.

    Args:
        classes: Number of probabilities.
        sample_rate: Of the windows.
    """

    classes: int
    sample_rate: int
    _open: dict[str, _Sum] = field(default_factory=dict)

    def add(self, rows: pyarrow.Table) -> Iterator[Track | tuple[str, str]]:
        """Yield the files that these rows complete: the track, or source and error."""
        for row in rows.to_pylist():
            source = row["source"]
            found = self._open.setdefault(source, _Sum())
            if row["windows"]:
                found.sum = found.sum + np.frombuffer(row["sum"])
                found.windows += row["windows"]
                found.stop = max(found.stop, row["stop"])
            if row["total"] is not None:
                found.total, found.notes, found.error = row["total"], row["notes"], row["error"]
            if found.total == found.windows:
                del self._open[source]
                yield self._result(source, found)

    def _result(self, source: str, found: _Sum) -> Track | tuple[str, str]:
        if found.error is not None:
            return source, found.error
        mean = (found.sum / found.windows).astype(np.float32)
        duration = found.stop / self.sample_rate
        return Track(source, duration, mean[: self.classes], mean[self.classes :], found.notes)
