"""The command `music-zoo export`."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from music_zoo.backend import import_keras


def add_to(app: typer.Typer) -> None:
    """Add the command to a command line."""
    app.command()(export)


def export(
    model: Annotated[
        str, typer.Argument(help="Preset, preset folder or hf:// reference.", show_default=False)
    ],
    output: Annotated[Path, typer.Option(help="File to write; of saved_model, a new folder.")],
    format: Annotated[str, typer.Option(help="onnx, litert or saved_model.")] = "onnx",
) -> None:
    """Write a model for another runtime: windows of audio in, calibrated probabilities out.

    It is written only if it gives the model's own probabilities.
    """
    from music_zoo import zoo
    from music_zoo.export import FORMATS, check_format, check_path
    from music_zoo.export import export as write

    if format not in FORMATS:
        raise typer.BadParameter(f"--format: expected {', '.join(FORMATS)}, got {format!r}.")
    check_format(format)
    check_path(output, format)
    import_keras()
    loaded = zoo.load(model)
    write(loaded, output, format)
    print(
        f"wrote {output}: {loaded.name}, windows of {loaded.window_samples} samples at "
        f"{loaded.sample_rate} Hz to {len(loaded.labels)} probabilities",
        file=sys.stderr,
    )
