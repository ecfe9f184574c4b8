"""What fitting, reliability and metrics ask of their input: all refuse the same mistakes."""

import warnings
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike

Task = Literal["single_label", "multi_label"]

#: How far from 1 the probabilities of a file may sum: room for the rounding of float16, not for sigmoids.
SUM_TOLERANCE = 5e-3


def check_targets(targets: ArrayLike, files: int, classes: int, task: Task) -> np.ndarray:
    """Return the targets as integers, or say what is wrong with them.

    Args:
        targets: Single-label: class index of each file, `(files,)`. Multi-label: 0 or 1 for each file and
            class, `(files, classes)`, of any dtype.
        files: Number of files.
        classes: Number of classes.
        task: `"single_label"` or `"multi_label"`.

    Raises:
        ValueError: An unknown task, another shape, or values out of range.
    """
    targets = np.asarray(targets)
    if task == "single_label":
        expected, meaning = (
            (files,),
            "one class index per file (of one-hot targets take `targets.argmax(axis=1)`)",
        )
    elif task == "multi_label":
        expected, meaning = (files, classes), "0 or 1 for each file and class"
    else:
        raise ValueError(f"`task` must be 'single_label' or 'multi_label', got {task!r}.")
    if targets.shape != expected:
        raise ValueError(f"{task} targets must be of shape {expected}, {meaning}; got shape {targets.shape}.")
    if task == "multi_label":
        if not np.isin(targets, (0, 1)).all():
            raise ValueError(
                f"{task} targets must be 0 or 1; got others, such as {_first_not(targets, (0, 1))}."
            )
        return targets.astype(np.int64)
    if targets.dtype.kind not in "iu":
        raise ValueError(f"{task} targets must be integers, {meaning}; got dtype {targets.dtype}.")
    if targets.size and not 0 <= targets.min() <= targets.max() < classes:
        raise ValueError(
            f"{task} targets must lie in 0..{classes - 1} for {classes} classes; "
            f"got {targets.min()}..{targets.max()}. Are the data's labels those of the model?"
        )
    return targets.astype(np.int64)


def check_probabilities(
    probabilities: ArrayLike, targets: ArrayLike, task: Task
) -> tuple[np.ndarray, np.ndarray]:
    """Return probabilities `(files, classes)` as float64, targets as integers, or say what is wrong.

    Raises:
        ValueError: No files; probabilities that are not finite, not in [0, 1] or, single-label, do not sum to
            1; targets that `check_targets` refuses.
    """
    probabilities = np.asarray(probabilities, dtype=np.float64)
    if probabilities.ndim != 2 or not probabilities.size:
        raise ValueError(f"Probabilities must be of shape (files, classes), got shape {probabilities.shape}.")
    if not np.isfinite(probabilities).all():
        bad = np.flatnonzero(~np.isfinite(probabilities).all(axis=1))
        raise ValueError(
            f"Probabilities must be finite; NaN or infinity in {bad.size} files, first at {bad[0]}."
        )
    if probabilities.min() < 0 or probabilities.max() > 1:
        raise ValueError(
            f"Probabilities must lie in [0, 1], got {probabilities.min():.6g}..{probabilities.max():.6g}. "
            "Are they logits?"
        )
    if task == "single_label":
        worst = np.abs(probabilities.sum(axis=1) - 1).argmax()
        if abs(total := probabilities[worst].sum() - 1) > SUM_TOLERANCE:
            raise ValueError(
                f"Single-label probabilities must sum to 1 over the classes; those of file {worst} sum to "
                f"{1 + total:.6g}. Are they sigmoids (task='multi_label')?"
            )
    return probabilities, check_targets(targets, *probabilities.shape, task)


def check_both_ways(targets: np.ndarray, classes: int, task: Task) -> np.ndarray:
    """Return which classes are true of some files and false of others, `(classes,)` bool.

    Args:
        targets: As from `check_targets`.
        classes: Number of classes.
        task: `"single_label"` or `"multi_label"`.

    Raises:
        ValueError: Single-label without any file of some class.

    Warns:
        UserWarning: Multi-label, a class that is true of all files or of none.
    """
    counts = np.bincount(targets, minlength=classes) if task == "single_label" else targets.sum(axis=0)
    both = (counts > 0) & (counts < len(targets))
    if both.all():
        return both
    if task == "single_label":
        raise ValueError(
            "A calibration class by class needs held-out files of every class; there are none of those with "
            f"index {_listed(counts == 0)}. Add files, or fit a temperature, which all classes share."
        )
    warnings.warn(
        "Classes that are true of all held-out files or of none keep the shared temperature: those with "
        f"index {_listed(~both)}.",
        stacklevel=3,
    )
    return both


def _listed(chosen: np.ndarray) -> str:
    indices = np.flatnonzero(chosen)
    return ", ".join(map(str, indices[:8])) + (", ..." if indices.size > 8 else "")


def _first_not(values: np.ndarray, allowed: tuple) -> object:
    return values[~np.isin(values, allowed)].flat[0]
