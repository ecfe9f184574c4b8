"""What goes into a catalogue: audio in folders and lists, on disk or behind URIs."""

import os
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from tempfile import TemporaryDirectory

from music_zoo.audio.find import find_audio
from music_zoo.errors import MusicZooError

#: Names of files that list sources end in this.
LIST_SUFFIX = ".txt"
#: URIs fetched at the same time by one process.
FETCHES = 8


def read_sources(paths: Iterable[Path]) -> list[str]:
    """Return files and URIs, each once, in order.

    Args:
        paths: Audio files, folders to search, and text files (`.txt`, UTF-8) with a path or URI a line.
    """
    sources = {}
    for path in paths:
        found = _lines(path) if path.suffix == LIST_SUFFIX else map(str, find_audio(path))
        sources |= dict.fromkeys(found)
    return list(sources)


def _lines(path: Path) -> Iterator[str]:
    try:
        text = path.read_text("utf-8", errors="surrogateescape")  # as Python reads the names of files
    except FileNotFoundError as error:
        raise MusicZooError(
            f"{path}: expected a list of audio files, a path or URI a line; no such file"
        ) from error
    return (line.strip() for line in text.splitlines() if line.strip())


def is_uri(source: str) -> bool:
    """Whether it is a URI such as `s3://bucket/song.mp3`, not a path."""
    return "://" in source


@contextmanager
def fetched(sources: Sequence[str], folder: str) -> Iterator[list[str | Exception]]:
    """Give a path for each source: of a URI, that of a copy, for as long as the context lasts.

    Args:
        sources: Paths, and URIs that `pyarrow.fs` knows: s3, gs, abfs, hdfs, file.
        folder: That relative paths start from.

    Returns:
        The paths, or why a URI could not be fetched.
    """
    with TemporaryDirectory() as temporary, ThreadPoolExecutor(FETCHES) as pool:

        def local(number: int) -> str | Exception:
            if not is_uri(sources[number]):
                return os.path.join(folder, sources[number])
            try:
                return _copy(sources[number], Path(temporary, str(number)))
            except Exception as error:  # each file system has its own
                return error

        yield list(pool.map(local, range(len(sources))))


def _copy(uri: str, folder: Path) -> str:
    import shutil

    from pyarrow.fs import FileSystem

    system, path = FileSystem.from_uri(uri)
    folder.mkdir()
    copy = folder / PurePosixPath(path).name
    with system.open_input_stream(path) as stream, copy.open("wb") as file:
        shutil.copyfileobj(stream, file, 1 << 20)
    return str(copy)
