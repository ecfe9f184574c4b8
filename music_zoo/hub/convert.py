"""Original checkpoints to our classifiers' tensors: nothing missing, nothing left over, every shape right."""

from collections.abc import Mapping

import numpy as np

from music_zoo.errors import PresetError
from music_zoo.hub.conversion import (
    clmr,
    jamendo,
    multi_view_resnet,
    music_tagging_transformer,
    musicnn,
    smc2020,
    swin,
)
from music_zoo.hub.conversion.table import Table

#: The mapping tables by the name of the source.
TABLES: dict[str, Table] = {
    **clmr.TABLES,
    **jamendo.TABLES,
    **multi_view_resnet.TABLES,
    **music_tagging_transformer.TABLES,
    **musicnn.TABLES,
    **smc2020.TABLES,
    **swin.TABLES,
}

#: What no original has, at the value at which it changes nothing.
_OWN = {"calibrator.temperature": 1.0}


def convert(
    source: str, state: Mapping[str, np.ndarray], shapes: Mapping[str, tuple[int, ...]]
) -> dict[str, np.ndarray]:
    """Return a classifier's tensors from the entries of an original checkpoint.

    Args:
        source: Whose names the entries have: a key of `TABLES`.
        state: The checkpoint, as `music_zoo.hub.checkpoints` reads it.
        shapes: The tensors that the classifier needs, by name, as `{name: t.shape for name, t in
            classifier.tensors().items()}` says.

    Returns:
        One float32 array per name in `shapes`, for `Classifier.set_tensors`.

    Raises:
        PresetError: Entries are missing, left over, or of another shape; the message names them.
        ValueError: No such source.
    """
    if source not in TABLES:
        raise ValueError(f"`source` must be one of {', '.join(TABLES)}, got {source!r}.")
    table = TABLES[source]
    entries = _weights(table, state)
    tensors: dict[str, np.ndarray] = {}
    problems: dict[str, list[str]] = {
        "unknown to the table": [],
        "missing": [],
        "of another shape": [],
        "left over": [],
    }
    used: set[str] = set()
    for name, shape in shapes.items():
        if name in _OWN:
            tensors[name] = np.full(shape, _OWN[name], np.float32)
            continue
        origin = table.origin(name)
        if origin is None:
            problems["unknown to the table"].append(name)
            continue
        used.update(origin.names)
        absent = [entry for entry in origin.names if entry not in entries]
        problems["missing"] += absent
        if absent:
            continue
        arrays = [entries[entry] for entry in origin.names]
        try:
            tensors[name] = np.asarray(origin.make(*arrays), np.float32)
        except (IndexError, ValueError):  # NumPy's, for shapes that do not go together
            tensors[name] = None
        if tensors[name] is None or tensors[name].shape != tuple(shape):
            found = ", ".join(f"{e} {a.shape}" for e, a in zip(origin.names, arrays, strict=True))
            problems["of another shape"].append(f"{found} for {name} {tuple(shape)}")
    problems["left over"] = sorted(set(entries) - used)
    if any(problems.values()):
        listed = "; ".join(
            f"{len(names)} {what}: {', '.join(names[:8])}{', ...' if len(names) > 8 else ''}"
            for what, names in problems.items()
            if names
        )
        raise PresetError(
            f"Expected a checkpoint of {source!r} that fits the classifier entry by entry; {listed}. "
            "It may be of another architecture, configuration or number of classes."
        )
    return tensors


def _weights(table: Table, state: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Return the entries that are weights, under the names that the table knows."""
    entries: dict[str, np.ndarray] = {}
    for original, array in state.items():
        name = table.renamed(original)
        if table.is_constant(name):
            continue
        if name in entries:
            raise PresetError(
                f"The checkpoint has two entries for {name}, one of them {original}; expected one of each."
            )
        entries[name] = array
    return entries
