"""Fitting the temperature on held-out files. numpy and scipy only."""

import warnings
from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

from music_zoo.calibration.checks import Task, check_targets

#: Temperatures outside are not looked for: there, probabilities are 0 and 1, or all the same.
BOUNDS = (0.01, 100.0)

#: Fewer files than this say next to nothing about any calibration.
MIN_FILES = 10


def fit_temperature(
    logits: np.ndarray | Sequence[ArrayLike], targets: ArrayLike, task: Task = "single_label"
) -> float:
    """Return the temperature that makes held-out files most likely.

    A file's probabilities are those of its windows, averaged: `mean(softmax(logits / T))`, or `sigmoid` for
    multi-label. It is this mean whose negative log-likelihood is minimised (multi-label: the binary
    cross-entropy, averaged over files and classes), because this mean is what `Classifier.classify` reports.
    With one window per file it is the temperature scaling of Guo et al. (2017, arXiv:1706.04599). For an
    ensemble, give the members' windows as further windows of a file.

    The search is over log T, on a grid and then by Brent's method between the best point's neighbours (the
    mean over windows may make the curve bend more than once), in float64.

    Args:
        logits: One file per entry: `(files, classes)`, `(files, windows, classes)`, or a sequence of arrays
            `(windows, classes)` whose number of windows differs. Files that the network was not trained on.
        targets: Single-label: class index of each file, `(files,)`. Multi-label: 0 or 1, `(files, classes)`.
        task: `"single_label"` or `"multi_label"`.

    Returns:
        T; 1 where the files determine none, with a warning.

    Raises:
        ValueError: Fewer than `MIN_FILES` files, logits that are not finite, shapes that do not fit, targets
            out of range.

    Warns:
        UserWarning: No temperature within `BOUNDS` is best: the logits do not tell classes apart (all alike),
            every file is classified right (the sharper the better), or they are no better than chance (the
            softer the better).
    """
    from scipy.optimize import minimize_scalar

    mean_nll = _objective(*windows_and_targets(logits, targets, task), task)
    grid = np.linspace(*np.log(BOUNDS), 47)
    values = np.array([mean_nll(log_t) for log_t in grid])
    best = values.argmin()
    if np.ptp(values) < 1e-9:
        return _undetermined("the logits of each file are all alike, so that every temperature does as well")
    if best == 0:
        return _undetermined(
            "the files are classified without a mistake, so that the lowest temperature is best"
        )
    if best == grid.size - 1:
        return _undetermined("the logits are no better than chance, so that the highest temperature is best")
    bracket = grid[[best - 1, best + 1]]
    found = minimize_scalar(mean_nll, bounds=bracket, method="bounded", options={"xatol": 1e-9})
    return float(np.exp(found.x))


def windows_and_targets(logits, targets, task: Task) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return all windows, `(windows, classes)` float64, how many each file has, `(files,)`, and the targets.

    Raises:
        ValueError: As `fit_temperature`.
    """
    files = [np.atleast_2d(np.asarray(file, dtype=np.float64)) for file in logits]
    if len(files) < MIN_FILES:
        raise ValueError(
            f"A calibration needs at least {MIN_FILES} held-out files, better hundreds; got {len(files)}."
        )
    classes = files[0].shape[-1]
    for index, file in enumerate(files):
        if file.ndim != 2 or file.shape[1] != classes or not file.size:
            raise ValueError(
                f"Logits of each file must be of shape (windows, {classes}), with at least one window; "
                f"those of file {index} are of shape {file.shape}."
            )
        if not np.isfinite(file).all():
            raise ValueError(f"Logits must be finite; those of file {index} hold NaN or infinity.")
    targets = check_targets(targets, len(files), classes, task)
    if task == "single_label" and classes < 2:
        raise ValueError("A single-label calibration needs logits of at least two classes.")
    return np.concatenate(files), np.array([len(file) for file in files]), targets


def _objective(windows: np.ndarray, counts: np.ndarray, targets: np.ndarray, task: Task):
    """Return the mean negative log-likelihood of the files as a function of log T."""
    truth = np.repeat(targets, counts, axis=0)
    # How far each alternative's logit lies above that of the truth, (alternatives, windows[, classes]): the
    # probability of the truth is 1 / sum(exp(margins / T)) for a softmax; for a sigmoid too, whose
    # alternatives are the truth itself, 0 above, and its opposite.
    if task == "single_label":
        margins = (windows - np.take_along_axis(windows, truth[:, None], axis=1)).T
    else:
        margins = np.stack([np.zeros_like(windows), np.where(truth == 1, -windows, windows)])
    highest = margins.max(axis=0)  # taken out before exp, which then cannot overflow
    margins = margins - highest
    starts = np.cumsum(counts) - counts
    log_counts = np.log(counts).reshape(-1, *[1] * (highest.ndim - 1))

    def mean_nll(log_temperature: float) -> float:
        inverse = np.exp(-log_temperature)
        log_truth = -highest * inverse - np.log(np.exp(margins * inverse).sum(axis=0))
        log_mean = np.logaddexp.reduceat(log_truth, starts, axis=0) - log_counts
        return -log_mean.mean()

    return mean_nll


def _undetermined(reason: str) -> float:
    warnings.warn(
        f"The held-out files determine no temperature: {reason}. The temperature is left at 1.", stacklevel=3
    )
    return 1.0
