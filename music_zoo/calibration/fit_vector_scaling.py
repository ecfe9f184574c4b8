"""Fitting one scale and one bias per class on held-out files. numpy and scipy only."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

from music_zoo.calibration.checks import Task, check_both_ways
from music_zoo.calibration.fitting import fit_temperature, windows_and_targets


def fit_vector_scaling(
    logits: np.ndarray | Sequence[ArrayLike],
    targets: ArrayLike,
    task: Task = "single_label",
    pull: float = 1.0,
) -> tuple[np.ndarray, np.ndarray]:
    """Return the scales and biases, both `(classes,)`, that make held-out files most likely.

    A file's probabilities are those of its windows, averaged: `mean(softmax(scale * logits + bias))`, or
    `sigmoid` for multi-label, where each class is a problem of its own (Platt scaling). With one window per
    file the problem is convex; with more it need not be, and the search, L-BFGS-B with exact gradients, goes
    downhill from the temperature's solution.

    Scales are at least 0, so that no class's order of files is turned round. They are drawn to those of
    `fit_temperature`, and biases to 0: to the summed negative log-likelihood is added
    `pull / 2 * sum((scale * T - 1)**2 + bias**2)`, as a normal prior of standard deviation 1 would, which
    matters for few files and not for many.

    Args:
        logits: As of `fit_temperature`.
        targets: As of `fit_temperature`.
        task: `"single_label"` or `"multi_label"`.
        pull: Weight of the penalty; with 0, classes that can be told apart without a mistake have no optimum.

    Returns:
        Scales and biases, float64.

    Raises:
        ValueError: What `fit_temperature` refuses, or single-label without any file of some class.

    Warns:
        UserWarning: What `fit_temperature` warns of; multi-label, a class that is true of all files or of
            none, which keeps the temperature.
    """
    from scipy.optimize import minimize

    windows, counts, targets = windows_and_targets(logits, targets, task)
    classes = windows.shape[1]
    determined = check_both_ways(targets, classes, task)
    temperature = fit_temperature(logits, targets, task)
    windows = windows / temperature
    truth = np.repeat(targets, counts, axis=0)
    starts = np.cumsum(counts) - counts
    nll = _softmax_nll if task == "single_label" else _sigmoid_nll

    def objective(parameters: np.ndarray) -> tuple[float, np.ndarray]:
        scale, bias = parameters.reshape(2, classes)
        log_truth, slopes = nll(windows * scale + bias, truth)
        log_sum = np.logaddexp.reduceat(log_truth, starts, axis=0)
        shares = np.exp(log_truth - np.repeat(log_sum, counts, axis=0))  # of each window in its file's mean
        slopes = slopes * shares.reshape(len(windows), -1)
        away = np.concatenate([scale - 1, bias])
        gradient = np.concatenate([(slopes * windows).sum(axis=0), slopes.sum(axis=0)]) + pull * away
        return 0.5 * pull * away @ away - log_sum.sum(), gradient

    start = np.concatenate([np.ones(classes), np.zeros(classes)])
    bounds = [(0, None)] * classes + [(None, None)] * classes
    options = {"maxiter": 10_000, "maxfun": 20_000, "ftol": 1e-13, "gtol": 1e-6}
    found = minimize(objective, start, jac=True, method="L-BFGS-B", bounds=bounds, options=options)
    scale, bias = np.where(determined, found.x.reshape(2, classes), [[1.0], [0.0]])
    return scale / temperature, bias


def _softmax_nll(logits: np.ndarray, truth: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return each window's log-probability of the truth, `(windows,)`, and how its negative changes."""
    from scipy.special import log_softmax

    log_p = log_softmax(logits, axis=1)
    every = np.arange(len(truth))
    slopes = np.exp(log_p)
    slopes[every, truth] -= 1
    return log_p[every, truth], slopes


def _sigmoid_nll(logits: np.ndarray, truth: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The same of each class, `(windows, classes)`."""
    from scipy.special import expit, log_expit

    return log_expit(np.where(truth == 1, logits, -logits)), expit(logits) - truth
