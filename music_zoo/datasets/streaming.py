"""Training on audio files that are decoded while the network learns; imports Keras."""

import multiprocessing
import threading
import warnings
from concurrent.futures import Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor
from pathlib import Path
from typing import Self

import numpy as np

from music_zoo.datasets.audio_dataset import AudioSplit
from music_zoo.datasets.batches import Batches
from music_zoo.datasets.folder import AudioFolder
from music_zoo.datasets.segments import try_segment
from music_zoo.errors import DatasetError


class AudioBatches(Batches):
    """Random segments of the files of a split, resampled to mono.

    Workers decode the next batches while the network learns from this one; they belong to the batches, not
    to Keras, whose own would repeat batches after the look that `fit` takes at the first. Decoding releases
    Python's lock, so that threads mostly do. Worker processes start anew: a script that uses them keeps its
    code under `if __name__ == "__main__":`.

    A file that cannot be read is reported once, as a warning, and a random other takes its place, the same in
    a resumed run as long as the same files are unreadable.

    Args:
        split: The files, such as `Fma(root).split("train")` or an `AudioFolder`.
        batch_size: Segments in a batch.
        seconds: Length of a segment; a shorter file is repeated.
        sample_rate: Of the segments in Hz.
        seed: Of the order and of the segments.
        unlabelled: Whether the batches hold audio only. So do those of a split without targets.
        workers: How many files are decoded at once; 0: one after another, when a batch is asked for.
        use_multiprocessing: Whether the workers are processes instead of threads.
        ahead: How many batches are decoded ahead.
        max_broken: The share of the split's files that may be unreadable.
        start_epoch: The first epoch.

    Attributes:
        broken: Why, of each file that could not be read.

    Raises:
        ValueError: Fewer files than one batch, or an argument out of range.
    """

    def __init__(
        self,
        split: AudioSplit | AudioFolder,
        batch_size: int,
        seconds: float,
        sample_rate: int,
        seed: int = 0,
        *,
        unlabelled: bool = False,
        workers: int = 2,
        use_multiprocessing: bool = False,
        ahead: int = 2,
        max_broken: float = 0.1,
        start_epoch: int = 0,
    ):
        super().__init__(len(split.paths), batch_size, seed, start_epoch=start_epoch)
        self.samples = round(seconds * sample_rate)
        if self.samples < 1 or workers < 0 or ahead < 0:
            raise ValueError(
                "expected a segment of at least one sample, and no negative workers or ahead; got "
                f"{seconds} s at {sample_rate} Hz, workers={workers}, ahead={ahead}"
            )
        self.paths, self.sample_rate = split.paths, sample_rate
        self.targets = None if unlabelled else split.targets
        self.max_broken = max_broken
        self.broken: dict[Path, str] = {}
        self._ahead = ahead
        self._settings = workers, use_multiprocessing
        self._executor: Executor | None = None
        self._pending: dict[tuple[int, int], list[Future]] = {}
        self._lock = threading.Lock()

    def batch(self, epoch: int, index: int):
        """Return `(batch_size, samples)` float32, and the targets if there are any.

        Raises:
            DatasetError: Too many files cannot be read.
        """
        rows = self.rows(epoch, index).copy()
        audio = np.empty((len(rows), self.samples), np.float32)
        for slot, segment in enumerate(self._first_choice(epoch, index)):
            if isinstance(segment, str):
                rows[slot], segment = self._replacement(epoch, index, slot, rows[slot], segment)
            audio[slot] = segment
        return audio if self.targets is None else (audio, self.targets[rows])

    def close(self) -> None:
        """End the workers; a batch that is asked for later starts new ones."""
        with self._lock:
            executor, self._executor = self._executor, None
            self._pending = {}
        if executor is not None:
            executor.shutdown(cancel_futures=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_) -> None:
        self.close()

    def _first_choice(self, epoch: int, index: int) -> list[np.ndarray | str]:
        """Return the segments of a batch, or messages, and have the next batches decoded."""
        if not self._settings[0]:
            return [try_segment(*arguments) for arguments in self._plan(epoch, index)]
        with self._lock:
            wanted = [(epoch, number) for number in range(index, min(index + self._ahead + 1, len(self)))]
            for key in [key for key in self._pending if key not in wanted]:
                for future in self._pending.pop(key):
                    future.cancel()
            for key in wanted:
                if key not in self._pending:
                    executor = self._start()
                    self._pending[key] = [
                        executor.submit(try_segment, *arguments) for arguments in self._plan(*key)
                    ]
            futures = self._pending.pop((epoch, index))
        return [future.result() for future in futures]

    def _plan(self, epoch: int, index: int) -> list[tuple[Path, int, int, float]]:
        rows = self.rows(epoch, index)
        positions = self.rng(epoch, index).random(len(rows))
        return [
            (self.paths[row], self.samples, self.sample_rate, float(position))
            for row, position in zip(rows, positions, strict=True)
        ]

    def _replacement(
        self, epoch: int, index: int, slot: int, row: int, message: str
    ) -> tuple[int, np.ndarray]:
        """Return another example for one that cannot be read, drawn by its place alone."""
        rng = np.random.default_rng((self.seed, epoch, index, slot))
        while True:
            self._report(self.paths[row], message)
            row = int(rng.integers(self.size))
            segment = try_segment(self.paths[row], self.samples, self.sample_rate, float(rng.random()))
            if not isinstance(segment, str):
                return row, segment
            message = segment

    def _report(self, path: Path, message: str) -> None:
        with self._lock:
            is_new = path not in self.broken
            self.broken[path] = message
            count = len(self.broken)
        if count > self.max_broken * self.size:
            raise DatasetError(
                f"{count} of {self.size} files cannot be read, more than the {self.max_broken:.0%} that "
                f"max_broken allows. The last: {message}"
            )
        if is_new:
            warnings.warn(f"another file takes its place: {message}", stacklevel=2)

    def _start(self) -> Executor:
        if self._executor is None:
            workers, use_processes = self._settings
            if use_processes:
                # Not forked: TensorFlow and JAX run threads that a fork would leave in any state.
                context = multiprocessing.get_context("spawn")
                self._executor = ProcessPoolExecutor(workers, mp_context=context)
            else:
                self._executor = ThreadPoolExecutor(workers, thread_name_prefix="decode")
        return self._executor
