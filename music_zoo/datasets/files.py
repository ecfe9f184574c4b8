"""Reading the files of a data set, so that one that is missing or damaged is told by its name."""

import csv
import zipfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from music_zoo.errors import DatasetError

SPLITS = ("train", "validation", "test")


def require_files(root: Path, *names: str) -> None:
    """Raise unless all files are there.

    Raises:
        DatasetError: Some are not; the message names each.
    """
    missing = [name for name in names if not (root / name).exists()]
    if missing:
        raise DatasetError(
            f"{root} is incomplete: expected {', '.join(names)}; missing: {', '.join(missing)}."
        )


def read_table(path: Path, *columns: str, delimiter: str = ",") -> list[tuple[str, ...]]:
    """Return the rows of a CSV file with a header, of each the named columns in that order.

    Raises:
        DatasetError: No text, a column that is missing, a row that is cut short, or no rows.
    """
    try:
        with path.open(newline="", encoding="utf-8") as file:
            table = csv.DictReader(file, delimiter=delimiter)
            missing = [column for column in columns if column not in (table.fieldnames or ())]
            rows = [] if missing else [tuple(row[column] for column in columns) for row in table]
    except (UnicodeDecodeError, csv.Error, OSError) as error:
        raise DatasetError(f"{path} cannot be read as a CSV file: {error}") from error
    if missing:
        raise DatasetError(
            f"{path}: expected the columns {', '.join(columns)}; missing: {', '.join(missing)}."
        )
    if not rows:
        raise DatasetError(f"{path} holds a header and no rows.")
    for number, row in enumerate(rows, start=2):
        if None in row:
            raise DatasetError(
                f"{path}, line {number}: expected the columns {', '.join(columns)}; the row is cut short."
            )
    return rows


def read_arrays(path: Path, *names: str) -> list[np.ndarray]:
    """Return arrays of an `.npz` file.

    Raises:
        DatasetError: No such archive (damaged, cut short, or a stand-in for a file not fetched), an array
            that is missing, or one that holds Python objects.
    """
    try:
        # Opened here, since numpy leaves a damaged file open.
        with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
            return [archive[name] for name in names]
    except KeyError as error:
        raise DatasetError(f"{path}: expected the arrays {', '.join(names)}; {error.args[0]}") from error
    except (
        ValueError,
        TypeError,
        AttributeError,
        EOFError,
        OSError,
        zipfile.BadZipFile,
        zipfile.zlib.error,
    ) as error:
        raise DatasetError(f"{path} cannot be read as an .npz archive; fetch it again: {error}") from error


def check_splits(path: Path, found: Sequence[str], known: Sequence[str]) -> None:
    """Raise if a table names a split that is not known.

    Raises:
        DatasetError: With the names.
    """
    unknown = sorted(set(found) - set(known))
    if unknown:
        raise DatasetError(f"{path}: expected the splits {', '.join(map(repr, known))}; got also {unknown}.")
