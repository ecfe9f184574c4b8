"""What `music-zoo tag --ray` does."""

from pathlib import Path
from typing import NoReturn

import typer

from music_zoo.errors import MusicZooError


def tag_on_ray(
    paths: list[Path],
    output: Path | None,
    unusable: dict[str, bool],
    *,
    model: str,
    hop: float | None,
    allow_truncated: bool,
    actors: int | None,
    gpus: float,
) -> NoReturn:
    """Write a catalogue and say what it holds.

    Args:
        paths: Audio files, folders, and lists of files and URIs.
        output: The folder to write to.
        unusable: Options of `tag` that do not go with --ray, and whether they were given.
        model: See `write_catalogue`.
        hop: See `write_catalogue`.
        allow_truncated: See `write_catalogue`.
        actors: See `write_catalogue`.
        gpus: See `write_catalogue`.

    Raises:
        Exit: Always: 0, 1 if files failed, 130 if interrupted.
    """
    from music_zoo.catalogue import read_sources, write_catalogue
    from music_zoo.progress import counting

    if output is None:
        raise typer.BadParameter("--ray writes to a folder: give it with --output.")
    if given := [option for option, is_given in unusable.items() if is_given]:
        raise typer.BadParameter(f"--ray writes Parquet and goes without {', '.join(given)}.")
    sources = read_sources(paths)
    if not sources:
        raise MusicZooError(f"{', '.join(map(str, paths))}: expected paths or URIs, a line each; found none.")
    try:
        with counting("files") as progress:
            written = write_catalogue(
                sources,
                output,
                model=model,
                hop=hop,
                allow_truncated=allow_truncated,
                actors=actors,
                gpus=gpus,
                progress=progress,
            )
    except KeyboardInterrupt:
        typer.echo("interrupted; the same command goes on from there", err=True)
        raise typer.Exit(130) from None
    except ValueError as error:
        if isinstance(error, MusicZooError):
            raise
        raise typer.BadParameter(str(error)) from error
    earlier = f"; {written.earlier} of them by an earlier run" if written.earlier else ""
    typer.echo(
        f"wrote {output}: {written.tracks} tracks, {written.failures} failures{earlier}",
        err=True,
    )
    raise typer.Exit(1 if written.failures else 0)
