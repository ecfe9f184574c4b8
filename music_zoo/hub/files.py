"""What the hub's modules share: the names of a preset's files, strict JSON, writing in one step."""

import json
import os
from pathlib import Path
from typing import Any, NoReturn

from music_zoo.files import replacing

CONFIG_FILE = "config.json"
WEIGHTS_FILE = "model.safetensors"
GOLDEN_FILE = "golden.safetensors"
PRESET_FILES = (CONFIG_FILE, WEIGHTS_FILE, GOLDEN_FILE)


def write_atomically(path: Path, data: bytes) -> None:
    """Writes a file so that at any time it holds either its old content or all of the new.

    Raises:
        OSError: the folder cannot be written.
    """
    with replacing(path) as temporary, temporary.open("xb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def parse_json(data: bytes) -> Any:
    """Parses UTF-8 JSON, refusing what Python accepts but JSON does not: NaN, infinities and repeated keys.

    Raises:
        ValueError: the bytes are not such JSON; the message says why.
    """
    try:
        return json.loads(data.decode(), object_pairs_hook=_unique, parse_constant=_refuse)
    except RecursionError:
        raise ValueError("nested too deeply") from None


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result: dict[str, Any] = {}
    for key, value in pairs:
        if key in result:
            raise ValueError(f"the key {key!r} is given twice")
        result[key] = value
    return result


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is not a number in JSON")
