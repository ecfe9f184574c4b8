"""What lies in the caches: ours, and Hugging Face's."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from music_zoo.hub.files import CONFIG_FILE, WEIGHTS_FILE, parse_json
from music_zoo.hub.sources import cache_folder


@dataclass(frozen=True)
class CachedPreset:
    """A preset that need not be downloaded again.

    Attributes:
        name: in the manifest, or its reference on the Hub.
        folder: of its files.
        size: in bytes.
    """

    name: str
    folder: Path
    size: int


def cached_presets() -> list[CachedPreset]:
    """Finds the presets in `cache_folder()` and in Hugging Face's cache (`HF_HOME`), sorted by name."""
    return sorted([*_ours(), *_of_the_hub()], key=lambda preset: (preset.name, preset.folder))


def _ours() -> Iterator[CachedPreset]:
    for weights in (cache_folder() / "presets").glob(f"*/*/{WEIGHTS_FILE}"):
        folder = weights.parent
        if not any(part.startswith(".") for part in folder.parts[-2:]):  # a download under way
            size = sum(file.stat().st_size for file in folder.iterdir() if file.is_file())
            yield CachedPreset(folder.parent.name, folder, size)


def _of_the_hub() -> Iterator[CachedPreset]:
    from huggingface_hub import CacheNotFound, constants, scan_cache_dir

    try:
        repos = scan_cache_dir(constants.HF_HUB_CACHE).repos
    except CacheNotFound:
        return
    for repo in repos:
        for revision in repo.revisions:
            if _is_preset(revision.snapshot_path):
                name = f"hf://{repo.repo_id}@{revision.commit_hash}"
                yield CachedPreset(name, revision.snapshot_path, revision.size_on_disk)


def _is_preset(folder: Path) -> bool:
    """Tells presets from other libraries' models, which have a config.json and safetensors, too."""
    try:
        return "format_version" in parse_json((folder / CONFIG_FILE).read_bytes())
    except (OSError, TypeError, ValueError):
        return False
