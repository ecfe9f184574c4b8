"""Files of any length and number through a model in bounded memory: decoded ahead, batched across files."""

import queue
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from os import PathLike, fspath

import numpy as np

from music_zoo.audio import Window, from_array, probe, resample_blocks, split, stream, times
from music_zoo.backend import thread_limit
from music_zoo.errors import AudioError, MusicZooError
from music_zoo.prediction import Prediction

#: Samples in one batch: one window of 30 s at 44.1 kHz. More are no faster on a CPU and cost 80 MB a window.
BATCH_SAMPLES = 1_400_000
#: Files decoded at the same time, at most; no more than there are threads.
MAX_WORKERS = 8
#: Audio shorter than this, in seconds, is refused: no repetition makes music of a click.
MIN_SECONDS = 0.1


@dataclass
class Inference:
    """What a model made of one piece of audio.

    Attributes:
        source: The file, or `"array"`.
        outputs: One row per window, `(windows, ...)`.
        times: Start and end of each window in seconds, `(windows, 2)`.
        duration: In seconds.
        notes: What a reader should know before trusting the outputs.
    """

    source: str
    outputs: np.ndarray
    times: np.ndarray
    duration: float
    notes: tuple[str, ...]


def infer(
    model,
    audios: Iterable,
    *,
    sample_rate: int,
    window: int,
    hop: int,
    allow_truncated: bool = False,
    progress: Callable[[float], None] | None = None,
) -> Iterator[Inference | MusicZooError]:
    """Run a model over all windows of all audio.

    Args:
        model: A `keras.Model` from windows `(batch, window)` to `(batch, ...)`.
        audios: Files, or pairs of an array (`(samples,)` or `(channels, samples)`) and its sample rate in Hz.
        sample_rate: That the model expects, in Hz.
        window: Length of a window in samples.
        hop: Samples from the start of one window to that of the next.
        allow_truncated: Take what can be decoded of a file that ends before its header says.
        progress: Called with the seconds of audio that have newly gone through the model; over all windows of
            a file they add up to its duration.

    Yields:
        For each input, in order, its result or, where it cannot be used, the error.
    """
    batch_size = max(1, BATCH_SAMPLES // window)
    stop = threading.Event()

    def open_feed(audio) -> _Feed:
        feed = _Feed(audio, batch_size, stop)
        feed.start(sample_rate, window, hop, allow_truncated)
        return feed

    waiting: deque[_Item] = deque()
    batch: list[tuple[_Item, Window]] = []

    def run_batch() -> None:
        if not batch:
            return
        outputs = predict(model, [window.samples for _, window in batch], batch_size)
        fresh = sum(item.add(window, output) for (item, window), output in zip(batch, outputs, strict=True))
        batch.clear()
        if progress:
            progress(fresh / sample_rate)

    def finished() -> Iterator[Inference | MusicZooError]:
        while waiting and waiting[0].is_complete:
            yield waiting.popleft().result(sample_rate)

    feeds: deque[_Feed] = deque()
    try:
        todo = iter(audios)
        feeds.extend(map(open_feed, islice(todo, min(MAX_WORKERS, thread_limit()))))
        while feeds:
            item = _Item(feeds[0])
            waiting.append(item)
            for piece in item.read():
                batch.append((item, piece))
                if len(batch) == batch_size:
                    run_batch()
                    yield from finished()
            feeds.popleft().thread.join()
            feeds.extend(map(open_feed, islice(todo, 1)))
            yield from finished()
        run_batch()
        yield from finished()
    finally:
        stop.set()
        for feed in feeds:
            feed.thread.join()


def hop_samples(model, hop: float | None) -> int:
    """Return the samples from the start of one window to that of the next.

    Args:
        model: With `window` in seconds and `sample_rate` in Hz.
        hop: In seconds; the window's length if None.

    Raises:
        ValueError: Not above 0, or longer than the window.
    """
    if hop is not None and not 0 < hop <= model.window:
        raise ValueError(f"`hop` must lie between 0 and the window of {model.window} s, got {hop}.")
    return max(1, round((hop or model.window) * model.sample_rate))


def predict(model, windows: Sequence[np.ndarray], batch_size: int) -> np.ndarray:
    """Run one batch, filled up to a power of two so that few shapes are ever compiled.

    Args:
        model: From windows `(batch, window)` to `(batch, ...)`.
        windows: At most `batch_size`, each `(window,)`.
        batch_size: The most that a batch may have.
    """
    size = min(batch_size, 1 << (len(windows) - 1).bit_length())
    batch = np.zeros((size, len(windows[0])), np.float32)
    batch[: len(windows)] = windows
    return np.asarray(model.predict_on_batch(batch))[: len(windows)]


def predictions(
    model, results: Iterable[Inference | MusicZooError], min_confidence: float | None
) -> Iterator[Prediction | MusicZooError]:
    """Make predictions of the probabilities that a model with `name`, `task` and `labels` inferred.

    Raises:
        ValueError: `min_confidence` is no probability.
    """
    if min_confidence is not None and not 0 <= min_confidence <= 1:
        raise ValueError(f"`min_confidence` must lie between 0 and 1, got {min_confidence}.")
    for result in results:
        if isinstance(result, MusicZooError):
            yield result
        else:
            yield Prediction(
                source=result.source,
                model=model.name,
                task=model.task,
                labels=model.labels,
                probabilities=result.outputs.mean(axis=0),
                taggram=result.outputs,
                times=result.times,
                duration=result.duration,
                notes=result.notes,
                min_confidence=min_confidence,
            )


class Windows:
    """The windows of one piece of audio, decoded as they are asked for.

    Args:
        audio: A file, or a pair of an array and its sample rate.
        source: What errors call it.
        sample_rate: Of the windows, in Hz.
        window: Length of a window in samples.
        hop: Samples from the start of one window to that of the next.
        allow_truncated: As in `infer`.

    Attributes:
        notes: Once all windows have been read: what to know before trusting what a model makes of them.
    """

    def __init__(
        self, audio, source: str, sample_rate: int, window: int, hop: int, allow_truncated: bool = False
    ):
        self._audio, self._source = audio, source
        self._sample_rate, self._window, self._hop = sample_rate, window, hop
        self._allow_truncated = allow_truncated
        self.notes: tuple[str, ...] = ()

    def __iter__(self) -> Iterator[Window]:
        blocks, own_rate = _open(self._audio, self._allow_truncated)
        listened = _Listened(blocks)
        for piece in split(resample_blocks(listened, own_rate, self._sample_rate), self._window, self._hop):
            if piece.stop < min(self._window, MIN_SECONDS * self._sample_rate):
                raise AudioError(
                    f"{self._source}: {piece.stop / self._sample_rate:.4f} s of audio are too short to "
                    f"classify; expected at least {MIN_SECONDS} s."
                )
            yield piece
        self.notes = _notes(listened.is_constant, own_rate, self._sample_rate)


@dataclass
class _End:
    """The last thing in a feed: how many windows there were, or why it ended early."""

    windows: int = 0
    notes: tuple[str, ...] = ()
    error: BaseException | None = None


class _Feed:
    """The windows of one piece of audio, decoded by a worker into a short queue."""

    def __init__(self, audio, length: int, stop: threading.Event):
        is_file = isinstance(audio, str | PathLike)
        self.audio = audio if is_file or isinstance(audio, tuple) else (audio, None)
        self.source = fspath(audio) if is_file else "array"
        self.queue: queue.Queue = queue.Queue(maxsize=length)
        self._stop = stop

    def start(self, *settings) -> None:
        """Start a worker that runs `fill`: a daemon, so that Python can exit while it waits."""
        self.thread = threading.Thread(target=self.fill, args=settings, name="decode", daemon=True)
        self.thread.start()

    def fill(self, sample_rate: int, window: int, hop: int, allow_truncated: bool) -> None:
        end = _End()
        windows = Windows(self.audio, self.source, sample_rate, window, hop, allow_truncated)
        try:
            for piece in windows:
                if not self._put(piece):
                    return
                end.windows += 1
            end.notes = windows.notes
        except BaseException as error:  # handed to the reader, which raises what is no fault of the audio
            end.error = error
        self._put(end)

    def _put(self, entry) -> bool:
        """Put into the queue once there is room; return whether anybody still wants it."""
        while not self._stop.is_set():
            try:
                self.queue.put(entry, timeout=0.2)
                return True
            except queue.Full:
                continue
        return False


class _Listened:
    """Blocks as they are, with an ear on whether all of their samples are the same.

    It listens before resampling, which makes a constant ring at its ends.
    """

    def __init__(self, blocks: Iterable[np.ndarray]):
        self._blocks = blocks
        self._low, self._high = np.inf, -np.inf

    def __iter__(self) -> Iterator[np.ndarray]:
        for block in self._blocks:
            self._low, self._high = min(self._low, block.min()), max(self._high, block.max())
            yield block

    @property
    def is_constant(self) -> bool:
        """Whether no two samples differed."""
        return self._low >= self._high


@dataclass
class _Item:
    """One piece of audio on its way through the model."""

    feed: _Feed
    bounds: list[tuple[int, int]] = field(default_factory=list)
    outputs: list[np.ndarray] = field(default_factory=list)
    end: _End | None = None

    def read(self) -> Iterator[Window]:
        while not isinstance(entry := self.feed.queue.get(), _End):
            yield entry
        if entry.error is not None and not isinstance(entry.error, MusicZooError):
            raise entry.error
        self.end = entry

    def add(self, window: Window, output: np.ndarray) -> int:
        """Keep the output of the next window; return how many samples were in no window before it."""
        known = self.bounds[-1][1] if self.bounds else 0
        self.bounds.append((window.start, window.stop))
        self.outputs.append(output)
        return window.stop - known

    @property
    def is_complete(self) -> bool:
        return self.end is not None and (self.end.error is not None or len(self.outputs) == self.end.windows)

    def result(self, sample_rate: int) -> Inference | MusicZooError:
        if self.end.error is not None:
            return self.end.error
        seconds = times(self.bounds, sample_rate)
        duration = float(seconds[-1, 1])
        return Inference(self.feed.source, np.stack(self.outputs), seconds, duration, self.end.notes)


def _open(audio, allow_truncated: bool) -> tuple[Iterable[np.ndarray], int]:
    """Return blocks at the audio's own rate, and that rate."""
    if isinstance(audio, tuple):
        samples, own_rate = audio
        return [from_array(samples, own_rate)], own_rate
    return stream(audio, allow_truncated=allow_truncated), probe(audio).sample_rate


def _notes(constant: bool, own_rate: int, sample_rate: int) -> tuple[str, ...]:
    notes = []
    if constant:
        notes.append("the audio is silent or constant: the probabilities say nothing about it.")
    if own_rate < sample_rate / 2:
        notes.append(
            f"recorded at {own_rate} Hz, so nothing above {own_rate / 2:.0f} Hz is left of what a classifier "
            f"for {sample_rate} Hz listens to: expect worse probabilities."
        )
    return tuple(notes)
