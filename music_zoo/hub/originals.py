"""From the authors' checkpoint to a preset folder: where it lies, whether it is the one, and its conversion.

A network says which tensors it needs, so this is the one module of the hub that imports Keras, and it does
so only to convert.
"""

import json
import os
import shutil
import zipfile
import zlib
from collections.abc import Sequence
from pathlib import Path

from music_zoo.errors import PresetError
from music_zoo.hub.files import CONFIG_FILE, WEIGHTS_FILE, parse_json
from music_zoo.hub.schema import FileRecord, OriginalFile, OriginalSource, is_safe_url

#: Sizes and hashes of the converted files, which no manifest can know.
RECORDS_FILE = "files.json"
#: Of a file in an archive.
MAX_MEMBER_BYTES = 1 << 30


def address(original: OriginalFile) -> str:
    """The address to get an original from: its authors', or in the copy that `MUSIC_ZOO_ORIGINALS` names.

    Raises:
        PresetError: the variable holds neither a folder nor a safe address.
    """
    mirror = os.environ.get("MUSIC_ZOO_ORIGINALS")
    if not mirror:
        return original.url
    if "://" not in mirror:
        return (Path(mirror).expanduser().resolve() / original.path).as_uri()
    if not is_safe_url(mirror):
        raise PresetError(f"MUSIC_ZOO_ORIGINALS: expected a folder or an https address, got {mirror!r}")
    return f"{mirror.rstrip('/')}/{original.path}"


def pinned(original: OriginalFile, file: Path, url: str) -> Path:
    """The file itself if it is what the manifest pins, or the one in it, unpacked beside it, that is.

    Raises:
        PresetError: it is not; names `url`, where it came from.
    """
    if file.suffix != ".zip":
        if original.is_pinned_as(file.read_bytes()):
            return file
        found = FileRecord.of(file)
        raise PresetError(f"{url} is not the file expected: got {found}, expected {original.pins}")
    try:
        with zipfile.ZipFile(file) as archive:
            for member in archive.infolist():
                if member.file_size > MAX_MEMBER_BYTES or not original.is_pinned_as(archive.read(member)):
                    continue
                return Path(archive.extract(member, file.parent))
    except (EOFError, NotImplementedError, RuntimeError, zipfile.BadZipFile, zlib.error) as error:
        raise PresetError(f"{url}: expected an archive, found {error!r}; try again") from error
    raise PresetError(f"{url}: expected an archive of the file {original.pins}, it holds no such file")


def convert_to_preset(
    name: str, source: OriginalSource, labels: Sequence[str], files: Sequence[Path], folder: Path
) -> None:
    """Writes a preset folder with the weights of original checkpoints, and the record of what it holds.

    There are no golden tensors: of a conversion they would confirm whatever it did.

    Args:
        name: of the preset.
        source: what the manifest says of the original.
        labels: in the order of the checkpoint's outputs.
        files: its checked files.
        folder: to be made.

    Raises:
        PresetError: a file is no checkpoint, or one that does not fit the network entry by entry.
    """
    from music_zoo.classifier import Classifier
    from music_zoo.hub.checkpoints import read_keras_h5, read_pytorch
    from music_zoo.hub.convert import convert
    from music_zoo.hub.preset_files import write_preset
    from music_zoo.models import named_configs

    state = {}
    for file in files:
        state |= read_keras_h5(file) if file.suffix == ".h5" else read_pytorch(file)
    classifier = Classifier.from_config(
        named_configs()[source.config] | {"labels": list(labels), "name": name}
    )
    shapes = {tensor: value.shape for tensor, value in classifier.tensors().items()}
    tensors = convert(source.conversion, state, shapes)
    write_preset(folder, {"classifier": classifier.get_config()}, tensors)
    records = {file.name: FileRecord.of(file).model_dump() for file in folder.iterdir()}
    (folder / RECORDS_FILE).write_text(json.dumps(records, indent=2) + "\n")


def is_intact(folder: Path) -> bool:
    """Tells whether a folder holds a conversion, and every file as it was written."""
    try:
        records = parse_json((folder / RECORDS_FILE).read_bytes())
        return {CONFIG_FILE, WEIGHTS_FILE} <= records.keys() and all(
            FileRecord.of(folder / file).model_dump() == record for file, record in records.items()
        )
    except (AttributeError, OSError, ValueError):
        return False


def put_in_place(fresh: Path, folder: Path) -> None:
    """Gives a finished conversion its final name, unless another process was faster."""
    if not is_intact(folder):
        shutil.rmtree(folder, ignore_errors=True)  # gone bad
    try:
        fresh.rename(folder)
    except OSError:
        if not is_intact(folder):
            raise
