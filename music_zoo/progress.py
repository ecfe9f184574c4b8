"""Progress over many files on standard error: a bar on a terminal, and what else there is to say."""

import sys
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from pathlib import Path

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from music_zoo.errors import MusicZooError


def progress_bar(text: str) -> Progress:
    """Return a bar with how many are done, a text and the time left; invisible without a terminal."""
    return Progress(
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn(text),
        TimeRemainingColumn(),
        console=Console(stderr=True, markup=False, emoji=False, highlight=False, soft_wrap=True),
        disable=not sys.stderr.isatty(),
        transient=True,
        redirect_stdout=sys.stdout.isatty(),  # else what belongs into a file would go to the screen
    )


@contextmanager
def counting(what: str) -> Iterator[Callable[[int, int], None]]:
    """Show a bar over `what`, with how many a second; gives what to call with the numbers done and to do."""
    begin = time.monotonic()
    with progress_bar(what + ", {task.fields[rate]}") as bar:
        task = bar.add_task("", total=None, rate="starting")

        def progress(done: int, total: int) -> None:
            rate = f"{done / (time.monotonic() - begin):.1f} a second"
            bar.update(task, completed=done, total=total, rate=rate)

        yield progress


class Run:
    """A run over many files: a progress bar on standard error, errors reported and counted.

    Args:
        files: All of them.
        done: Those that an earlier run has finished, as strings; None: cannot be taken up.

    Attributes:
        finished, failed: How many files could be used, and how many not.
    """

    def __init__(self, files: list[Path], done: Collection[str] | None = None):
        self._todo = [file for file in files if str(file) not in (done or ())]
        self._total = len(files)
        self._is_resumable = done is not None
        self.finished = self._total - len(self._todo)
        self.failed = 0
        self._progress = progress_bar("files, {task.fields[rate]}")
        self._task = self._progress.add_task("", total=self._total, completed=self.finished, rate="starting")

    def __enter__(self) -> "Run":
        if self.finished:
            self.say(f"taking up an interrupted run: {self._state()}")
        self._progress.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, *_) -> None:
        self._progress.stop()
        is_interrupted = kind is KeyboardInterrupt
        if kind is not None and self._is_resumable:
            self.say(f"stopped, {self._state()}; the same command goes on from there")
        elif is_interrupted or (kind is None and self.failed):
            self.say(f"{'interrupted, ' if is_interrupted else ''}{self._state()}")
        if is_interrupted:
            raise typer.Exit(130)

    def _state(self) -> str:
        skipped = f", {self.failed} skipped" if self.failed else ""
        return f"{self.finished} of {self._total} files done{skipped}"

    def say(self, message: str) -> None:
        """Print on standard error, above the bar."""
        self._progress.console.print(message)

    def follow(self, start: Callable, *args, **kwargs) -> Iterator[tuple[Path, object]]:
        """Yield each file with its result; report and skip those that cannot be used.

        Args:
            start: `Classifier.classify_many` or `Classifier.infer`.
            *args: Passed on after the files.
            **kwargs: Passed on.
        """
        seconds, begin = 0.0, time.monotonic()

        def progress(more: float) -> None:
            nonlocal seconds
            seconds += more
            self._progress.update(self._task, rate=f"{seconds / (time.monotonic() - begin):.0f} x real time")

        results = start(self._todo, *args, progress=progress, **kwargs)
        for file, result in zip(self._todo, results, strict=True):
            if isinstance(result, MusicZooError):
                self.failed += 1
                self.say(f"skipped: {result}")
            else:
                yield file, result
                self.finished += 1
            self._progress.advance(self._task)
