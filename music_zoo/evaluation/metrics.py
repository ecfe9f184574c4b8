"""How often a classifier is right, and how far its probabilities can be trusted: the manifest's numbers.

All functions take probabilities `(files, classes)` and targets: class indices `(files,)` for single-label, 0
or 1 `(files, classes)` for multi-label. scikit-learn is imported when a number needs it, not before.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import overload

import numpy as np
from numpy.typing import ArrayLike

from music_zoo.calibration.checks import Task, check_probabilities
from music_zoo.calibration.reliability import (
    adaptive_calibration_error,
    classwise_calibration_error,
    expected_calibration_error,
    reliability_mae,
    weighted_reliability_mae,
)

Interval = tuple[float, float]


def classification_metrics(
    probabilities: ArrayLike, targets: ArrayLike, task: Task = "single_label"
) -> dict[str, float]:
    """Return the metrics of a task.

    Single-label:
        `accuracy`; `macro_f1` over the classes that occur in targets or decisions; `nll`, the mean negative
        log-likelihood in nats; `brier`, the mean over files of the squared error summed over classes (0 to
        2); `ece` and `adaptive_ece` of the winning class, 15 bins of equal width or of equally many files;
        `classwise_ece`, the mean over classes of the ECE of each; `mae`, the ten-bucket reliability error
        over all classes of Lukashevich et al. (2023); `weighted_mae`, that of the winning class, each bucket
        counting by its files.

    Multi-label:
        `roc_auc` and `average_precision`, means over the tags that are true of some files and false of
        others; `nll`, the mean binary cross-entropy, and `brier`, the mean squared error, over files and tags
        (0 to 1); the others as above, where in place of winning classes come all tags, pooled;
        `num_tags_left_out`, how many tags are all true or all false, which have no ROC AUC.

    In `nll`, no probability given to the truth counts as less than 2.2e-16 (the spacing of float64 at 1, as
    in scikit-learn), so that one file cannot make it infinite.

    Raises:
        ValueError: Probabilities or targets that `music_zoo.calibration.checks.check_probabilities` refuses;
            multi-label targets of which no tag occurs both ways.
    """
    probabilities, targets = check_probabilities(probabilities, targets, task)
    metrics = task_metrics(probabilities, targets, task)
    if task == "single_label":
        return metrics
    left_out = (~_both_ways(targets)).sum()
    if left_out == targets.shape[1]:
        raise ValueError(
            f"ROC AUC and average precision need a tag that is true of some files and false of others; none "
            f"of the {left_out} tags is, over {len(targets)} files."
        )
    return metrics | {"num_tags_left_out": float(left_out)}


def label_metrics(
    probabilities: ArrayLike, targets: ArrayLike, labels: Sequence[str], task: Task = "single_label"
) -> dict[str, dict[str, float]]:
    """Return for each label the metrics of telling its files from the others, by the name of the label.

    They are those of `classification_metrics` for one tag (of a single-label task: the class against all
    others). A label that is true of all files or of none has no `roc_auc` and no `average_precision`.

    Raises:
        ValueError: Probabilities or targets that `music_zoo.calibration.checks.check_probabilities` refuses,
            or another number of labels.
    """
    probabilities, targets = check_probabilities(probabilities, targets, task)
    if len(labels) != probabilities.shape[1]:
        raise ValueError(f"Got {len(labels)} labels for probabilities of {probabilities.shape[1]} classes.")
    is_true = np.eye(len(labels), dtype=int)[targets] if task == "single_label" else targets
    result = {}
    for label, p, t in zip(labels, probabilities.T, is_true.T, strict=True):
        metrics = task_metrics(p[:, None], t[:, None], "multi_label")
        del metrics["classwise_ece"]  # of one class, it is the ECE
        result[label] = {name: value for name, value in metrics.items() if not np.isnan(value)}
    return result


def task_metrics(probabilities: np.ndarray, targets: np.ndarray, task: Task) -> dict[str, float]:
    """Return the metrics of checked input, without `num_tags_left_out`; NaN where one is undefined."""
    decisions = _single_label if task == "single_label" else _multi_label
    scores = decisions(probabilities, targets) | {"nll": _nll(probabilities, targets, task)}
    return scores | calibration_errors(probabilities, targets, task)


def calibration_errors(probabilities: np.ndarray, targets: np.ndarray, task: Task) -> dict[str, float]:
    """Return the calibration errors among the metrics."""
    return {
        "ece": expected_calibration_error(probabilities, targets, task),
        "adaptive_ece": adaptive_calibration_error(probabilities, targets, task),
        "classwise_ece": classwise_calibration_error(probabilities, targets, task),
        "mae": reliability_mae(probabilities, targets, task),
        "weighted_mae": weighted_reliability_mae(probabilities, targets, task),
    }


def errors_if_calibrated(
    probabilities: ArrayLike, task: Task = "single_label", draws: int = 200, seed: int = 0
) -> dict[str, float]:
    """Return the calibration errors that a classifier of these probabilities would have if they were true.

    Each bucket of a reliability curve holds few files, right or wrong by chance, so that no error is zero,
    and of few files none is small. These are means over labels drawn from the probabilities: an error
    about as large says that no fault was found, not that there is none.

    Args:
        probabilities: `(files, classes)`.
        task: `"single_label"` or `"multi_label"`.
        draws: Number of sets of labels.
        seed: Of the draws.

    Raises:
        ValueError: Probabilities that `music_zoo.calibration.checks.check_probabilities` refuses.
    """
    probabilities = np.asarray(probabilities, np.float64)
    rng = np.random.default_rng(seed)
    errors = []
    for _ in range(draws):
        if task == "single_label":
            levels = rng.uniform(size=(len(probabilities), 1)) * probabilities.sum(axis=1, keepdims=True)
            targets = (levels >= probabilities.cumsum(axis=1)[:, :-1]).sum(axis=1)
        else:
            targets = (rng.uniform(size=probabilities.shape) < probabilities).astype(int)
        errors.append(calibration_errors(*check_probabilities(probabilities, targets, task), task))
    return {name: float(np.mean([each[name] for each in errors])) for name in errors[0]}


@overload
def bootstrap_interval(
    metric: Callable[[np.ndarray, np.ndarray], float],
    probabilities: ArrayLike,
    targets: ArrayLike,
    n: int = ...,
    seed: int = ...,
    skip_undefined: bool = ...,
    groups: ArrayLike | None = ...,
) -> Interval: ...
@overload
def bootstrap_interval(
    metric: Callable[[np.ndarray, np.ndarray], Mapping[str, float]],
    probabilities: ArrayLike,
    targets: ArrayLike,
    n: int = ...,
    seed: int = ...,
    skip_undefined: bool = ...,
    groups: ArrayLike | None = ...,
) -> dict[str, Interval]: ...
def bootstrap_interval(metric, probabilities, targets, n=1000, seed=0, skip_undefined=False, groups=None):
    """Return the 95 % interval of a metric: its 2.5 and 97.5 percentiles over resampled sets of files.

    It says how far the choice of test files may have moved the number; not how far another training would.
    An error of calibration is a mean of absolute differences, which resampling makes larger: its interval may
    lie above the number itself, most of all with few files.

    Args:
        metric: From probabilities and targets to a number, such as
            `lambda p, t: classification_metrics(p, t)["accuracy"]`, or to several by name, such as
            `classification_metrics`; the latter gives intervals by name.
        probabilities: `(files, ...)`.
        targets: `(files, ...)`.
        n: Number of resampled sets.
        seed: Of the draws; the same seed gives the same interval.
        skip_undefined: Leave out resampled sets on which the metric is NaN, such as an AUC on a set of one
            class, instead of raising.
        groups: `(files,)`, what each file belongs to, such as its instrument or artist. Files of one are
            alike, so that whole groups are drawn: ten notes of one instrument say little more than one does.
            None: each file is drawn by itself.

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
    of_file = np.arange(files) if groups is None else np.unique(groups, return_inverse=True)[1]
    if len(of_file) != files:
        raise ValueError(f"bootstrap_interval needs a group for each of {files} files, got {len(of_file)}.")
    members = np.split(np.argsort(of_file, kind="stable"), np.cumsum(np.bincount(of_file))[:-1])
    rng, values = np.random.default_rng(seed), []
    for draw in rng.integers(len(members), size=(n, len(members))):
        rows = np.concatenate([members[group] for group in draw])
        values.append(metric(probabilities[rows], targets[rows]))
    if not isinstance(values[0], Mapping):
        return _percentiles("The metric", values, skip_undefined)
    return {name: _percentiles(name, [each[name] for each in values], skip_undefined) for name in values[0]}


def _percentiles(name: str, values: list[float], skip_undefined: bool) -> Interval:
    values = np.array(values)
    n = len(values)
    if skip_undefined and not np.isnan(values).all():
        values = values[~np.isnan(values)]
    if infinite := (~np.isfinite(values)).sum():
        raise ValueError(f"{name} is not finite on {infinite} of {n} resampled sets of files.")
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
    both_ways = _both_ways(targets)
    areas = np.full((2, 1), np.nan)
    if both_ways.any():
        areas = np.stack(curve_areas(probabilities[:, both_ways], targets[:, both_ways]))
    roc_auc, average_precision = areas.mean(axis=1)
    return {
        "roc_auc": float(roc_auc),
        "average_precision": float(average_precision),
        "brier": float(((probabilities - targets) ** 2).mean()),
    }


def curve_areas(scores: np.ndarray, targets: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the area under the ROC curve and the average precision of each tag: `(tags,)` each.

    They are `roc_auc_score` and `average_precision_score` of scikit-learn, of all tags at once: thousands of
    calls, one for each tag and resampled set of files, would take a quarter of an hour for a hundred tags.

    Args:
        scores: `(files, tags)`, higher for files of which the tag is rather true.
        targets: `(files, tags)` of 0 and 1, or bool: each tag true of some files and false of others.
    """
    from scipy.stats import rankdata

    true = targets.sum(axis=0)
    pairs = true * (len(targets) - true)
    roc_auc = ((rankdata(scores, axis=0) * targets).sum(axis=0) - true * (true + 1) / 2) / pairs
    order = np.argsort(-scores, axis=0)
    scores, targets = (np.take_along_axis(each, order, axis=0) for each in (scores, targets))
    ends_tie = np.vstack([scores[1:] != scores[:-1], np.ones_like(scores[:1], bool)])
    last = np.where(ends_tie, np.arange(len(scores))[:, None], len(scores))
    last = np.minimum.accumulate(last[::-1], axis=0)[::-1]  # of the files with the same score
    precision = np.take_along_axis(targets.cumsum(axis=0), last, axis=0) / (last + 1)
    return roc_auc, (targets * precision).sum(axis=0) / true


def _both_ways(targets: np.ndarray) -> np.ndarray:
    """Return for each tag whether it is true of some files and false of others."""
    return targets.any(axis=0) & ~targets.all(axis=0)
