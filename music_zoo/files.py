"""Files written in one step: under a temporary name beside their place, then renamed."""

import errno
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


def temporary_beside(path: Path) -> Path:
    """Name a new hidden file or folder beside `path`: on the same disk, so that a rename puts it in place.

    `tempfile` is not used: what it makes is readable by its owner alone, and so would be the renamed result.
    """
    return path.with_name(f".{path.name}.{secrets.token_hex(6)}.tmp")


def check_replaceable(path: Path) -> None:
    """Raise if `path` could not be written: before hours of work, not after. Make the folders above it.

    Raises:
        OSError: `path` is a folder or a device, or its folder cannot be written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.exists() and not path.is_file():
        raise OSError(errno.EEXIST, "Expected a file to write to, found a folder or a device", str(path))
    if not os.access(path.parent, os.W_OK):
        raise OSError(errno.EACCES, os.strerror(errno.EACCES), str(path.parent))


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Give a name to write to; what was written there takes the place of `path`, unless an error came.

    So at any time `path` holds either all of the old content or all of the new. Folders above it are made.
    """
    check_replaceable(path)
    temporary = temporary_beside(path)
    try:
        yield temporary
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
