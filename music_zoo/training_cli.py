"""The commands that train and probe: `music-zoo train`, `pretrain`, `probe` and `distill`."""

import json
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from music_zoo.backend import import_keras, keep_freed_memory
from music_zoo.errors import DatasetError, PretrainingError

Data = Annotated[Path, typer.Option(help="Folder of a data set: log-mels or audio, see the README.")]
Output = Annotated[Path, typer.Option(help="Folder for checkpoints, log.csv and the preset.")]
Config = Annotated[Path | None, typer.Option(help="YAML file of settings; options override it.")]
Set = Annotated[
    list[str] | None,
    typer.Option("--set", help="Any other setting, name=value, such as method_options.momentum=0.999."),
]
TensorBoard = Annotated[bool, typer.Option("--tensorboard", help="Write logs for TensorBoard, too.")]


PRECISIONS = "float32, mixed_bfloat16 or mixed_float16."
KINDS = ("linear", "mlp", "knn")


def add_to(app: typer.Typer) -> None:
    """Add the commands to a command line."""
    for command in (train, pretrain, probe, distill):
        app.command()(command)


def train(
    recipe: Annotated[Path, typer.Argument(help="YAML file, such as those in examples/recipes.")],
    data: Data,
    output: Output,
    scale: Annotated[
        Literal["full", "smoke"], typer.Option(help="smoke: a rehearsal of seconds, with a tiny network.")
    ] = "full",
    precision: Annotated[str | None, typer.Option(help=PRECISIONS)] = None,
    seed: Annotated[int | None, typer.Option(help="Instead of the recipe's.")] = None,
    member: Annotated[
        int | None, typer.Option(min=0, help="Train this member of an ensemble only, from 0.")
    ] = None,
    tensorboard: TensorBoard = False,
) -> None:
    """Train a preset by a recipe. The same command takes up an interrupted run."""
    import_keras()
    from music_zoo.training import run, smoke
    from music_zoo.training.recipe import read_recipe

    chosen = read_recipe(recipe, precision=precision, seed=seed)
    if member is not None and member >= chosen.members:
        raise typer.BadParameter(f"--member: {recipe} has the members 0 to {chosen.members - 1}.")
    most = None
    if scale == "smoke":
        chosen, most = smoke.smoke(chosen), smoke.RECORDINGS
    with _Training(output, tensorboard) as training, _notes(training.say):
        run.train(chosen, data, output, training.say, training.callbacks, member=member, most=most)


def pretrain(
    data: Data,
    output: Output,
    config: Config = None,
    method: Annotated[
        str | None, typer.Option(help="simclr, moco, byol, barlow_twins, vicreg or clustering.")
    ] = None,
    encoder: Annotated[str | None, typer.Option(help="Configuration such as swin-mini.")] = None,
    epochs: Annotated[int | None, typer.Option()] = None,
    batch_size: Annotated[int | None, typer.Option()] = None,
    learning_rate: Annotated[float | None, typer.Option(help="The largest.")] = None,
    segment: Annotated[float | None, typer.Option(help="Length of a view in seconds.")] = None,
    distance: Annotated[
        float | None, typer.Option(help="Seconds between the two views, at the least; below 0: overlap.")
    ] = None,
    augmentation: Annotated[str | None, typer.Option(help="s3t, multi_view or clmr.")] = None,
    precision: Annotated[str | None, typer.Option(help=PRECISIONS)] = None,
    knn_every: Annotated[int | None, typer.Option(help="Epochs between kNN accuracies; 0: none.")] = None,
    seed: Annotated[int | None, typer.Option()] = None,
    settings: Set = None,
    tensorboard: TensorBoard = False,
) -> None:
    """Train an encoder without labels. The same command takes up an interrupted run."""
    values = _values(
        config,
        settings,
        method=method,
        encoder=encoder,
        epochs=epochs,
        batch_size=batch_size,
        learning_rate=learning_rate,
        segment=segment,
        distance=distance,
        augmentation=augmentation,
        precision=precision,
        knn_every=knn_every,
        seed=seed,
    )
    from music_zoo.datasets import open_splits

    dataset = open_splits(data)
    import_keras()
    from music_zoo.pretraining import run
    from music_zoo.pretraining.settings import settings_of

    with _Training(output, tensorboard) as training, _notes(training.say):
        run.pretrain(settings_of(values), dataset, output, training.say, training.callbacks)


def distill(
    teacher: Annotated[str, typer.Option(help="Preset, preset folder or hf:// reference.")],
    student: Annotated[str, typer.Option(help="Configuration such as swin-mini.")],
    data: Annotated[Path, typer.Option(help="Folder of log-mels with labels.")],
    output: Output,
    unlabelled: Annotated[
        Path | None, typer.Option(help="More log-mels, used without labels [default: those of --data].")
    ] = None,
    config: Config = None,
    epochs: Annotated[int | None, typer.Option()] = None,
    batch_size: Annotated[int | None, typer.Option(help="With labels; as many without.")] = None,
    learning_rate: Annotated[float | None, typer.Option(help="The largest.")] = None,
    weight: Annotated[float | None, typer.Option(help="Of the teacher's labels.")] = None,
    precision: Annotated[str | None, typer.Option(help=PRECISIONS)] = None,
    seed: Annotated[int | None, typer.Option()] = None,
    settings: Set = None,
    tensorboard: TensorBoard = False,
) -> None:
    """Train a student by labels and by a teacher. The same command takes up an interrupted run."""
    values = _values(
        config,
        settings,
        student=student,
        epochs=epochs,
        batch_size=batch_size,
        learning_rate=learning_rate,
        weight=weight,
        precision=precision,
        seed=seed,
    )
    from music_zoo.datasets import open_splits

    dataset = open_splits(data)
    more = None if unlabelled is None else open_splits(unlabelled)
    import_keras()
    from music_zoo import zoo
    from music_zoo.pretraining import distillation
    from music_zoo.pretraining.settings import settings_of

    chosen = settings_of(values, distillation.DistillSettings)
    with _Training(output, tensorboard) as training, _notes(training.say):
        distillation.distill(
            chosen, zoo.load(teacher), dataset, output, more, training.say, training.callbacks
        )


def probe(
    model: Annotated[str, typer.Option(help="Preset, preset folder or hf:// reference.")],
    data: Data,
    kind: Annotated[str, typer.Option(help="linear, mlp, knn or all.")] = "linear",
    split: Annotated[
        str, typer.Option(help="test, or validation, by which the probe is also chosen.")
    ] = "test",
    label_efficiency: Annotated[
        bool, typer.Option("--label-efficiency", help="Also with 1, 5, 10 and 20 % of the labels.")
    ] = False,
    random: Annotated[
        bool, typer.Option("--random", help="Beside it the same network with random weights.")
    ] = False,
    output: Annotated[Path | None, typer.Option(help="Write all numbers here, as JSON.")] = None,
    figure: Annotated[Path | None, typer.Option(help="Draw the label efficiency.")] = None,
    preset: Annotated[
        Path | None, typer.Option(help="Write a classifier whose head is the linear probe.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Of probes, draws and random weights.")] = 0,
) -> None:
    """Measure what frozen embeddings are worth: fit classifiers to them, score these on a split."""
    _check_probe(kind, split, label_efficiency, output, figure, preset)
    kinds = KINDS if kind == "all" else (kind,)
    from music_zoo.datasets import open_splits

    dataset = open_splits(data)
    import_keras()
    import keras

    from music_zoo import evaluation, zoo
    from music_zoo.classifier import Classifier
    from music_zoo.evaluation.embedded import probed_classifier, task_of

    classifier, task = zoo.load(model), task_of(dataset)
    if preset is not None and not isinstance(classifier, Classifier):
        raise typer.BadParameter(f"--preset: a probe becomes the head of one classifier; {model} is several.")
    networks = {classifier.name: classifier}
    if random:
        keras.utils.set_random_seed(seed)
        networks["random weights"] = type(classifier).from_config(classifier.get_config())
    results, curves, skipped = {}, {}, set()
    with _notes(lambda note: print(note, file=sys.stderr)):
        for name, network in networks.items():
            embedded = _embed(network, dataset, split, name)
            skipped.update(error for each in embedded.values() for error in each.skipped)
            splits = {each: (part.means, part.targets) for each, part in embedded.items()}
            splits["test"] = splits[split]
            try:
                for each in kinds:
                    probed = evaluation.probe(each, splits, task, seed, groups=embedded[split].groups)
                    result = results[name, each] = probed
                    if label_efficiency:
                        few = evaluation.label_efficiency(splits, task, kind=each, seed=seed)
                        curves[f"{name}, {each}" if len(kinds) > 1 else name] = few
                    if preset is not None and network is classifier and each == "linear":
                        validation = embedded.get("validation")
                        tagger = probed_classifier(
                            classifier, result.probe, dataset.labels, task, preset.name, validation
                        )
                        tagger.save_preset(preset)
            except ValueError as error:  # data that no probe can be fitted to
                raise DatasetError(f"{dataset.name}: {error}") from error
    resampled = getattr(dataset, "grouped_by", "") or "files"
    _print_table(results, resampled)
    notes = [f"skipped: {error}" for error in sorted(skipped)]
    if output is not None:
        from music_zoo.files import replacing

        found = {
            "model": model,
            "data": dataset.name,
            "split": split,
            "seed": seed,
            "examples": len(next(iter(results.values())).probabilities),
            "resampled": resampled,
            "probes": [
                {
                    "features": name,
                    "kind": each,
                    "chosen": result.probe.chosen,
                    "metrics": result.metrics,
                    "intervals": result.intervals,
                }
                for (name, each), result in results.items()
            ],
            "label_efficiency": {name: curve.to_dict() for name, curve in curves.items()},
        }
        with replacing(output) as temporary:
            temporary.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")
    if figure is not None:
        metric = "accuracy" if task == "single_label" else "pr_auc"
        evaluation.plot_label_efficiency(curves, metric, figure)
    notes += [f"wrote {path}" for path in (output, figure, preset) if path is not None]
    for note in notes:
        print(note, file=sys.stderr)


def _check_probe(kind, split, label_efficiency, output, figure, preset) -> None:
    """Raise on options that cannot be: before the work, not after."""
    if kind not in (*KINDS, "all"):
        raise typer.BadParameter(f"--kind: expected {', '.join(KINDS)} or all, got {kind!r}.")
    if split not in ("validation", "test"):
        raise typer.BadParameter(f"--split: expected validation or test, got {split!r}.")
    if preset is not None and kind not in ("linear", "all"):
        raise typer.BadParameter(f"--preset: its head is a linear probe, --kind is {kind}.")
    if figure is not None and not label_efficiency:
        raise typer.BadParameter("--figure draws what --label-efficiency measures; give both.")
    if output is not None:
        from music_zoo.files import check_replaceable

        check_replaceable(output)
    if figure is not None:
        from music_zoo.plots import check_picture

        try:
            check_picture(figure)
        except ValueError as error:
            raise typer.BadParameter(f"--figure: {error}") from error


def _embed(classifier, dataset, split: str, name: str) -> dict:
    """Return the embeddings of the splits that a probe needs; of the test split only if it is asked for."""
    from music_zoo.evaluation.embedded import embed_split
    from music_zoo.progress import counting

    embedded = {}
    for each in dict.fromkeys(("train", "validation", split)):
        try:
            with counting(f"of {each} embedded by {name}") as progress:
                embedded[each] = embed_split(classifier, dataset, each, progress)
        except DatasetError:
            if each != "validation" or each == split:  # the one split that there need not be
                raise
    return embedded


def _print_table(results: dict, resampled: str) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    names = list(next(iter(results.values())).metrics)
    table = Table("features", "probe", *(name.replace("_", " ") for name in names), box=None, pad_edge=False)
    for (features, kind), result in results.items():
        cells = [
            "{:.3f} ({:.3f} to {:.3f})".format(result.metrics[name], *result.intervals[name])
            for name in names
        ]
        table.add_row(Text(features), kind, *cells)
    Console(width=None if sys.stdout.isatty() else 1000).print(table)
    print(f"in brackets: 95 % intervals over resampled {resampled}")


def _values(config: Path | None, settings: list[str] | None, **given: Any) -> dict[str, Any]:
    """Return the settings of a file, overridden by options, overridden by --set."""
    values = _read_config(config) if config else {}
    values |= {name: value for name, value in given.items() if value is not None}
    for setting in settings or ():
        _assign(values, setting)
    return values


def _read_config(path: Path) -> dict[str, Any]:
    import yaml

    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise PretrainingError(f"{path} is no YAML file: {error}") from error
    if not isinstance(values or {}, Mapping):
        raise PretrainingError(f"{path}: expected lines of `setting: value`, got {values!r}.")
    return dict(values or {})


def _assign(values: dict[str, Any], setting: str) -> None:
    """Set `name=value`, or `name.part=value` of a setting that holds several."""
    import yaml

    name, equals, text = setting.partition("=")
    outer, dot, inner = name.partition(".")
    try:
        value = yaml.safe_load(text)
    except yaml.YAMLError:
        equals = ""
    if not (outer and equals and bool(dot) == bool(inner)):
        raise typer.BadParameter(f"--set: expected name=value, got {setting!r}.")
    if dot:
        values[outer] = {**(values.get(outer) or {}), inner: value}
    else:
        values[outer] = value


@contextmanager
def _notes(say: Callable[[str], None]) -> Iterator[None]:
    """Say warnings in a line each."""
    with warnings.catch_warnings():
        warnings.showwarning = lambda message, *_: say(f"note: {message}")
        yield


class _Training:
    """What a person sees of a training: a bar within each epoch on a terminal, a line after each.

    Args:
        output: Folder of the run.
        tensorboard: Whether to write logs for TensorBoard.
    """

    def __init__(self, output: Path, tensorboard: bool = False):
        from music_zoo.progress import progress_bar

        self.output = output
        self._progress = progress_bar("batches, {task.fields[loss]}")
        self.callbacks = (_bar(self._progress), *([_tensorboard(output)] if tensorboard else []))

    def say(self, message: str) -> None:
        """Print on standard error, above the bar."""
        self._progress.console.print(message)

    def __enter__(self) -> "_Training":
        keep_freed_memory()
        self._progress.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, *_) -> None:
        self._progress.stop()
        if kind is KeyboardInterrupt:
            self.say(f"stopped; the same command goes on after the last epoch that {self.output} holds")
            raise typer.Exit(130)


def _bar(progress):
    """Return a callback that moves a bar from batch to batch."""
    import keras

    class Bar(keras.callbacks.Callback):
        def on_epoch_begin(self, epoch, logs=None):
            for task in progress.task_ids:
                progress.remove_task(task)
            self.task = progress.add_task("", total=self.params["steps"], loss="starting")

        def on_train_batch_end(self, batch, logs=None):
            progress.update(self.task, completed=batch + 1, loss=f"loss {float(logs['loss']):.3f}")

    return Bar()


def _tensorboard(output: Path):
    """Return Keras' callback for TensorBoard.

    Raises:
        PretrainingError: Its package is missing.
    """
    import keras

    try:
        import tensorboard  # noqa: F401

        return keras.callbacks.TensorBoard(str(output / "tensorboard"))
    except ImportError as error:
        raise PretrainingError(
            f"--tensorboard needs packages that are not installed ({error.name}): "
            "pip install tensorboard tensorflow-cpu"
        ) from error
