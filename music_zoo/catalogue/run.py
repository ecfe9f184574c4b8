"""A catalogue from beginning to end: sources through decoders and models on Ray, into Parquet parts."""

import logging
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from os import PathLike
from pathlib import Path

from music_zoo.embeddings import origin
from music_zoo.errors import MusicZooError
from music_zoo.hub.files import WEIGHTS_FILE
from music_zoo.hub.preset_files import read_preset
from music_zoo.hub.schema import FileRecord
from music_zoo.inference import Cut
from music_zoo.zoo import locate

#: Files that one task decodes: enough to hide what a task costs, few enough to share out evenly.
FILES_PER_TASK = 16
#: Memory for blocks on their way between the processes of this machine, in bytes.
STORE_BYTES = 512 << 20


@dataclass(frozen=True)
class Written:
    """What a run has left in the folder of a catalogue.

    Attributes:
        tracks, failures: Rows of the two tables, with those of earlier runs.
        earlier: How many of both an earlier run had written.
    """

    tracks: int
    failures: int
    earlier: int


@dataclass(frozen=True)
class _About:
    """What decoders need to know of a model, read from its config: Keras is imported by actors only."""

    labels: tuple[str, ...]
    sample_rate: int
    window: float

    @classmethod
    def of(cls, folder: Path) -> "_About":
        config = read_preset(folder).config
        config = config[config.get("kind", "classifier")]
        return cls(tuple(config["labels"]), config["front_end"]["sample_rate"], config["window"])


def write_catalogue(
    sources: Sequence[str],
    folder: str | PathLike,
    *,
    model: str,
    hop: float | None = None,
    allow_truncated: bool = False,
    actors: int | None = None,
    gpus: float = 0,
    progress: Callable[[int, int], None] | None = None,
    **parts,
) -> Written:
    """Classify and embed many files on Ray, each once, into `tracks/` and `failures/` of a folder.

    On this machine, or on the cluster that `RAY_ADDRESS` names or Ray is connected to; there, every machine
    needs music_zoo, the model and the files. A run that was interrupted, even killed, is taken up by running
    it again. Files that could not be used are not tried again: to do so, delete `failures/`.

    Args:
        sources: Paths, from the current folder, and URIs, see `read_sources`.
        folder: Of the catalogue, see `Store` for what will be in it. Rows are in no particular order.
        model: A preset's name, a preset folder or a Hub reference, as in `music_zoo.load`.
        hop: Seconds from the start of one window to that of the next; the window's length if None.
        allow_truncated: Take what can be decoded of a file that ends before its header says.
        actors: How many processes hold the model; one for every processor if None, or, with `gpus`, as many
            as the accelerators are enough for.
        gpus: Accelerators, or which share of one, that each of them has; then decoding has all processors.
        progress: Called with how many sources are done, and how many there were to do in this run.
        **parts: `part_rows` and `part_seconds`, see `Store`.

    Raises:
        MusicZooError: Ray is not installed, or the folder was made with other settings.
        ValueError: `hop` out of range.
    """
    ray = _import_ray()
    from music_zoo.catalogue.stages import BLOCK_BYTES, FILES, Sums, Tagger, WindowTagger, decode
    from music_zoo.catalogue.store import Store, Track

    preset = locate(model)
    about = _About.of(preset)
    cut = Cut.of(about, hop)
    weights = FileRecord.of(preset / WEIGHTS_FILE).sha256
    settings = origin(model, hop, allow_truncated) | {"weights": weights}
    with Store(Path(folder), about.labels, settings, **parts) as store:
        earlier = len(store.done)
        names = {_as_text(source): source for source in sources}
        todo = [(name, os.fsencode(source)) for name, source in names.items() if name not in store.done]
        if todo:
            with _connected(ray):
                data = ray.data.from_arrow(_blocks(todo, FILES))
                data.context.enable_progress_bars = False
                data.context.target_max_block_size = BLOCK_BYTES  # so `decode`'s are neither joined nor cut
                stages = {"batch_size": None, "batch_format": "pyarrow"}
                decoding = {"cut": cut, "allow_truncated": allow_truncated, "folder": os.getcwd()}
                if gpus:
                    data = data.map_batches(decode, fn_kwargs=decoding, num_cpus=1, **stages)
                if actors is None:
                    has = ray.cluster_resources()
                    actors = max(1, int(has.get("GPU", 0) / gpus if gpus else has["CPU"]))
                own = {"backend": os.environ.get("KERAS_BACKEND"), "threads": None if gpus else 1}
                done = data.map_batches(
                    WindowTagger if gpus else Tagger,
                    fn_constructor_kwargs={"model": model, **decoding, **own},
                    compute=ray.data.ActorPoolStrategy(size=actors),
                    num_cpus=0 if gpus else 1,
                    num_gpus=gpus,
                    **stages,
                ).iter_batches(**stages)
                sums = Sums(len(about.labels), about.sample_rate)
                for rows in done:
                    for result in sums.add(rows):
                        if isinstance(result, Track):
                            store.add(result)
                        else:
                            store.fail(*result)
                        if progress:
                            progress(len(store.done) - earlier, len(todo))
    return Written(store.tracks, store.failures, earlier)


def _import_ray():
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # nothing about this run leaves the machine
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")  # Ray warns of how its own parts are used
    try:
        import pyarrow.parquet  # noqa: F401
        import ray.data
    except ImportError as error:
        raise MusicZooError('A catalogue needs Ray: pip install "music-zoo[ray]"') from error
    logging.getLogger("ray.data").setLevel(logging.ERROR)
    return ray


@contextmanager
def _connected(ray) -> Iterator[None]:
    if ray.is_initialized():
        yield
        return
    settings = {"log_to_driver": False, "logging_level": logging.ERROR}
    if not os.environ.get("RAY_ADDRESS"):
        settings |= {
            "address": "local",
            "num_cpus": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
            "include_dashboard": False,
            "object_store_memory": STORE_BYTES,
        }
    ray.init(**settings)
    try:
        yield
    finally:
        ray.shutdown()


def _blocks(rows: list[tuple[str, bytes]], schema) -> list:
    import pyarrow

    names, paths = zip(*rows, strict=True)
    return [
        pyarrow.table(
            {"source": names[i : i + FILES_PER_TASK], "path": paths[i : i + FILES_PER_TASK]}, schema=schema
        )
        for i in range(0, len(rows), FILES_PER_TASK)
    ]


def _as_text(source: str) -> str:
    """Return a name that Parquet can hold: that of a file may be no text."""
    return source.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
