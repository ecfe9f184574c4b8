"""How often a classifier is right, and how far its probabilities can be trusted: the manifest's numbers.

All functions take probabilities `(files, classes)` and targets: class indices `(files,)` for single-label, 0
or 1 `(files, classes)` for multi-label. scikit-learn is imported when a number needs it, not before.
"""

from collections.abc import Callable

import numpy as np
from numpy.typing import ArrayLike

from music_zoo.calibration.checks import Task, check_probabilities
from music_zoo.calibration.reliability import expected_calibration_error, reliability_mae


def classification_metrics(
    probabilities: ArrayLike, targets: ArrayLike, task: Task = "single_label"
) -> dict[str, float]:
    """Return the metrics of a task.

    Single-label:
        `accuracy`; `macro_f1` over the classes that occur in targets or decisions; `nll`, the mean negative
        log-likelihood in nats; `brier`, the mean over files of the squared error summed over classes (0 to
        2); `ece` of the winning class, 15 bins; `mae`, the ten-bucket reliability error over all classes of
        Lukashevich et al. (2023).

    Multi-label:
        `roc_auc` and `average_precision`, means over the tags that are true of some files and false of
        others; `num_tags_left_out`, how many are not, which have no such curve; `nll`, the mean binary
        cross-entropy; `ece`, pooled over files and tags; `mae` as above.

    In `nll`, no probability given to the truth counts as less than 2.2e-16 (the spacing of float64 at 1, as
    in scikit-learn), so that one file cannot make it infinite.

    Raises:
        ValueError: Probabilities or targets that `music_zoo.calibration.checks.check_probabilities` refuses;
            multi-label targets of which no tag occurs both ways.
    """
    probabilities, targets = check_probabilities(probabilities, targets, task)
    calibration = {
        "nll": _nll(probabilities, targets, task),
        "ece": expected_calibration_error(probabilities, targets, task),
        "mae": reliability_mae(probabilities, targets, task),
    }
    decisions = _single_label if task == "single_label" else _multi_label
    return decisions(probabilities, targets) | calibration


def bootstrap_interval(
    metric: Callable[[np.ndarray, np.ndarray], float],
    probabilities: ArrayLike,
    targets: ArrayLike,
    n: int = 1000,
    seed: int = 0,
    skip_undefined: bool = False,
) -> tuple[float, float]:
    """Return the 95 % interval of a metric: its 2.5 and 97.5 percentiles over resampled sets of files.

    It says how far the choice of test files may have moved the number; not how far another training would.

    Args:
        metric: From probabilities and targets to a number, such as
            `lambda p, t: classification_metrics(p, t)["accuracy"]`.
        probabilities: `(files, ...)`.
        targets: `(files, ...)`.
        n: Number of resampled sets.
        seed: Of the draws; the same seed gives the same interval.
        skip_undefined: Leave out resampled sets on which the metric is NaN, such as an AUC on a set of one
            class, instead of raising.

    Raises:
        ValueError: No files, lengths that differ, `n` below 1, or a metric that is not finite on some
            resampled set; with `skip_undefined`, one that is infinite on some or NaN on all.
    """
    probabilities, targets = np.asarray(probabilities), np.asarray(targets)
    files = len(probabilities)
    if not files or files != len(targets) or n < 1:
        raise ValueError(
            f"bootstrap_interval needs as many targets as probabilities, and draws: got {files} "
            f"probabilities, {len(targets)} targets, n={n}."
        )
    draws = np.random.default_rng(seed).integers(files, size=(n, files))
    values = np.array([metric(probabilities[draw], targets[draw]) for draw in draws])
    if skip_undefined and not np.isnan(values).all():
        values = values[~np.isnan(values)]
    if infinite := (~np.isfinite(values)).sum():
        raise ValueError(f"The metric is not finite on {infinite} of {n} resampled sets of files.")
    low, high = np.percentile(values, (2.5, 97.5))
    return float(low), float(high)


def _nll(probabilities: np.ndarray, targets: np.ndarray, task: Task) -> float:
    if task == "single_label":
        of_truth = np.take_along_axis(probabilities, targets[:, None], axis=1)
    else:
        of_truth = np.where(targets == 1, probabilities, 1 - probabilities)
    return float(-np.log(np.maximum(of_truth, np.finfo(np.float64).eps)).mean())


def _single_label(probabilities: np.ndarray, targets: np.ndarray) -> dict[str, float]:
    from sklearn.metrics import f1_score

    decisions = probabilities.argmax(axis=1)
    one_hot = np.eye(probabilities.shape[1])[targets]
    return {
        "accuracy": float((decisions == targets).mean()),
        "macro_f1": float(f1_score(targets, decisions, average="macro")),
        "brier": float(((probabilities - one_hot) ** 2).sum(axis=1).mean()),
    }


def _multi_label(probabilities: np.ndarray, targets: np.ndarray) -> dict[str, float]:
    from sklearn.metrics import average_precision_score, roc_auc_score

    both_ways = targets.any(axis=0) & ~targets.all(axis=0)
    if not both_ways.any():
        raise ValueError(
            f"ROC AUC and average precision need a tag that is true of some files and false of others; none "
            f"of the {both_ways.size} tags is, over {len(targets)} files."
        )
    probabilities, targets = probabilities[:, both_ways], targets[:, both_ways]
    return {
        "roc_auc": float(roc_auc_score(targets, probabilities, average="macro")),
        "average_precision": float(average_precision_score(targets, probabilities, average="macro")),
        "num_tags_left_out": float((~both_ways).sum()),
    }
