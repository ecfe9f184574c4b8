"""A name to a classifier: `load`, `list_models`, `describe`. Keras is imported when something is loaded."""

from collections.abc import Iterable, Sequence
from difflib import get_close_matches
from fnmatch import fnmatchcase
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING

from music_zoo.backend import require_backend
from music_zoo.errors import PresetError, UnknownPresetError
from music_zoo.hub.manifest import PresetEntry, read_manifest

if TYPE_CHECKING:
    from music_zoo.audio_model import AudioModel


def list_models(pattern: str = "*", *, pretrained: bool = True) -> list[str]:
    """Return the names of the presets that match a pattern such as `"*swin*"`, in the manifest's order.

    Args:
        pattern: With `*`, `?` and `[...]` as in file names.
        pretrained: False for the configurations without weights that `load(name, pretrained=False)` builds;
            imports Keras.
    """
    return [name for name in (read_manifest() if pretrained else _configs()) if fnmatchcase(name, pattern)]


def describe(name: str) -> PresetEntry:
    """Return what the manifest says of a preset: labels, training data, licence, measured results.

    Raises:
        UnknownPresetError: No preset has this name; the message gives the nearest names.
    """
    manifest = read_manifest()
    if name not in manifest:
        raise _unknown(name, list(manifest))
    return manifest[name]


def load(
    name: str | PathLike,
    *,
    labels: Sequence[str] | None = None,
    num_classes: int | None = None,
    task: str | None = None,
    pretrained: bool = True,
    cache_dir: str | PathLike | None = None,
) -> "AudioModel":
    """Load a pretrained classifier or ensemble, or build an untrained one.

    What was downloaded must, the first time, give the outputs that its golden tensors record.

    Args:
        name: A preset's name (`list_models()` has them all), a preset folder (as `Classifier.save_preset`
            writes it), or a Hub repository, `hf://organisation/repository@revision`.
        labels: Names of your own classes: the backbone keeps its weights, the head is new and untrained (of
            an ensemble, those of each member).
        num_classes: The same, for classes without names.
        task: `"single_label"` or `"multi_label"`, for a new head; that of the preset if None.
        pretrained: False for an untrained classifier: `name` is then a configuration's
            (`list_models(pretrained=False)` has them all), and `labels` or `num_classes` must be given.
        cache_dir: Where downloads are kept; `MUSIC_ZOO_CACHE` or the user's cache folder if None.

    Returns:
        A `keras.Model` from windows of waveform to probabilities, with `classify` and `embed` for files: a
        `Classifier`, or an `Ensemble` where that is what was saved.

    Raises:
        BackendMissingError: Neither TensorFlow, JAX nor PyTorch is installed.
        UnknownPresetError: The name stands for nothing; the message gives the nearest names.
        PresetError: The files are missing, altered or incomplete, or could not be fetched.
        ValueError: `labels`, `num_classes` and `task` contradict each other.
    """
    labels = _own_labels(labels, num_classes, task)
    if not pretrained:
        return _build(str(name), labels, task)
    require_backend()
    from music_zoo.classifier import Classifier
    from music_zoo.ensemble import Ensemble
    from music_zoo.golden import check_once
    from music_zoo.hub.preset_files import read_preset

    folder = locate(name, cache_dir)
    files = read_preset(folder)
    kinds = {kind.kind: kind for kind in (Classifier, Ensemble)}
    kind = files.config.get("kind", Classifier.kind)
    if kind not in list(kinds):
        raise PresetError(
            f"{name}: expected a preset of kind {' or '.join(kinds)}, found {kind!r}; it may need a newer "
            "music_zoo."
        )
    if not _is_downloaded(name, folder):
        return kinds[kind].from_preset_files(files, labels=labels, task=task)
    model = kinds[kind].from_preset_files(files)
    check_once(model, files, cache_dir)
    return model if labels is None else model.with_labels(labels, task)


def _build(name: str, labels: tuple[str, ...] | None, task: str | None) -> "AudioModel":
    """Return an untrained classifier of a named configuration."""
    configs = _configs()
    if name not in configs:
        raise UnknownPresetError(
            f"{name!r} is no configuration. {_near(name, configs)}"
            f"`music_zoo.list_models(pretrained=False)` gives all {len(configs)}."
        )
    if labels is None:
        raise ValueError("An untrained classifier has no labels: give `labels` or `num_classes` with it.")
    from music_zoo.classifier import Classifier

    own = {"labels": labels, "name": name} | ({"task": task} if task else {})
    return Classifier.from_config(configs[name] | own)


def _configs() -> dict[str, dict]:
    require_backend()
    from music_zoo.models import named_configs

    return named_configs()


def _is_downloaded(name: str | PathLike, folder: Path) -> bool:
    from music_zoo.hub.sources import BUNDLED_PRESETS

    return folder != Path(name) and folder.parent != BUNDLED_PRESETS


def locate(name: str | PathLike, cache_dir: str | PathLike | None = None) -> Path:
    """Return the folder that holds the preset's verified files, downloaded if need be.

    Args:
        name: As in `load`.
        cache_dir: As in `load`.

    Raises:
        UnknownPresetError: The name stands for nothing; the message gives the nearest names.
        PresetError: The files are missing, altered or incomplete, or could not be fetched.
    """
    from music_zoo.hub.sources import fetch, fetch_hub_reference

    if not isinstance(name, str) and Path(name).is_dir():
        return Path(name)
    manifest = read_manifest()
    if name in manifest:
        return fetch(name, manifest[name], cache_dir=cache_dir)
    if str(name).startswith("hf://"):
        return fetch_hub_reference(str(name), cache_dir=cache_dir).folder
    if Path(name).is_dir():
        return Path(name)
    if str(name) in _configs():
        raise UnknownPresetError(
            f"{str(name)!r} is a configuration without weights; to train it, "
            f"`music_zoo.load({str(name)!r}, pretrained=False, labels=[...])`."
        )
    raise _unknown(str(name), list(manifest))


def _own_labels(labels, num_classes: int | None, task: str | None) -> tuple[str, ...] | None:
    if isinstance(labels, str):
        raise ValueError(f"`labels` must be a list of names, got the string {labels!r}.")
    if labels is None and num_classes is None:
        if task is not None:
            raise ValueError("`task` belongs to a new head: give `labels` or `num_classes` with it.")
        return None
    if labels is None:
        return tuple(f"class_{i}" for i in range(num_classes))
    if num_classes is not None and num_classes != len(labels):
        raise ValueError(f"`num_classes` is {num_classes}, but there are {len(labels)} `labels`.")
    return tuple(labels)


def _unknown(name: str, known: list[str]) -> UnknownPresetError:
    return UnknownPresetError(
        f"{name!r} is no preset, no folder and no Hub repository (hf://organisation/repository). "
        f"{_near(name, known)}`music-zoo models` lists all {len(known)} presets."
    )


def _near(name: str, known: Iterable[str]) -> str:
    near = get_close_matches(name, known, n=3, cutoff=0.4)
    return f"Did you mean {' or '.join(near)}? " if near else ""
