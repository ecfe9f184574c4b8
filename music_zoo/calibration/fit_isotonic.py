"""Fitting a monotone table per class on held-out files. numpy and scikit-learn only."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

from music_zoo.calibration.checks import Task, check_both_ways
from music_zoo.calibration.fitting import fit_temperature, windows_and_targets

#: Length of every table.
KNOTS = 64

#: No stretch of a table is steeper: what backends round differently, some 1e-7, stays below 1e-5 behind it.
MAX_SLOPE = 20.0

#: Of fewer files a table learns the accidents (Niculescu-Mizil and Caruana 2005 advise a thousand).
MIN_FILES_ISOTONIC = 100


def fit_isotonic(
    logits: np.ndarray | Sequence[ArrayLike], targets: ArrayLike, task: Task = "single_label"
) -> tuple[float, np.ndarray, np.ndarray]:
    """Return a temperature and, for each class, a monotone table of posteriors after it.

    scikit-learn's isotonic regression (Zadrozny and Elkan 2002) of each class's truth on its posterior, of
    softmax (each class against the rest) or sigmoid. Its steps are jumps, behind which nothing is left of
    the order of files, and rounding errors are large; so each step becomes one knot at the mean posterior of
    its windows (centred isotonic regression, Oron and Flournoy 2017, doi:10.1080/19466315.2017.1286256), and
    neighbours are merged where the table is steeper than `MAX_SLOPE` or longer than `KNOTS`. No value is
    nearer to 0 or 1 than `1 / (files + 2)`, the rule of succession, so that no file is ruled out.

    A file with several windows gives its truth to each of them, at a weight of 1 together: the table is that
    of windows, not of the mean over windows that `classify` reports.

    Args:
        logits: As of `fit_temperature`.
        targets: As of `fit_temperature`.
        task: `"single_label"` or `"multi_label"`.

    Returns:
        Temperature, and knots and values, both `(classes, KNOTS)` float64, rising along the last axis;
        shorter tables repeat their last knot.

    Raises:
        ValueError: What `fit_temperature` refuses, fewer than `MIN_FILES_ISOTONIC` files, or single-label
            without any file of some class.

    Warns:
        UserWarning: What `fit_temperature` warns of; multi-label, a class that is true of all files or of
            none, which keeps the temperature.
    """
    from scipy.special import expit, softmax

    windows, counts, targets = windows_and_targets(logits, targets, task)
    if counts.size < MIN_FILES_ISOTONIC:
        raise ValueError(
            f"Isotonic tables need at least {MIN_FILES_ISOTONIC} held-out files, got {counts.size}; "
            "with fewer, fit a temperature or vector scaling."
        )
    classes = windows.shape[1]
    determined = check_both_ways(targets, classes, task)
    temperature = fit_temperature(logits, targets, task)
    windows = windows / temperature
    posteriors = softmax(windows, axis=1) if task == "single_label" else expit(windows)
    is_true = np.eye(classes)[targets] if task == "single_label" else targets
    truth, weights = np.repeat(is_true, counts, axis=0), np.repeat(1 / counts, counts)
    lowest = 1 / (counts.size + 2)
    tables = np.empty((classes, 2, KNOTS))
    for index, table in enumerate(tables):
        if determined[index]:
            knots, values = _table(posteriors[:, index], truth[:, index], weights)
        else:
            knots = values = np.array([lowest, 1 - lowest])
        table[:] = np.pad(
            [knots, np.clip(values, lowest, 1 - lowest)], [(0, 0), (0, KNOTS - len(knots))], "edge"
        )
    return temperature, tables[:, 0], tables[:, 1]


def _table(posteriors: np.ndarray, truth: np.ndarray, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return knots and values of one class, at most `KNOTS` of them."""
    from sklearn.isotonic import IsotonicRegression

    fitted = IsotonicRegression(y_min=0, y_max=1).fit(posteriors, truth, weights).predict(posteriors)
    values, step = np.unique(fitted.round(12), return_inverse=True)
    mass = np.bincount(step, weights)
    knots = np.bincount(step, weights * posteriors) / mass
    while len(knots) > 1:
        rise, run = np.diff(values), np.diff(knots)
        if (rise > MAX_SLOPE * run).any():
            at = (rise - MAX_SLOPE * run).argmax()
        elif len(knots) > KNOTS:  # where it costs the least squared error
            at = (rise**2 / (1 / mass[1:] + 1 / mass[:-1])).argmin()
        else:
            break
        pair = slice(at, at + 2)
        knots[at], values[at] = (np.average(each[pair], weights=mass[pair]) for each in (knots, values))
        mass[at] = mass[pair].sum()
        knots, values, mass = (np.delete(each, at + 1) for each in (knots, values, mass))
    return knots, values
