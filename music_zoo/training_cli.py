"""The commands that train and probe: `music-zoo pretrain`, `probe` and `distill`."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from music_zoo.backend import import_keras
from music_zoo.errors import PretrainingError

Data = Annotated[Path, typer.Option(help="Folder of a data set: log-mels or audio, see the README.")]
Output = Annotated[Path, typer.Option(help="Folder for checkpoints, log.csv and the preset.")]
TensorBoard = Annotated[bool, typer.Option("--tensorboard", help="Write logs for TensorBoard, too.")]


def add_to(app: typer.Typer) -> None:
    """Add the commands to a command line."""
    for command in (pretrain,):
        app.command()(command)


def pretrain(
    data: Data,
    output: Output,
    config: Annotated[
        Path | None, typer.Option(help="YAML file of settings; options here override it.")
    ] = None,
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
    precision: Annotated[str | None, typer.Option(help="float32, mixed_bfloat16 or mixed_float16.")] = None,
    knn_every: Annotated[int | None, typer.Option(help="Epochs between kNN accuracies; 0: none.")] = None,
    seed: Annotated[int | None, typer.Option()] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", help="Any other setting, name=value, such as method_options.momentum=0.999."),
    ] = None,
    tensorboard: TensorBoard = False,
) -> None:
    """Train an encoder without labels. The same command takes up an interrupted run."""
    values = _read_config(config) if config else {}
    given = {
        "method": method,
        "encoder": encoder,
        "epochs": epochs,
        "batch_size": batch_size,
        "learning_rate": learning_rate,
        "segment": segment,
        "distance": distance,
        "augmentation": augmentation,
        "precision": precision,
        "knn_every": knn_every,
        "seed": seed,
    }
    values |= {name: value for name, value in given.items() if value is not None}
    for setting in settings or ():
        _assign(values, setting)
    from music_zoo.datasets import open_dataset

    dataset = open_dataset(data)
    import_keras()
    from music_zoo.pretraining import run

    with _Training(output, tensorboard) as training:
        run.pretrain(run.settings_of(values), dataset, output, training.say, training.callbacks)


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
