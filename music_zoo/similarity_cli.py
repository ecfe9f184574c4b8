"""The commands `music-zoo index` and `music-zoo similar`."""

import json
import sys
from pathlib import Path
from typing import Annotated

import typer

from music_zoo.backend import import_keras


def add_to(app: typer.Typer) -> None:
    """Add the commands to a command line."""
    app.command()(index)
    app.command()(similar)


def index(
    embeddings: Annotated[
        Path,
        typer.Argument(
            help="What `music-zoo embed` (.parquet) or `music-zoo tag --ray` (a folder) wrote.",
            show_default=False,
        ),
    ],
    output: Annotated[Path, typer.Option(help="New folder of the index.")],
) -> None:
    """Index embeddings, so that `music-zoo similar` finds neighbours among millions in milliseconds."""
    from music_zoo.similarity import Index, Stored

    count = Index.write(Stored(embeddings), output)
    print(f"wrote {output}: {count} rows", file=sys.stderr)


def similar(
    song: Annotated[Path, typer.Argument(help="An audio file.", show_default=False)],
    index: Annotated[
        Path,
        typer.Option(help="What `music-zoo index` wrote, or embeddings as it takes them: exact, but slower."),
    ],
    n: Annotated[int, typer.Option("-n", min=1, help="How many neighbours.")] = 10,
    model: Annotated[
        str | None, typer.Option(help="Where the preset of the index is now, if elsewhere.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object a line.")] = False,
) -> None:
    """Print what sounds most like a song: cosine similarity and file, the most similar first."""
    from music_zoo import similarity, zoo
    from music_zoo.embeddings import origin

    is_index = similarity.is_index(index)
    stored = similarity.Index(index) if is_index else similarity.Stored(index)
    made = {name: stored.origin[name] for name in ("hop", "allow_truncated")}
    model = model or stored.origin["model"]
    similarity.check_origin(stored.origin, origin(model, **made), str(index))
    import_keras()
    query = zoo.load(model).embed(song, **made).mean(axis=0)
    found = stored.search(query, n) if is_index else similarity.search(stored, query, n)
    for neighbour in found:
        if as_json:
            print(json.dumps(neighbour._asdict(), ensure_ascii=False))
        else:
            source, start, end, likeness = neighbour
            print(f"{likeness:6.3f}  {source}  ({start:.1f} to {end:.1f} s)")
