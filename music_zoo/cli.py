"""The command `music-zoo`. Keras is imported by the commands that run a model, not before."""

import json
import os
import sys
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from music_zoo import (
    __version__,
    calibration_cli,
    catalogue_cli,
    export_cli,
    hub_cli,
    similarity_cli,
    training_cli,
    zoo,
)
from music_zoo.backend import PACKAGES, import_keras, limit_threads
from music_zoo.errors import MusicZooError
from music_zoo.files import check_replaceable

if TYPE_CHECKING:
    from music_zoo.classifier import Classifier
    from music_zoo.onnx_model import OnnxModel

app = typer.Typer(
    help="Pretrained music classifiers with calibrated probabilities.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

Paths = Annotated[
    list[Path], typer.Argument(help="Audio files, or folders to search for them.", show_default=False)
]
Model = Annotated[str, typer.Option(help="Preset, preset folder, or hf://organisation/repository@revision.")]
Hop = Annotated[
    float | None, typer.Option(help="Seconds between window starts [default: the window's length].")
]
MinConfidence = Annotated[
    float | None,
    typer.Option(
        min=0, max=1, help="Abstain if no label is as probable as this; `music-zoo reject` finds one."
    ),
]
Truncated = Annotated[bool, typer.Option("--allow-truncated", help="Take what can be decoded of cut files.")]
Threads = Annotated[
    int | None, typer.Option(min=1, help="For decoding and for the model [default: one for each core].")
]

DEFAULT_MODEL = "resnet-fma"


def main() -> None:
    """Run the command line; errors of ours and of the disk are one line on standard error, exit status 1."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")  # TensorFlow's start-up log is not for our users
    sys.stdout.reconfigure(errors="backslashreplace")  # a file's name may be no text
    try:
        try:
            app()
        finally:
            sys.stdout.flush()
    except MusicZooError as error:
        sys.exit(f"music-zoo: {error}")
    except ModuleNotFoundError as error:
        package = PACKAGES.get((error.name or "").partition(".")[0])
        if package is None:
            raise
        sys.exit(f'music-zoo: {package} is not installed: pip install "music-zoo[models]"')
    except OSError as error:
        with suppress(OSError):  # Python flushes again on exit, and would complain again about a full disk
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        what = error.strerror or error
        sys.exit(f"music-zoo: {what if error.filename is None else f'{error.filename}: {what}'}")


@app.callback(invoke_without_command=True)
def options(
    version: Annotated[bool, typer.Option("--version", help="Print the version and exit.")] = False,
) -> None:
    """Options before the command."""
    if version:
        print(__version__)
        raise typer.Exit


@app.command()
def tag(
    paths: Paths,
    model: Annotated[
        list[str] | None,
        typer.Option(
            help="Preset, preset folder, or hf://organisation/repository@revision; may be repeated, and each "
            f"file is decoded once. [default: {DEFAULT_MODEL}]",
            show_default=False,
        ),
    ] = None,
    top: Annotated[int, typer.Option(min=1, help="How many labels to print.")] = 3,
    as_json: Annotated[
        bool, typer.Option("--json", help="One JSON object a line, with every probability.")
    ] = False,
    as_csv: Annotated[
        bool, typer.Option("--csv", help="A table: a row per file, a column per label.")
    ] = False,
    windows: Annotated[
        bool, typer.Option(help="With --json: the probabilities of every window, too.")
    ] = False,
    taggram: Annotated[
        Path | None, typer.Option(help="Draw probabilities over time: a picture, or a folder for many files.")
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(help="Write here instead of to the screen; an interrupted run is taken up again."),
    ] = None,
    min_confidence: MinConfidence = None,
    engine: Annotated[
        Literal["keras", "onnx"],
        typer.Option(help="onnx: --model is a file of `music-zoo export`, and Keras is not needed."),
    ] = "keras",
    hop: Hop = None,
    threads: Threads = None,
    allow_truncated: Truncated = False,
    ray: Annotated[
        bool,
        typer.Option(
            "--ray",
            help="For very many files: on Ray, into Parquet in the folder --output; PATHS may be lists "
            "(.txt) of paths and URIs. Run it again to go on.",
        ),
    ] = False,
    actors: Annotated[
        int | None,
        typer.Option(min=1, help="With --ray: processes with the model [default: all]."),
    ] = None,
    gpus: Annotated[float, typer.Option(min=0, help="With --ray: accelerators of each of them.")] = 0.0,
) -> None:
    """Print the labels of audio files with their probabilities.

    Files that cannot be used are reported and skipped; the exit status is then 1.
    """
    models = model or [DEFAULT_MODEL]
    if ray:
        other = {
            "a second --model": len(models) > 1,
            "--json": as_json,
            "--csv": as_csv,
            "--windows": windows,
            "--taggram": taggram is not None,
            "--min-confidence": min_confidence is not None,
            "--engine onnx": engine == "onnx",
            "--threads": threads is not None,
        }
        settings = {"model": models[0], "hop": hop, "allow_truncated": allow_truncated}
        catalogue_cli.tag_on_ray(paths, output, other, actors=actors, gpus=gpus, **settings)
    if actors is not None or gpus:
        raise typer.BadParameter("--actors and --gpus belong to --ray.")
    from music_zoo.inference import classify_together
    from music_zoo.progress import Run
    from music_zoo.records import Format, RecordWriter

    if len(models) > 1 and (as_csv or taggram):
        raise typer.BadParameter("--csv and --taggram show one --model; --json holds any number.")
    if as_json and as_csv:
        raise typer.BadParameter("--json and --csv exclude each other.")
    files = _audio_files(paths)
    pictures = _pictures(taggram, files)
    classifiers = [_load(name, hop, engine, threads) for name in models]
    settings = {"hop": hop, "allow_truncated": allow_truncated, "min_confidence": min_confidence}
    records = RecordWriter(
        output,
        sources=[str(file) for file in files],
        labels=[label for classifier in classifiers for label in classifier.labels],
        format=Format("json" if as_json else "csv" if as_csv else "text", top, windows, min_confidence),
        settings={"model": models[0] if len(models) == 1 else models, **settings},
    )
    with records, Run(files, None if output is None else records.done) as run:
        for file, results in run.follow(partial(classify_together, classifiers), **settings):
            if file in pictures:
                run.say(f"wrote {results[0].plot(pictures[file])}")
            records.write(*results)
            if output or as_json or as_csv:  # the text on the screen has them already
                for note in dict.fromkeys(note for result in results for note in result.notes):
                    run.say(f"{file}: {note}")
    if output is not None:
        run.say(f"wrote {output}: {run.finished} files")
    raise typer.Exit(1 if run.failed else 0)


@app.command()
def embed(
    paths: Paths,
    output: Annotated[Path, typer.Option(help="Where to write: .npy or .parquet.")],
    model: Model = DEFAULT_MODEL,
    windows: Annotated[bool, typer.Option(help="A row per window instead of the mean of each file.")] = False,
    hop: Hop = None,
    threads: Threads = None,
    allow_truncated: Truncated = False,
) -> None:
    """Write the embeddings of audio files.

    .parquet: columns source, start, end (seconds) and embedding. .npy: float32 (rows, embedding_dim), and
    beside it .npy.csv with source, start and end of each row.
    """
    from music_zoo import embeddings
    from music_zoo.progress import Run

    embeddings.check_path(output)
    files = _audio_files(paths)
    classifier = _load(model, hop, threads=threads)
    with Run(files) as run:
        results = run.follow(classifier.infer, "embedding", hop=hop, allow_truncated=allow_truncated)
        rows = [row for _, result in results for row in embeddings.rows_of(result, windows)]
    if not rows:
        raise MusicZooError(f"None of the {len(files)} files could be used; {output} is not written.")
    for path in embeddings.write(output, rows, embeddings.origin(model, hop, allow_truncated)):
        run.say(f"wrote {path}: {len(rows)} rows of {len(rows[0].embedding)} numbers")
    raise typer.Exit(1 if run.failed else 0)


@app.command()
def models(
    pattern: Annotated[str, typer.Argument(help='Such as "*swin*".')] = "*",
    markdown: Annotated[bool, typer.Option("--markdown", help="As the table in README.md.")] = False,
) -> None:
    """List the presets."""
    names = zoo.list_models(pattern)
    if not names:
        raise MusicZooError(f"no preset matches {pattern!r}; `music-zoo models` lists all.")
    if markdown:
        print("|", " | ".join(_MODEL_COLUMNS), "|")
        print("|---" * len(_MODEL_COLUMNS) + "|")
        for name in names:
            print("|", " | ".join(_model_row(name, "; ")), "|")
        return
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(*_MODEL_COLUMNS, box=None, pad_edge=False)
    for name in names:
        table.add_row(*map(Text, _model_row(name, "\n")))  # `Text`, or square brackets would be markup
    # Into a pipe, lines are as long as they need to be.
    Console(width=None if sys.stdout.isatty() else 1000).print(table)


_MODEL_COLUMNS = ("preset", "task", "labels", "parameters", "measured on test data", "licence")


def _model_row(name: str, separator: str) -> list[str]:
    entry = zoo.describe(name)
    return [
        name,
        entry.task.replace("_", "-"),
        str(len(entry.labels)),
        f"{entry.parameters / 1e6:.2f} M",
        separator.join(result.headline for result in entry.results if "test" in result.split),
        entry.license,
    ]


@app.command()
def describe(name: Annotated[str, typer.Argument(help="Name of a preset.", show_default=False)]) -> None:
    """Say what a preset is, what it was trained on, what it scores, and how that was measured."""
    print(zoo.describe(name).to_text(name))


@app.command()
def evaluate(
    data: Annotated[Path, typer.Option(help="Log-mel folder of FMA-small or GTZAN, or a folder per label.")],
    model: Model = DEFAULT_MODEL,
    split: Annotated[
        str | None,
        typer.Option(help="train, validation or test [default: test]; of plain folders, a sub-folder."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="As JSON, with the metrics of each label.")] = False,
    intervals: Annotated[
        int,
        typer.Option(
            min=0, metavar="N", help="Give 95 % intervals, from N resampled sets of files, such as 1000."
        ),
    ] = 0,
    reliability: Annotated[
        list[Path] | None,
        typer.Option(
            help="Draw how often what is said to be p % sure is right, or, to a .csv, write the numbers; may "
            "be repeated."
        ),
    ] = None,
    robustness: Annotated[
        bool,
        typer.Option(
            "--robustness",
            help="Measure under time stretch, pitch shift, compression and noise instead; needs audio files.",
        ),
    ] = False,
    limit: Annotated[
        int | None,
        typer.Option(min=1, help="With --robustness: no more files than this, drawn, always the same."),
    ] = None,
    plot: Annotated[
        list[Path] | None,
        typer.Option(help="With --robustness: draw the table or, to a .csv, write it; may be repeated."),
    ] = None,
) -> None:
    """Measure a classifier on labelled data, before and after calibration."""
    from music_zoo.datasets import open_dataset
    from music_zoo.progress import counting

    if robustness and (reliability or intervals):
        raise typer.BadParameter("--robustness goes without --reliability and --intervals.")
    if not robustness and (plot or limit is not None):
        raise typer.BadParameter("--limit and --plot belong to --robustness.")
    for option, paths in (("--reliability", reliability), ("--plot", plot)):
        for path in paths or ():
            if path.suffix.lower() == ".csv":
                check_replaceable(path)
            else:
                _check_picture(option, path)
    dataset = open_dataset(data, split)
    classifier = _load(model)
    from music_zoo.calibration import plot_reliability, write_curves
    from music_zoo.evaluation.evaluate import evaluate as run_evaluation
    from music_zoo.evaluation.robustness import evaluate_robustness

    with counting("versions of files" if robustness else "files") as progress:
        if robustness:
            evaluation = evaluate_robustness(classifier, dataset, split, limit=limit, progress=progress)
        else:
            evaluation = run_evaluation(classifier, dataset, split, progress, resamples=intervals)
    for path in reliability or ():
        write = write_curves if path.suffix.lower() == ".csv" else plot_reliability
        write(evaluation.reliability, path)
        print(f"wrote {path}", file=sys.stderr)
    for path in plot or ():
        write = evaluation.write_csv if path.suffix.lower() == ".csv" else evaluation.plot
        write(path)
        print(f"wrote {path}", file=sys.stderr)
    print(json.dumps(evaluation.to_dict(), indent=2) if as_json else evaluation.to_text())
    for error in evaluation.skipped:
        print(f"skipped: {error}", file=sys.stderr)
    raise typer.Exit(1 if evaluation.skipped else 0)


@app.command()
def explain(
    file: Annotated[Path, typer.Argument(help="An audio file.", show_default=False)],
    model: Annotated[str, typer.Option(help="As elsewhere; its class token must attend to steps of time.")],
    tag: Annotated[
        list[str] | None,
        typer.Option(help="Label to show; may be repeated [default: the three most probable]."),
    ] = None,
    output: Annotated[Path | None, typer.Option(help="Where to write the picture.")] = None,
    start: Annotated[float, typer.Option(min=0, help="Of the window that is shown, in seconds.")] = 0.0,
    as_json: Annotated[bool, typer.Option("--json", help="Print every step of time, as JSON.")] = False,
) -> None:
    """Draw where in one window a classifier listens, and which moments speak for which label."""
    if output is not None:
        _check_picture("--output", output)
    elif not as_json:
        raise typer.BadParameter("give --output for a picture, --json for numbers, or both.")
    classifier = _load(model)
    from music_zoo import explain as explaining

    try:
        explaining.check_explainable(classifier)
        explaining.check_tags(classifier.labels, tag or ())
    except ValueError as error:
        raise typer.BadParameter(str(error)) from error
    explanation = explaining.explain(classifier, file, start=start)
    if output is not None:
        print(f"wrote {explanation.plot(output, tag)}", file=sys.stderr)
    print(json.dumps(explanation.to_dict(tag)) if as_json else explanation.to_text(tag))


calibration_cli.add_to(app)
hub_cli.add_to(app)
export_cli.add_to(app)
similarity_cli.add_to(app)
training_cli.add_to(app)


def _audio_files(paths: list[Path]) -> list[Path]:
    """Return the audio files, each once."""
    from music_zoo.audio.find import find_audio

    files = {os.path.abspath(file): file for path in reversed(paths) for file in reversed(find_audio(path))}
    return list(reversed(files.values()))


def _load(
    model: str, hop: float | None = None, engine: str = "keras", threads: int | None = None
) -> "Classifier | OnnxModel":
    if threads is not None:
        limit_threads(threads)
    if engine == "onnx":
        from music_zoo.onnx_model import OnnxModel

        classifier = OnnxModel(model)
    else:
        import_keras()
        classifier = zoo.load(model)
    if hop is not None and not 0 < hop <= classifier.window:
        raise typer.BadParameter(
            f"--hop must be above 0 and at most the window of {classifier.window:g} s, got {hop:g}."
        )
    return classifier


def _pictures(taggram: Path | None, files: list[Path]) -> dict[Path, Path]:
    """Return where each taggram goes: one to a picture, many into a folder, laid out as their files are."""
    if taggram is None:
        return {}
    if taggram.suffix and not taggram.is_dir():
        if len(files) > 1:
            raise typer.BadParameter(
                f"--taggram: {len(files)} files need a folder for their pictures, got {taggram}."
            )
        _check_picture("--taggram", taggram)
        return {files[0]: taggram}
    absolute = [Path(os.path.abspath(file)) for file in files]
    root = os.path.commonpath([path.parent for path in absolute])
    return {
        file: taggram / f"{path.relative_to(root)}.png" for file, path in zip(files, absolute, strict=True)
    }


def _check_picture(option: str, path: Path) -> None:
    from music_zoo.plots import check_picture

    try:
        check_picture(path)
    except ValueError as error:
        raise typer.BadParameter(f"{option}: {error}") from error
