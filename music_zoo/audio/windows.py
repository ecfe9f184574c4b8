"""Windows: the pieces of fixed length that a model sees, cut from a stream of audio, and their times."""

from collections.abc import Iterable, Iterator, Sequence
from typing import Literal, NamedTuple

import numpy as np

from music_zoo.errors import AudioError


class Window(NamedTuple):
    """One window of a signal.

    `start` and `stop` bound, in samples, the part of the signal that the window shows: `window` samples, or
    the whole signal where that is shorter. The last window ends with the signal, so its `stop` is the length
    of the signal, which nobody knows before a stream has ended.
    """

    start: int
    stop: int
    samples: np.ndarray  # float32 (window,)


def split(
    blocks: Iterable[np.ndarray], window: int, hop: int, pad: Literal["repeat", "zeros"] = "repeat"
) -> Iterator[Window]:
    """Cut a stream of audio into windows.

    - A window starts every `hop` samples, the first at 0.
    - What is left at the end, too short for a window, is kept: one more window is moved back so that it ends
      with the audio. Nothing is padded, and every sample lies in at least one window.
    - Audio shorter than one window gives one window: repeated until it is full, or with zeros after it.

    So n samples give 1 + max(0, ceil((n - window) / hop)) windows, however the stream was cut into blocks.
    Memory holds one window and one hop besides the current block.

    Args:
        blocks: Consecutive pieces of one signal, each of shape (samples,), as from `music_zoo.audio.stream`;
            for a signal in memory, `[audio]`.
        window: Length of a window in samples.
        hop: Distance from one start to the next in samples, at most `window`.
        pad: What fills the window when the whole signal is shorter, `"repeat"` or `"zeros"`.

    Yields:
        The windows in order of time, each with memory of its own.

    Raises:
        ValueError: `window`, `hop` or `pad` out of range.
        AudioError: Not one sample in the stream.
    """
    if not 1 <= hop <= window:
        raise ValueError(f"expected 1 <= hop <= window (in samples), got hop={hop} and window={window}")
    if pad not in ("repeat", "zeros"):
        raise ValueError(f"pad must be 'repeat' or 'zeros', got {pad!r}")

    # The buffer holds the window last given, from `start` on, and what came after it; the next is complete at
    # `due`.
    buffer = np.empty(window + hop, np.float32)
    start, filled, due = 0, 0, window
    for block in blocks:
        while len(block):
            count = min(due - filled, len(block))
            buffer[filled : filled + count] = block[:count]
            block, filled = block[count:], filled + count
            if filled == due:
                start += due - window
                buffer[:window] = buffer[due - window : due]
                filled, due = window, window + hop
                yield Window(start, start + window, buffer[:window].copy())
    if filled == 0:
        raise AudioError("the audio holds no sample: there is nothing to cut into windows")
    if filled < window:
        samples = np.resize(buffer[:filled], window)  # numpy.resize repeats
        if pad == "zeros":
            samples[filled:] = 0
        yield Window(0, filled, samples)
    elif filled > window:
        stop = start + filled
        yield Window(stop - window, stop, buffer[filled - window : filled].copy())


def times(windows: Sequence[Window | tuple[int, int]], sample_rate: int) -> np.ndarray:
    """Return start and end of each window in seconds, float64 (windows, 2), none beyond the audio's end.

    A taggram is these times beside one row of probabilities per window; the mean of the rows is the file's.
    """
    return np.array([window[:2] for window in windows], np.float64).reshape(-1, 2) / sample_rate
