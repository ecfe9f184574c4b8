"""Similar music: the nearest neighbours of an embedding among stored ones, by cosine similarity.

Exactly, in one pass over Parquet (`search`): of a million rows in some seconds. Or in milliseconds by a graph
of neighbours (`Index`, HNSW by usearch), which finds nearly all of them.
"""

import json
from collections.abc import Iterator, Mapping
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from music_zoo.embeddings import origin_of
from music_zoo.errors import MusicZooError
from music_zoo.files import temporary_beside

if TYPE_CHECKING:
    import pyarrow

#: Files of an index, a folder.
VECTORS, ROWS, ABOUT = "vectors.usearch", "rows.arrow", "index.json"
BATCH_ROWS = 10_000
#: How many candidates a search keeps in view: more find more of the true neighbours, and take longer.
EXPANSION = 128
_DAMAGED = "expected an index, but its files are damaged; write it again with `music-zoo index`"


class Neighbour(NamedTuple):
    """A stretch of stored audio, in seconds, and its cosine similarity, from -1 to 1."""

    source: str
    start: float
    end: float
    similarity: float


class Stored:
    """Embeddings as `music-zoo embed` or `music-zoo tag --ray` wrote them.

    Args:
        path: A Parquet file, a folder of such, or the folder of a catalogue.

    Attributes:
        origin: Which model made them and how, see `music_zoo.embeddings.origin`.

    Raises:
        MusicZooError: No such files, embeddings of several models or of none that is noted, no pyarrow.
    """

    def __init__(self, path: str | PathLike):
        parquet = _import("pyarrow.parquet")
        path = Path(path)
        if path.is_dir():
            tracks = path / "tracks"
            self._files = sorted((tracks if tracks.is_dir() else path).glob("*.parquet"))
        else:
            self._files = [path]
        if not self._files or not self._files[0].exists():
            raise MusicZooError(
                f"{path}: expected embeddings, a .parquet of `music-zoo embed` or a folder of `music-zoo tag "
                "--ray`; found none."
            )
        for file in self._files:
            try:
                schema = parquet.read_schema(file)
            except ValueError as error:  # pyarrow's own
                raise MusicZooError(f"{file}: expected a Parquet file: {error}") from error
            noted = origin_of(schema)
            if "embedding" not in schema.names or "preset" not in noted:
                raise MusicZooError(
                    f"{file}: expected embeddings that say which preset made them; write them with "
                    "`music-zoo embed` or `music-zoo tag --ray`."
                )
            if file == self._files[0]:
                self.origin = noted
            check_origin(self.origin, noted, str(file))

    def batches(self) -> Iterator[tuple["pyarrow.Table", np.ndarray]]:
        """Yield tables of source, start and end (seconds), with their embeddings `(rows, embedding_dim)`."""
        import pyarrow
        import pyarrow.parquet as parquet

        for path in self._files:
            with parquet.ParquetFile(path) as file:
                has_times = "start" in file.schema_arrow.names  # else rows are whole tracks
                times = ["start", "end"] if has_times else ["duration"]
                for batch in file.iter_batches(BATCH_ROWS, columns=["source", *times, "embedding"]):
                    flat = batch["embedding"].flatten().to_numpy(zero_copy_only=False)
                    start = batch["start"] if has_times else np.zeros(len(batch))
                    rows = {"source": batch["source"], "start": start, "end": batch[times[-1]]}
                    yield pyarrow.table(rows), flat.reshape(len(batch), -1)


def check_origin(expected: Mapping[str, object], got: Mapping[str, object], what: str) -> None:
    """Raise if embeddings are not of the same preset, so that no distance between them means anything.

    Raises:
        MusicZooError: They are not.
    """
    if expected["preset"] != got["preset"]:
        raise MusicZooError(
            f"{what}: expected embeddings of {expected['model']} (weights {expected['preset'][:12]}), got "
            f"those of {got['model']} (weights {got['preset'][:12]}), which cannot be compared; embed both "
            "with the same preset."
        )


def search(stored: Stored, embedding: np.ndarray, n: int = 10) -> list[Neighbour]:
    """Return the `n` most similar rows, most similar first, after a look at each.

    Args:
        stored: What to search.
        embedding: `(embedding_dim,)`, of the same model.
        n: How many.
    """
    query = _unit(embedding)
    best: list[Neighbour] = []
    for rows, vectors in stored.batches():
        similarities = _unit(vectors) @ query
        nearest = np.argsort(-similarities, kind="stable")[:n]
        best += [
            Neighbour(**row, similarity=float(similarity))
            for row, similarity in zip(rows.take(nearest).to_pylist(), similarities[nearest], strict=True)
        ]
        best = sorted(best, key=lambda neighbour: -neighbour.similarity)[:n]
    return best


class Index:
    """A graph of stored embeddings on disk, read where a search leads; a million rows take milliseconds.

    Args:
        folder: That `write` wrote.

    Attributes:
        origin: As of `Stored`.

    Raises:
        MusicZooError: No index, a damaged one, or usearch is not installed.
    """

    def __init__(self, folder: str | PathLike):
        usearch = _import("usearch.index")
        import pyarrow

        folder = Path(folder)
        if not is_index(folder):
            raise MusicZooError(f"{folder}: expected an index; `music-zoo index` writes one.")
        try:
            self.origin = json.loads((folder / ABOUT).read_text("utf-8"))
            graph = usearch.Index.restore(str(folder / VECTORS), view=True)  # None of a file that is none
            self._rows = pyarrow.ipc.open_file(pyarrow.memory_map(str(folder / ROWS))).read_all()
        except (OSError, RuntimeError, ValueError) as error:  # pyarrow's are of these, usearch's too
            raise MusicZooError(f"{folder}: {_DAMAGED}: {error}") from error
        is_noted = isinstance(self.origin, dict) and {"preset", "model"} <= self.origin.keys()
        if graph is None or len(graph) != len(self._rows) or not is_noted:
            raise MusicZooError(f"{folder}: {_DAMAGED}.")
        self._graph = graph
        self._graph.expansion_search = EXPANSION

    def __len__(self) -> int:
        return len(self._graph)

    def search(self, embedding: np.ndarray, n: int = 10) -> list[Neighbour]:
        """Return nearly the `n` most similar rows, most similar first; arguments as of `search`."""
        found = self._graph.search(_unit(embedding), n)
        rows = self._rows.take(found.keys.astype(np.int64)).to_pylist()
        return [
            Neighbour(**row, similarity=1 - float(distance))
            for row, distance in zip(rows, found.distances, strict=True)
        ]

    @staticmethod
    def write(stored: Stored, folder: str | PathLike) -> int:
        """Build an index and return its number of rows; memory holds the graph, 16-bit numbers, once.

        Args:
            stored: What will be found.
            folder: New; it is there only once it is complete.

        Raises:
            MusicZooError: The folder exists, or usearch is not installed.
        """
        usearch = _import("usearch.index")
        import shutil

        import pyarrow

        folder = Path(folder)
        if folder.exists():
            raise MusicZooError(f"{folder}: expected a new folder for the index; this one exists.")
        graph, count = None, 0
        fresh = temporary_beside(folder)
        fresh.mkdir(parents=True)
        try:
            schema = pyarrow.schema(
                [("source", pyarrow.string()), ("start", pyarrow.float64()), ("end", pyarrow.float64())]
            )
            with pyarrow.ipc.new_file(str(fresh / ROWS), schema) as table:
                for rows, vectors in stored.batches():
                    if graph is None:
                        graph = usearch.Index(ndim=vectors.shape[1], metric="cos", dtype="f16")
                    graph.add(np.arange(count, count + len(rows)), _unit(vectors))
                    table.write_table(rows.cast(schema))
                    count += len(rows)
            if graph is None:
                raise MusicZooError("There are no embeddings to index.")
            graph.save(str(fresh / VECTORS))
            (fresh / ABOUT).write_text(json.dumps(stored.origin, indent=1) + "\n", "utf-8")
            fresh.rename(folder)
        finally:
            shutil.rmtree(fresh, ignore_errors=True)
        return count


def is_index(path: Path) -> bool:
    """Whether a folder holds an index."""
    return (path / ABOUT).is_file()


def _unit(vectors: np.ndarray) -> np.ndarray:
    length = np.linalg.norm(vectors, axis=-1, keepdims=True)
    return vectors / np.maximum(length, np.finfo(np.float32).tiny)


def _import(module: str):
    from importlib import import_module

    try:
        return import_module(module)
    except ImportError as error:
        name = module.split(".")[0]
        raise MusicZooError(f'Similar music needs {name}: pip install "music-zoo[similarity]"') from error
