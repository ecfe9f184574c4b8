"""A catalogue on disk: Parquet parts that are each written in one step, and the settings they share."""

import json
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from secrets import token_hex
from typing import NamedTuple

import numpy as np
import pyarrow
import pyarrow.parquet as parquet

from music_zoo.embeddings import vectors, with_origin
from music_zoo.errors import MusicZooError
from music_zoo.files import replacing

TRACKS, FAILURES, SETTINGS = "tracks", "failures", "catalogue.json"
#: A part is written when it has so many rows, or when so many seconds have passed: what a crash may cost.
PART_ROWS, PART_SECONDS = 20_000, 60.0

_FAILURE = pyarrow.schema([("source", pyarrow.string()), ("error", pyarrow.string())])


class Track(NamedTuple):
    """One source that could be used: a row of the table of tracks."""

    source: str
    duration: float
    probabilities: np.ndarray  # (classes,)
    embedding: np.ndarray  # (embedding_dim,)
    notes: Sequence[str]


class Store:
    """A folder with `tracks/` and `failures/`, of Parquet parts, and `catalogue.json`; a context manager.

    Every source is in one row of one of both tables. Tracks: source, duration (seconds), label (the most
    probable), probabilities (a struct with a field per label), embedding, notes. Failures: source, error.
    Leaving the context writes what has not been written yet, also after an error.

    Args:
        folder: New, or that of an earlier run with the same settings, which is taken up.
        labels: In the order of the probabilities.
        settings: What rows depend on: plain values, by name; `"model"` and `"preset"` say where the
            embeddings are from, see `music_zoo.embeddings.origin`.
        part_rows: See `PART_ROWS`.
        part_seconds: See `PART_SECONDS`.

    Attributes:
        done: Sources that are in the tables.
        tracks, failures: Number of rows, with those of earlier runs.

    Raises:
        MusicZooError: On entering, if the folder holds something else or was made with other settings.
    """

    def __init__(
        self,
        folder: Path,
        labels: Sequence[str],
        settings: Mapping[str, object],
        part_rows: int = PART_ROWS,
        part_seconds: float = PART_SECONDS,
    ):
        self._folder = folder
        self._labels = list(labels)
        self._settings = {**settings, "labels": self._labels}
        self._part_rows, self._part_seconds = part_rows, part_seconds
        self._rows: list[Track] = []
        self._errors: list[tuple[str, str]] = []
        self._written = time.monotonic()

    def __enter__(self) -> "Store":
        self._take_up()
        for table in (TRACKS, FAILURES):
            (self._folder / table).mkdir(exist_ok=True)
            for left in (self._folder / table).glob(".*.tmp"):  # by a run that was killed
                left.unlink()
        tracks, failures = self._sources(TRACKS), self._sources(FAILURES)
        self.tracks, self.failures = len(tracks), len(failures)
        self.done = {*tracks, *failures}
        return self

    def __exit__(self, *_) -> None:
        self._flush()

    def add(self, track: Track) -> None:
        """Add a track."""
        self._rows.append(track)
        self.tracks += 1
        self._added(track.source)

    def fail(self, source: str, error: str) -> None:
        """Add a failure."""
        self._errors.append((source, error))
        self.failures += 1
        self._added(source)

    def _added(self, source: str) -> None:
        self.done.add(source)
        age = time.monotonic() - self._written
        if len(self._rows) + len(self._errors) >= self._part_rows or age >= self._part_seconds:
            self._flush()

    def _take_up(self) -> None:
        path = self._folder / SETTINGS
        if not path.exists():
            if self._folder.exists() and any(self._folder.iterdir()):
                raise MusicZooError(
                    f"{self._folder}: expected a new folder or a catalogue, found a folder with other files."
                )
            with replacing(path) as temporary:
                temporary.write_text(json.dumps(self._settings, indent=1) + "\n", "utf-8")
            return
        try:
            theirs = dict(json.loads(path.read_text("utf-8")))
        except (ValueError, TypeError) as error:
            raise MusicZooError(f"{path} was not written by music-zoo: choose another folder.") from error
        if theirs != self._settings:
            other = "; ".join(
                f"{name} {theirs.get(name)!r}, now {self._settings.get(name)!r}"
                for name in {**theirs, **self._settings}
                if theirs.get(name) != self._settings.get(name)
            )
            raise MusicZooError(
                f"{self._folder} was made with other settings ({other}). Go on with those, or choose "
                "another folder."
            )

    def _sources(self, table: str) -> list[str]:
        parts = sorted((self._folder / table).glob("*.parquet"))
        return [
            source
            for part in parts
            for source in parquet.read_table(part, columns=["source"])["source"].to_pylist()
        ]

    def _flush(self) -> None:
        if self._rows:
            self._write(TRACKS, self._table())
        if self._errors:
            source, error = zip(*self._errors, strict=True)
            self._write(FAILURES, pyarrow.table({"source": source, "error": error}, schema=_FAILURE))
        self._rows, self._errors = [], []
        self._written = time.monotonic()

    def _write(self, table: str, rows: pyarrow.Table) -> None:
        path = self._folder / table / f"part-{time.strftime('%Y%m%d-%H%M%S')}-{token_hex(4)}.parquet"
        with replacing(path) as temporary:
            parquet.write_table(rows, temporary)

    def _table(self) -> pyarrow.Table:
        source, duration, probabilities, embedding, notes = zip(*self._rows, strict=True)
        by_label = np.stack(probabilities).astype(np.float32)
        columns = {
            "source": pyarrow.array(source, pyarrow.string()),
            "duration": pyarrow.array(duration, pyarrow.float64()),
            "label": pyarrow.array([self._labels[i] for i in by_label.argmax(axis=1)]),
            "probabilities": pyarrow.StructArray.from_arrays(
                [pyarrow.array(column) for column in by_label.T.copy()], self._labels
            ),
            "embedding": vectors(embedding),
            "notes": pyarrow.array(notes, pyarrow.list_(pyarrow.string())),
        }
        return with_origin(pyarrow.table(columns), self._settings)
