"""Embeddings on disk: a row per file or window, as `.npy` with a table beside it, or as `.parquet`."""

import csv
from pathlib import Path
from typing import NamedTuple

import numpy as np

from music_zoo.errors import MusicZooError
from music_zoo.files import check_replaceable, replacing
from music_zoo.inference import Inference

SUFFIXES = (".npy", ".parquet")


class Row(NamedTuple):
    """One embedding `(embedding_dim,)` and the stretch of audio, in seconds, that it stands for."""

    source: str
    start: float
    end: float
    embedding: np.ndarray


def rows_of(result: Inference, windows: bool) -> list[Row]:
    """Return a row per window, or one row with the mean over all windows."""
    if windows:
        return [
            Row(result.source, float(start), float(end), embedding)
            for (start, end), embedding in zip(result.times, result.outputs, strict=True)
        ]
    return [Row(result.source, 0.0, result.duration, result.outputs.mean(axis=0))]


def check_path(path: Path) -> None:
    """Raise before hours of work, not after, if `write` could not write.

    Raises:
        MusicZooError: Another suffix than those of `SUFFIXES`, or `.parquet` without pyarrow.
        OSError: The folder cannot be written.
    """
    if path.suffix not in SUFFIXES:
        raise MusicZooError(f"{path}: embeddings are written to a name that ends in {' or '.join(SUFFIXES)}.")
    if path.suffix == ".parquet":
        try:
            import pyarrow.parquet  # noqa: F401
        except ImportError as error:
            raise MusicZooError('.parquet needs pyarrow: pip install "music-zoo[parquet]"') from error
    check_replaceable(path)


def write(path: Path, rows: list[Row]) -> list[Path]:
    """Write all rows.

    Returns:
        What was written: a `.parquet` with the columns source, start, end and embedding; or a `.npy` with the
        embeddings, float32 `(rows, embedding_dim)`, and a `.npy.csv` with source, start and end of each.
    """
    if path.suffix == ".parquet":
        with replacing(path) as part:
            _write_parquet(part, rows)
        return [path]
    table = path.with_name(f"{path.name}.csv")  # <stem>.csv may be what `music-zoo tag --csv` wrote
    text = {"newline": "", "encoding": "utf-8", "errors": "backslashreplace"}  # a file's name may be no text
    with replacing(table) as part, part.open("w", **text) as stream:
        csv.writer(stream).writerows([Row._fields[:3], *(row[:3] for row in rows)])
    with replacing(path) as part, part.open("wb") as stream:
        np.save(stream, np.stack([row.embedding for row in rows]))
    return [table, path]


def _write_parquet(path: Path, rows: list[Row]) -> None:
    import pyarrow
    import pyarrow.parquet

    source, start, end, embedding = zip(*rows, strict=True)
    values = pyarrow.array(np.concatenate(embedding))
    vectors = pyarrow.FixedSizeListArray.from_arrays(values, len(embedding[0]))
    columns = {"source": source, "start": start, "end": end, "embedding": vectors}
    pyarrow.parquet.write_table(pyarrow.table(columns), path)
