"""The commands `music-zoo export` and `quantize`."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from music_zoo.backend import import_keras


def add_to(app: typer.Typer) -> None:
    """Add the commands to a command line."""
    app.command()(export)
    app.command()(quantize)


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


def quantize(
    source: Annotated[Path, typer.Argument(help="ONNX file of `music-zoo export`.", show_default=False)],
    music: Annotated[
        list[Path],
        typer.Argument(help="Audio files or folders like those it will be used on.", show_default=False),
    ],
    output: Annotated[Path, typer.Option(help="ONNX file to write.")],
) -> None:
    """Write an ONNX file with its convolutions in 8-bit integers: smaller, and faster if they are the work.

    It is written only if its probabilities are near those in floats, and says how near.
    """
    from music_zoo.audio import find_audio
    from music_zoo.quantization import quantize as write

    files = [file for path in music for file in find_audio(path)]
    found = write(source, output, files)
    for file, reason in found.unused.items():
        print(f"{file}: {reason}", file=sys.stderr)
    sizes = [path.stat().st_size / 1e6 for path in (output, source)]
    print(
        f"wrote {output}: {sizes[0]:.1f} MB in place of {sizes[1]:.1f}; on {found.windows} other windows of "
        f"the music, probabilities differ by {found.mean:.2g} on average and {found.largest:.2g} at most, "
        f"and the most probable label is the same in {found.same_top:.0%}",
        file=sys.stderr,
    )
