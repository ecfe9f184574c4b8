"""Files of any length and number through models in bounded memory: decoded ahead, batched across files."""

import queue
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from heapq import merge
from itertools import count, islice
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


@dataclass(frozen=True)
class Cut:
    """How audio is cut into the windows of a model.

    Attributes:
        sample_rate: In Hz.
        window: Length of a window in samples.
        hop: Samples from the start of one window to that of the next.
    """

    sample_rate: int
    window: int
    hop: int

    @classmethod
    def of(cls, model, hop: float | None = None) -> "Cut":
        """Return that of a model.

        Args:
            model: With `window` in seconds and `sample_rate` in Hz.
            hop: In seconds; the window's length if None.

        Raises:
            ValueError: `hop` is not above 0, or longer than the window.
        """
        if hop is not None and not 0 < hop <= model.window:
            raise ValueError(f"`hop` must lie between 0 and the window of {model.window} s, got {hop}.")
        rate = model.sample_rate
        return cls(rate, round(model.window * rate), max(1, round((hop or model.window) * rate)))

    @property
    def batch_size(self) -> int:
        """Windows in a batch, at most."""
        return max(1, BATCH_SAMPLES // self.window)


def infer(model, audios: Iterable, cut: Cut, **options) -> Iterator[Inference | MusicZooError]:
    """Run one model over all windows of all audio; arguments and results as of `infer_together`."""
    for result in infer_together([model], audios, [cut], **options):
        yield result if isinstance(result, MusicZooError) else result[0]


def infer_together(
    models: Sequence,
    audios: Iterable,
    cuts: Sequence[Cut],
    *,
    allow_truncated: bool = False,
    progress: Callable[[float], None] | None = None,
) -> Iterator[tuple[Inference, ...] | MusicZooError]:
    """Run models over all windows of all audio, which is decoded once for all of them.

    Args:
        models: Each a `keras.Model` from windows `(batch, window)` to `(batch, ...)`, or like one.
        audios: Files, or pairs of an array (`(samples,)` or `(channels, samples)`) and its sample rate in Hz.
        cuts: What windows each model takes.
        allow_truncated: Take what can be decoded of a file that ends before its header says.
        progress: Called with the seconds of audio that have newly gone through the models; over all windows
            of a file they add up to its duration.

    Yields:
        For each input, in order, the result of each model or, where it cannot be used, the error.
    """
    room = sum(cut.batch_size for cut in cuts)
    stop = threading.Event()

    def open_feed(audio) -> _Feed:
        feed = _Feed(audio, room, stop)
        feed.start(cuts, allow_truncated)
        return feed

    waiting: deque[_Item] = deque()
    batches: list[list[tuple[_Item, Window]]] = [[] for _ in models]

    def run_batch(number: int) -> None:
        batch, cut = batches[number], cuts[number]
        if not batch:
            return
        outputs = predict(models[number], [window.samples for _, window in batch], cut.batch_size)
        pairs = zip(batch, outputs, strict=True)
        fresh = sum(item.add(number, window, output) for (item, window), output in pairs)
        batch.clear()
        if progress:
            progress(fresh / cut.sample_rate / len(models))

    def finished() -> Iterator[tuple[Inference, ...] | MusicZooError]:
        while waiting and waiting[0].is_complete:
            yield waiting.popleft().result(cuts)

    feeds: deque[_Feed] = deque()
    try:
        todo = iter(audios)
        feeds.extend(map(open_feed, islice(todo, min(MAX_WORKERS, thread_limit()))))
        while feeds:
            item = _Item(feeds[0], [_Outputs() for _ in models])
            waiting.append(item)
            for number, piece in item.read():
                batches[number].append((item, piece))
                if len(batches[number]) == cuts[number].batch_size:
                    run_batch(number)
                    yield from finished()
            feeds.popleft().thread.join()
            feeds.extend(map(open_feed, islice(todo, 1)))
            yield from finished()
        for number in range(len(models)):
            run_batch(number)
        yield from finished()
    finally:
        stop.set()
        for feed in feeds:
            feed.thread.join()


def classify_together(
    models: Sequence,
    audios: Iterable,
    *,
    hop: float | None = None,
    min_confidence: float | None = None,
    **options,
) -> Iterator[tuple[Prediction, ...] | MusicZooError]:
    """Classify many files by several models, each file decoded once.

    Args:
        models: Classifiers, ensembles or exported files (`OnnxModel`).
        audios: As of `infer_together`.
        hop: Seconds from the start of one window to that of the next; each model's window if None.
        min_confidence: Each model abstains where it is less sure than this; None: they never do.
        **options: `allow_truncated` and `progress`, as of `infer_together`.

    Yields:
        For each input, in order, a prediction of each model or, where it cannot be used, the error.

    Raises:
        ValueError: `hop` or `min_confidence` out of range.
    """
    _check_confidence(min_confidence)
    cuts = [Cut.of(model, hop) for model in models]
    results = infer_together([model.view() for model in models], audios, cuts, **options)
    return (
        result
        if isinstance(result, MusicZooError)
        else tuple(_prediction(*pair, min_confidence) for pair in zip(models, result, strict=True))
        for result in results
    )


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
    _check_confidence(min_confidence)
    return (
        result if isinstance(result, MusicZooError) else _prediction(model, result, min_confidence)
        for result in results
    )


def _check_confidence(min_confidence: float | None) -> None:
    if min_confidence is not None and not 0 <= min_confidence <= 1:
        raise ValueError(f"`min_confidence` must lie between 0 and 1, got {min_confidence}.")


def _prediction(model, result: Inference, min_confidence: float | None) -> Prediction:
    return Prediction(
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
        cuts: The kinds of windows, one or several.
        allow_truncated: As in `infer_together`.

    Attributes:
        notes: Once all windows have been read: of each kind, what to know before trusting what a model makes
            of them.
    """

    def __init__(self, audio, source: str, cuts: Sequence[Cut], allow_truncated: bool = False):
        self._audio, self._source, self._cuts = audio, source, cuts
        self._allow_truncated = allow_truncated
        self.notes: list[tuple[str, ...]] = []

    def __iter__(self) -> Iterator[tuple[int, Window]]:
        """Yield number of the kind and window, in the order in which windows end."""
        blocks, own_rate = _open(self._audio, self._allow_truncated)
        listened = _Listened(blocks)
        heard = _shared(listened, len(self._cuts))
        kinds = [self._windows(*each, own_rate) for each in zip(count(), heard, self._cuts)]
        yield from merge(*kinds, key=lambda entry: entry[1].stop / self._cuts[entry[0]].sample_rate)
        self.notes = [_notes(listened.is_constant, own_rate, cut.sample_rate) for cut in self._cuts]

    def _windows(
        self, number: int, blocks: Iterable[np.ndarray], cut: Cut, own_rate: int
    ) -> Iterator[tuple[int, Window]]:
        for piece in split(resample_blocks(blocks, own_rate, cut.sample_rate), cut.window, cut.hop):
            if piece.stop < min(cut.window, MIN_SECONDS * cut.sample_rate):
                raise AudioError(
                    f"{self._source}: {piece.stop / cut.sample_rate:.4f} s of audio are too short to "
                    f"classify; expected at least {MIN_SECONDS} s."
                )
            yield number, piece


@dataclass
class _End:
    """The last thing in a feed: how many windows of each kind there were, or why it ended early."""

    windows: list[int]
    notes: Sequence[tuple[str, ...]] = ()
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

    def fill(self, cuts: Sequence[Cut], allow_truncated: bool) -> None:
        end = _End([0] * len(cuts))
        windows = Windows(self.audio, self.source, cuts, allow_truncated)
        try:
            for number, piece in windows:
                if not self._put((number, piece)):
                    return
                end.windows[number] += 1
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


def _shared(blocks: Iterable[np.ndarray], listeners: int) -> list[Iterator[np.ndarray]]:
    """Return an iterator over the blocks for each listener, which keep what another has not heard yet.

    `itertools.tee` would keep the last 57 blocks that all have heard, too.
    """
    source, unheard = iter(blocks), [deque() for _ in range(listeners)]

    def listen(own: deque) -> Iterator[np.ndarray]:
        while True:
            if not own:
                block = next(source, None)
                if block is None:
                    return
                for each in unheard:
                    each.append(block)
            yield own.popleft()

    return [listen(each) for each in unheard]


@dataclass
class _Outputs:
    """What one model has made of one piece of audio so far."""

    bounds: list[tuple[int, int]] = field(default_factory=list)
    rows: list[np.ndarray] = field(default_factory=list)


@dataclass
class _Item:
    """One piece of audio on its way through the models."""

    feed: _Feed
    outputs: list[_Outputs]
    end: _End | None = None

    def read(self) -> Iterator[tuple[int, Window]]:
        while not isinstance(entry := self.feed.queue.get(), _End):
            yield entry
        if entry.error is not None and not isinstance(entry.error, MusicZooError):
            raise entry.error
        self.end = entry

    def add(self, number: int, window: Window, output: np.ndarray) -> int:
        """Keep a model's output of the next window; return how many samples were in no window before it."""
        bounds = self.outputs[number].bounds
        known = bounds[-1][1] if bounds else 0
        bounds.append((window.start, window.stop))
        self.outputs[number].rows.append(output)
        return window.stop - known

    @property
    def is_complete(self) -> bool:
        if self.end is None:
            return False
        return self.end.error is not None or [len(each.rows) for each in self.outputs] == self.end.windows

    def result(self, cuts: Sequence[Cut]) -> tuple[Inference, ...] | MusicZooError:
        if self.end.error is not None:
            return self.end.error
        results = []
        for made, cut, notes in zip(self.outputs, cuts, self.end.notes, strict=True):
            seconds = times(made.bounds, cut.sample_rate)
            duration = float(seconds[-1, 1])
            results.append(Inference(self.feed.source, np.stack(made.rows), seconds, duration, notes))
        return tuple(results)


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
