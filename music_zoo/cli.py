"""The command `music-zoo`. Keras is imported by the commands that run a model, not before."""

import json
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

from music_zoo import __version__, zoo
from music_zoo.errors import MusicZooError

app = typer.Typer(
    help="Pretrained music classifiers with calibrated probabilities.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

Paths = Annotated[list[Path], typer.Argument(help="Audio files, or folders to search for them.", show_default=False)]
Model = Annotated[str, typer.Option(help="Preset, preset folder, or hf://organisation/repository@revision.")]
Hop = Annotated[float | None, typer.Option(help="Seconds between window starts [default: the window's length].")]
Truncated = Annotated[bool, typer.Option("--allow-truncated", help="Take what can be decoded of cut files.")]

DEFAULT_MODEL = "resnet-fma"


def main() -> None:
    """Run the command line; an error of ours is one line on standard error and exit status 1."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")  # TensorFlow's start-up log is not for our users
    try:
        app()
    except (MusicZooError, ValueError, OSError) as error:
        sys.exit(f"music-zoo: {error}")


@app.callback(invoke_without_command=True)
def options(version: Annotated[bool, typer.Option("--version", help="Print the version and exit.")] = False) -> None:
    """Options before the command."""
    if version:
        print(__version__)
        raise typer.Exit


@app.command()
def tag(
    paths: Paths,
    model: Model = DEFAULT_MODEL,
    top: Annotated[int, typer.Option(min=1, help="How many labels to print.")] = 3,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object a line, with every probability.")] = False,
    as_csv: Annotated[bool, typer.Option("--csv", help="A table: a row per file, a column per label.")] = False,
    windows: Annotated[bool, typer.Option(help="With --json: the probabilities of every window, too.")] = False,
    taggram: Annotated[
        Path | None, typer.Option(help="Draw probabilities over time: a picture, or a folder for many files.")
    ] = None,
    output: Annotated[
        Path | None, typer.Option(help="Write here instead of to the screen; an interrupted run is taken up again.")
    ] = None,
    hop: Hop = None,
    allow_truncated: Truncated = False,
) -> None:
    """Print the labels of audio files with their probabilities.

    Files that cannot be used are reported and skipped; the exit status is then 1.
    """
    from music_zoo.records import RecordWriter

    if as_json and as_csv:
        raise typer.BadParameter("--json and --csv exclude each other.")
    files = _audio_files(paths)
    if taggram is not None and len(files) > 1 and taggram.suffix:
        raise typer.BadParameter(f"--taggram: {len(files)} files need a folder for their pictures, got {taggram}.")
    classifier = zoo.load(model)
    format = "json" if as_json else "csv" if as_csv else "text"
    with RecordWriter(output, format, top=top, windows=windows) as records, _Run(files, records.done) as run:
        for file, result in run.follow(
            lambda todo, progress: classifier.classify_many(
                todo, hop=hop, allow_truncated=allow_truncated, progress=progress
            )
        ):
            records.write(result)
            for note in result.notes:
                run.say(f"{file}: {note}")
            if taggram is not None:
                picture = taggram if taggram.suffix else taggram / f"{file.name}.png"
                run.say(f"wrote {result.plot(picture)}")
    if output is not None:
        run.say(f"wrote {output}: {len(records.done) + run.finished} files")
    raise typer.Exit(run.status)


@app.command()
def embed(
    paths: Paths,
    output: Annotated[Path, typer.Option(help="Where to write: .npy or .parquet.")],
    model: Model = DEFAULT_MODEL,
    windows: Annotated[bool, typer.Option(help="A row per window instead of the mean of each file.")] = False,
    hop: Hop = None,
    allow_truncated: Truncated = False,
) -> None:
    """Write the embeddings of audio files.

    .parquet: columns source, start, end (seconds) and embedding. .npy: float32 (rows, embedding_dim), and beside it
    a .csv of the same name with source, start and end of each row.
    """
    from music_zoo import embeddings

    embeddings.check_path(output)
    files = _audio_files(paths)
    classifier = zoo.load(model)
    with _Run(files) as run:
        rows = [
            row
            for _, result in run.follow(
                lambda todo, progress: classifier.infer(
                    todo, "embedding", hop=hop, allow_truncated=allow_truncated, progress=progress
                )
            )
            for row in embeddings.rows_of(result, windows)
        ]
    if not rows:
        raise MusicZooError(f"None of the {len(files)} files could be used; {output} is not written.")
    for path in embeddings.write(output, rows):
        run.say(f"wrote {path}: {len(rows)} rows of {len(rows[0].embedding)} numbers")
    raise typer.Exit(run.status)


@app.command()
def models(pattern: Annotated[str, typer.Argument(help='Such as "*swin*".')] = "*") -> None:
    """List the presets."""
    from rich.console import Console
    from rich.table import Table

    table = Table("preset", "task", "labels", "parameters", "measured on test data", "licence", box=None, pad_edge=False)
    for name in zoo.list_models(pattern):
        entry = zoo.describe(name)
        table.add_row(
            name,
            entry.task.replace("_", "-"),
            str(len(entry.labels)),
            f"{entry.parameters / 1e6:.2f} M",
            "; ".join(result.headline for result in entry.results),
            entry.license,
        )
    if not table.row_count:
        sys.exit(f"music-zoo: no preset matches {pattern!r}; `music-zoo models` lists all.")
    Console().print(table)


@app.command()
def describe(name: Annotated[str, typer.Argument(help="Name of a preset.", show_default=False)]) -> None:
    """Say what a preset is, what it was trained on, what it scores, and how that was measured."""
    print(zoo.describe(name).to_text(name))


@app.command()
def evaluate(
    data: Annotated[Path, typer.Option(help="Log-mel folder of FMA-small or GTZAN, or a folder per label.")],
    model: Model = DEFAULT_MODEL,
    split: Annotated[
        str | None, typer.Option(help="train, validation or test [default: test]; of plain folders, a sub-folder.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="As JSON.")] = False,
) -> None:
    """Measure a classifier on labelled data, before and after calibration."""
    from music_zoo.datasets import open_dataset
    from music_zoo.evaluation.evaluate import evaluate as run_evaluation

    evaluation = run_evaluation(zoo.load(model), open_dataset(data, split), split)
    print(json.dumps(evaluation.to_dict(), indent=2) if as_json else evaluation.to_text())
    for error in evaluation.skipped:
        print(f"skipped: {error}", file=sys.stderr)
    raise typer.Exit(1 if evaluation.skipped else 0)


def _audio_files(paths: list[Path]) -> list[Path]:
    from music_zoo.audio.find import find_audio

    files = [file for path in paths for file in find_audio(path)]
    return list(dict.fromkeys(files))


class _Run:
    """A run over many files: a progress bar on standard error, errors reported and counted.

    Args:
        files: All of them.
        done: Those that an earlier run has finished, as strings.
    """

    def __init__(self, files: list[Path], done: set[str] = frozenset()):
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        self.todo = [file for file in files if str(file) not in done]
        self.finished = 0
        self.failed = 0
        self._console = Console(stderr=True, highlight=False, soft_wrap=True)
        self._progress = Progress(
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("files, {task.fields[rate]}"),
            TimeRemainingColumn(),
            console=self._console,
            disable=not sys.stderr.isatty() or len(files) == 0,
            transient=True,
        )
        self._task = self._progress.add_task("", total=len(files), completed=len(files) - len(self.todo), rate="")
        if done:
            self.say(f"taking up an interrupted run: {len(files) - len(self.todo)} of {len(files)} files are done")

    def __enter__(self) -> "_Run":
        self._progress.start()
        return self

    def __exit__(self, *_) -> None:
        self._progress.stop()

    @property
    def status(self) -> int:
        """Exit status: 1 if a file was skipped."""
        return 1 if self.failed else 0

    def say(self, message: str) -> None:
        """Print on standard error, above the bar."""
        self._console.print(message, markup=False)

    def follow(self, start) -> Iterator[tuple[Path, object]]:
        """Yield each file with its result; report and skip the errors.

        Args:
            start: Takes the files and a function to call with seconds of audio done, returns the results in order.
        """
        import time

        seconds, begin = 0.0, time.monotonic()

        def progress(more: float) -> None:
            nonlocal seconds
            seconds += more
            self._progress.update(self._task, rate=f"{seconds / (time.monotonic() - begin):.0f} x real time")

        for file, result in zip(self.todo, start(self.todo, progress), strict=True):
            if isinstance(result, MusicZooError):
                self.failed += 1
                self.say(f"skipped: {result}")
            else:
                self.finished += 1
                yield file, result
            self._progress.advance(self._task)
        if self.failed:
            self.say(f"{self.finished} files done, {self.failed} skipped")
