"""A preset's folder: config.json, model.safetensors, golden.safetensors; written in one step, read strictly.

Nothing in such a folder can be executed: the config is plain JSON, the tensors are plain numbers. What comes
from elsewhere is not trusted, so reading checks sizes, types and values before anything is handed on.
"""

import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file, save

from music_zoo.errors import PresetError
from music_zoo.files import temporary_beside
from music_zoo.hub.files import CONFIG_FILE, GOLDEN_FILE, PRESET_FILES, WEIGHTS_FILE, parse_json

FORMAT_VERSION = 1
MAX_CONFIG_BYTES = 1_000_000
MAX_DEPTH = 32
MAX_ITEMS = 10_000  # of a list
MAX_NUMBER = 16_384  # in a config: widths, depths, bands; above them all that our networks have
MAX_NUMBERS = {"sample_rate": 1_000_000, "fmin": 1_000_000, "fmax": 1_000_000, "window": 3_600}
MAX_HEADER_BYTES = 10_000_000  # about 100 bytes a tensor: far above any music model
DTYPES = tuple(
    np.dtype(kind + size) for kind, sizes in {"f": "248", "i": "1248", "u": "1248"}.items() for size in sizes
)


@dataclass(frozen=True)
class PresetFiles:
    """What a preset's folder holds.

    Attributes:
        config: how the classifier is built; a JSON object, without the format version of the file.
        tensors: the weights by name.
        golden: an input and the outputs it must give, or None where the folder has none.
    """

    config: dict[str, Any]
    tensors: dict[str, np.ndarray]
    golden: dict[str, np.ndarray] | None


def write_preset(
    folder: str | Path,
    config: Mapping[str, Any],
    tensors: Mapping[str, np.ndarray],
    golden: Mapping[str, np.ndarray] | None = None,
) -> None:
    """Writes a preset's folder, in place of an older preset if there is one.

    All files are written to a folder beside it first, which then takes its name: whatever happens, `folder`
    is never half old, half new.

    Raises:
        PresetError: `folder` holds other things than a preset, or a value cannot be stored; nothing changes.
        OSError: the disk is full or not writable; an older preset stays.
    """
    folder = Path(folder).resolve()
    _check_replaceable(folder)
    try:
        text = json.dumps({**config, "format_version": FORMAT_VERSION}, indent=2, allow_nan=False)
    except (TypeError, ValueError, RecursionError) as error:
        raise PresetError(f"{CONFIG_FILE}: expected a config that JSON can hold: {error}") from error
    folder.parent.mkdir(parents=True, exist_ok=True)
    fresh, old = temporary_beside(folder), temporary_beside(folder)
    try:
        fresh.mkdir()
        (fresh / CONFIG_FILE).write_bytes(f"{text}\n".encode())
        _write_tensors(fresh / WEIGHTS_FILE, tensors)
        if golden is not None:
            _write_tensors(fresh / GOLDEN_FILE, golden)
        if folder.exists():
            folder.rename(old)
        fresh.rename(folder)
    finally:
        if old.exists() and not folder.exists():  # stopped between the two renames
            old.rename(folder)
        shutil.rmtree(fresh, ignore_errors=True)
        shutil.rmtree(old, ignore_errors=True)


def read_preset(folder: str | Path) -> PresetFiles:
    """Reads a preset's folder.

    Raises:
        PresetError: a file is missing, truncated, altered or holds what a preset may not; names the file.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise PresetError(f"{folder}: expected a preset's folder ({', '.join(PRESET_FILES)}), found none")
    return PresetFiles(
        config=_read_config(folder / CONFIG_FILE),
        tensors=_read_tensors(folder / WEIGHTS_FILE),
        golden=_read_tensors(folder / GOLDEN_FILE) if (folder / GOLDEN_FILE).exists() else None,
    )


def check_tensors(expected: Mapping[str, tuple[int, ...]], got: Mapping[str, np.ndarray]) -> None:
    """Checks that weights are those of a model: each name of `expected`, in its shape, and no other.

    Raises:
        PresetError: names every tensor that is missing, extra or of another shape (the first eight of each).
    """
    problems = {
        "missing": [name for name in expected if name not in got],
        "not part of the model": [name for name in got if name not in expected],
        "of another shape": [
            f"{name} (expected {tuple(shape)}, got {got[name].shape})"
            for name, shape in expected.items()
            if name in got and got[name].shape != tuple(shape)
        ],
    }
    if any(problems.values()):
        listed = "; ".join(
            f"{len(names)} {what}: {_first(names)}" for what, names in problems.items() if names
        )
        raise PresetError(f"the weights are not those of this model; {listed}")


def _first(names: list[str], count: int = 8) -> str:
    return ", ".join(names[:count]) + (", ..." if len(names) > count else "")


def _check_replaceable(folder: Path) -> None:
    if not folder.exists():
        return
    if not folder.is_dir():
        raise PresetError(
            f"{folder}: expected a folder to write the preset to, found a file; choose another name"
        )
    content = {item.name for item in folder.iterdir()}
    if foreign := sorted(content.difference(PRESET_FILES)):
        raise PresetError(
            f"{folder}: expected nothing, an empty folder or an older preset, found {_first(foreign)}; "
            "replacing it would delete them, so move them or choose another name"
        )
    if content:
        _read_config(folder / CONFIG_FILE)  # other libraries' models have files of the same names


def _read_config(path: Path) -> dict[str, Any]:
    _check_file(path)
    if (size := path.stat().st_size) > MAX_CONFIG_BYTES:
        raise PresetError(f"{path}: expected at most {MAX_CONFIG_BYTES} bytes, found {size}")
    try:
        config = parse_json(path.read_bytes())
    except (ValueError, OSError) as error:
        raise PresetError(f"{path}: expected valid JSON: {error}") from error
    if not isinstance(config, dict):
        raise PresetError(f"{path}: expected a JSON object, found {type(config).__name__}")
    version = config.pop("format_version", None)
    if type(version) is not int or version != FORMAT_VERSION:
        raise PresetError(
            f"{path}: expected format_version {FORMAT_VERSION}, found {version!r}; "
            "a higher one was written by a newer music_zoo: update it"
        )
    _check_size(path, config)
    return config


def _check_size(path: Path, config: dict[str, Any]) -> None:
    """Refuses what would build a network that no machine can hold."""
    todo: list[tuple[str, Any, int]] = [("", config, 0)]
    while todo:
        key, value, depth = todo.pop()
        if isinstance(value, dict | list):
            if depth > MAX_DEPTH or len(value) > MAX_ITEMS:
                raise PresetError(
                    f"{path}: expected at most {MAX_ITEMS} items, in at most {MAX_DEPTH} levels; found more "
                    f"at {key!r}"
                )
            named = value.items() if isinstance(value, dict) else ((key, item) for item in value)
            todo += [(name, item, depth + 1) for name, item in named]
        elif isinstance(value, int | float) and not abs(value) <= (most := MAX_NUMBERS.get(key, MAX_NUMBER)):
            raise PresetError(f"{path}: expected {key!r} of at most {most}, found {value}")


def _write_tensors(path: Path, tensors: Mapping[str, np.ndarray]) -> None:
    # safetensors writes the memory as it lies, so a transposed view must be laid out first.
    arrays = {name: np.asarray(value, order="C") for name, value in tensors.items()}
    _check_values(path.name, arrays)
    path.write_bytes(save(arrays))  # `save_file` would make a file that only its owner can read


def _read_tensors(path: Path) -> dict[str, np.ndarray]:
    _check_file(path)
    try:
        with path.open("rb") as file:
            header = int.from_bytes(file.read(8), "little")
        if header > MAX_HEADER_BYTES:
            raise PresetError(
                f"{path}: expected a header of at most {MAX_HEADER_BYTES} bytes, found {header}"
            )
        tensors = load_file(path)
    except (SafetensorError, OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise PresetError(
            f"{path}: expected a complete safetensors file of float or integer tensors: "
            f"{type(error).__name__}: {error}"
        ) from error
    _check_values(str(path), tensors)
    return tensors


def _check_file(path: Path) -> None:
    if not path.is_file():
        raise PresetError(f"{path}: missing; expected a preset's folder with {', '.join(PRESET_FILES)}")


def _check_values(where: str, tensors: Mapping[str, np.ndarray]) -> None:
    for name, value in tensors.items():
        if value.dtype not in DTYPES:
            raise PresetError(f"{where}: expected float or integer tensors, but {name!r} is {value.dtype}")
        if not np.isfinite(value).all():
            raise PresetError(f"{where}: expected finite numbers, but {name!r} holds NaN or infinity")
