"""The commands of the Hub: `music-zoo publish`, `pull`, `verify` and `cache`."""

import re
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

from music_zoo import zoo
from music_zoo.errors import MusicZooError
from music_zoo.hub.manifest import manifest_path, read_manifest, update_manifest
from music_zoo.hub.schema import REPO_PATTERN, BundledSource, HubSource, OriginalSource

Names = Annotated[list[str] | None, typer.Argument(help="Presets, or hf:// references.", show_default=False)]


def add_to(app: typer.Typer) -> None:
    """Add the commands to a command line."""
    for command in (publish, pull, verify, cache):
        app.command()(command)


def publish(
    preset: Annotated[str, typer.Argument(help="Name of a preset, or a preset folder.", show_default=False)],
    repo: Annotated[str, typer.Option(help="Where to: organisation/repository.")],
    card: Annotated[
        Path | None,
        typer.Option(help="Of a folder: JSON with description, license, training_data and limits."),
    ] = None,
    reliability: Annotated[
        Path | None, typer.Option(help="Picture for its page, from `evaluate --reliability`.")
    ] = None,
    private: Annotated[bool, typer.Option("--private", help="Make a new repository a private one.")] = False,
    push: Annotated[bool, typer.Option("--push", help="Send it; without, only say what would be.")] = False,
) -> None:
    """Publish a preset on the Hugging Face Hub: its files, and a page made from the manifest.

    The commit and the hashes are written into the manifest, music_zoo's own or that of MUSIC_ZOO_MANIFEST.
    Publishing the same thing twice changes nothing.
    """
    from music_zoo.hub import publish as publishing
    from music_zoo.hub.sources import fetch

    if not re.fullmatch(REPO_PATTERN, repo):
        raise typer.BadParameter(f"--repo: expected organisation/repository, got {repo!r}.")
    if card is None:
        name, entry = preset, zoo.describe(preset)
        if not entry.files:
            publishing.prepare(name, entry, Path(), repo)  # says why it cannot be, before anything is loaded
        folder = fetch(name, entry)
    else:
        folder = Path(preset)
        name, entry = publishing.new_entry(folder, card, repo)
    publication = publishing.prepare(name, entry, folder, repo, reliability)
    for file, size in publication.sizes.items():
        print(f"{size:>12,}  {file}")
    if not push:
        print(f"\n{publication.files['README.md'].decode()}")
        print(f"Nothing was sent; with --push, this goes to hf://{repo}.", file=sys.stderr)
        return
    entry = publishing.push(publication, private=private)
    path = manifest_path()
    if not path.exists() or read_manifest(path).get(name) != entry:
        update_manifest(name, entry, path)
        print(f"wrote {path}", file=sys.stderr)
    print(next(source for source in entry.sources if isinstance(source, HubSource)))


def pull(
    names: Names = None,
    every: Annotated[bool, typer.Option("--all", help="All presets of the manifest.")] = False,
) -> None:
    """Download presets into the cache, checked, and print where they lie.

    Presets that cannot be had are reported and skipped; the exit status is then 1.
    """
    from music_zoo.hub.sources import fetch, fetch_hub_reference

    with _downloading() as progress:

        def get(name: str) -> str:
            if name.startswith("hf://"):
                snapshot = fetch_hub_reference(name)
                return f"{snapshot.source}\t{snapshot.folder}"
            entry = zoo.describe(name)
            folder = fetch(name, entry, progress=progress)
            if any(isinstance(source, OriginalSource) for source in entry.sources):
                print(f"{name}: licence {entry.license}; please cite {entry.citation}", file=sys.stderr)
            return f"{name}\t{folder}"

        _each(names, every, get)


def verify(
    names: Names = None,
    every: Annotated[bool, typer.Option("--all", help="All presets of the manifest.")] = False,
    manifest: Annotated[
        bool,
        typer.Option("--manifest", help="Check manifests instead: the files named, or music_zoo's own."),
    ] = False,
) -> None:
    """Check presets: size and sha256 of every file, and the outputs that their golden tensors record.

    What is not there yet is downloaded. With --manifest, check that manifests are valid, and bundled files
    those that they list.
    """
    if manifest:
        return _each(names or [str(manifest_path())], False, _verify_manifest)
    _each(names, every, _verify_preset)


def cache() -> None:
    """List the presets in the caches, with their sizes."""
    from music_zoo.hub.cached import cached_presets

    presets = cached_presets()
    for preset in presets:
        print(f"{preset.size / 1e6:>10.1f} MB  {preset.name}\t{preset.folder}")
    print(f"{sum(preset.size for preset in presets) / 1e6:>10.1f} MB in all")


def _verify_manifest(path: str) -> str:
    from music_zoo.hub.sources import BUNDLED_PRESETS
    from music_zoo.hub.sources import verify as verify_files

    manifest = read_manifest(path)
    bundled = [name for name, it in manifest.items() if BundledSource() in it.sources]
    for name in bundled:
        verify_files(BUNDLED_PRESETS / name, manifest[name].files)
    return f"{path}: valid, {len(manifest)} presets, {len(bundled)} of them bundled and intact"


def _verify_preset(name: str) -> str:
    from music_zoo.backend import import_keras

    import_keras()
    from music_zoo.golden import check_golden
    from music_zoo.hub.preset_files import read_preset

    folder = zoo.locate(name)
    golden = read_preset(folder).golden
    classifier = zoo.load(folder)
    if golden is None:
        return f"{name}: files intact; no golden tensors to compare outputs with"
    check_golden(classifier, golden)
    return f"{name}: files intact, outputs as recorded"


def _each(names: list[str] | None, every: bool, do: Callable[[str], str]) -> None:
    """Print what is said of each preset; go on after errors, and exit with 1 if there were any."""
    if bool(names) == every:
        raise typer.BadParameter("give names, or --all.")
    failed = 0
    for name in names or read_manifest():
        try:
            print(do(name))
        except MusicZooError as error:
            failed += 1
            print(f"music-zoo: {name}: {error}", file=sys.stderr)
    raise typer.Exit(1 if failed else 0)


@contextmanager
def _downloading() -> Iterator[Callable[[str, int, int], None]]:
    """Show a bar of the bytes of one file after another."""
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn

    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn())
    console = Console(stderr=True, markup=False)
    with Progress(*columns, console=console, disable=not sys.stderr.isatty(), transient=True) as bar:
        task = bar.add_task("")
        yield lambda file, done, total: bar.update(
            task, description=file, completed=done, total=total or None
        )
