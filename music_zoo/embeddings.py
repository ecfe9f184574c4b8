"""Embeddings on disk: a row per file or window, as `.npy` with a table beside it, or as `.parquet`."""

import csv
import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from music_zoo.errors import MusicZooError
from music_zoo.files import check_replaceable, replacing
from music_zoo.hub.preset_files import read_preset
from music_zoo.inference import Inference
from music_zoo.zoo import locate

if TYPE_CHECKING:
    import pyarrow

SUFFIXES = (".npy", ".parquet")
#: Where a Parquet file's schema says which model made its embeddings.
METADATA = b"music_zoo"
_AFTER_EMBEDDING = re.compile(r"(member\d+\.)?(head|calibrator)\.")


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


def write(path: Path, rows: list[Row], origin: Mapping[str, object] | None = None) -> list[Path]:
    """Write all rows.

    Args:
        path: See `check_path`.
        rows: Not none.
        origin: What `origin` returns, noted in a `.parquet`.

    Returns:
        What was written: a `.parquet` with the columns source, start, end and embedding; or a `.npy` with the
        embeddings, float32 `(rows, embedding_dim)`, and a `.npy.csv` with source, start and end of each.
    """
    if path.suffix == ".parquet":
        with replacing(path) as part:
            _write_parquet(part, rows, origin or {})
        return [path]
    table = path.with_name(f"{path.name}.csv")  # <stem>.csv may be what `music-zoo tag --csv` wrote
    text = {"newline": "", "encoding": "utf-8", "errors": "backslashreplace"}  # a file's name may be no text
    with replacing(table) as part, part.open("w", **text) as stream:
        csv.writer(stream).writerows([Row._fields[:3], *(row[:3] for row in rows)])
    with replacing(path) as part, part.open("wb") as stream:
        np.save(stream, np.stack([row.embedding for row in rows]))
    return [table, path]


def _write_parquet(path: Path, rows: list[Row], origin: Mapping[str, object]) -> None:
    import pyarrow
    import pyarrow.parquet

    source, start, end, embedding = zip(*rows, strict=True)
    columns = {"source": source, "start": start, "end": end, "embedding": vectors(embedding)}
    pyarrow.parquet.write_table(with_origin(pyarrow.table(columns), origin), path)


def vectors(embeddings: Sequence[np.ndarray]) -> "pyarrow.Array":
    """Return embeddings of equal length as a column."""
    import pyarrow

    return pyarrow.FixedSizeListArray.from_arrays(
        pyarrow.array(np.concatenate(embeddings).astype(np.float32)), len(embeddings[0])
    )


def with_origin(table: "pyarrow.Table", origin: Mapping[str, object]) -> "pyarrow.Table":
    """Return a table that says in its metadata where its embeddings are from."""
    return table.replace_schema_metadata({METADATA: json.dumps(dict(origin))})


def origin_of(schema: "pyarrow.Schema") -> dict[str, object]:
    """Return what `with_origin` noted; empty if nothing."""
    return json.loads((schema.metadata or {}).get(METADATA, b"{}"))


def origin(model: str | PathLike, hop: float | None, allow_truncated: bool = False) -> dict[str, object]:
    """Return what tells which model made an embedding, and how; imports no Keras.

    Args:
        model: As in `music_zoo.load`.
        hop: As in `AudioModel.embed`.
        allow_truncated: As in `AudioModel.embed`.

    Returns:
        The arguments, and `"preset"`: a digest of the weights that embeddings depend on, so not of head and
        calibrator.
    """
    tensors = read_preset(locate(model)).tensors
    digest = hashlib.sha256()
    for name in sorted(name for name in tensors if not _AFTER_EMBEDDING.match(name)):
        digest.update(f"{name} {tensors[name].dtype} {tensors[name].shape}".encode())
        digest.update(np.ascontiguousarray(tensors[name]).data)
    return {
        "model": str(model),
        "preset": digest.hexdigest(),
        "hop": hop,
        "allow_truncated": allow_truncated,
    }
