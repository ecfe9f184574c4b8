"""Reliability: of the decisions made with a probability near p, is a share of p right? numpy only.

All functions take probabilities `(files, classes)` and targets, which are class indices `(files,)` for
`task="single_label"`, and 0 or 1 `(files, classes)` for `task="multi_label"`; they raise a ValueError for
input that `music_zoo.calibration.checks.check_probabilities` refuses. Buckets of equal width are open below
and closed above: (low, high]; a probability of exactly 0 goes into the lowest.

What is measured are either all class probabilities of all files, each of which is accurate if its class is
true, or the decisions: for single-label one per file, the probability of the winning class, accurate if that
class is true; for multi-label, which has no winners, again all probabilities. Multi-label numbers are pooled
over tags; that of one tag is the number of its column, `(files, 1)`.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from music_zoo.calibration.checks import Task, check_probabilities


@dataclass(frozen=True, eq=False)
class ReliabilityCurve:
    """How often classes that got about the same probability are true.

    Attributes:
        targets: Middle of each bucket, the share that should be true, `(buckets,)`.
        accuracy: Share that is true, `(buckets,)`, NaN in an empty bucket.
        counts: Number of probabilities in each bucket, `(buckets,)`.
    """

    targets: np.ndarray
    accuracy: np.ndarray
    counts: np.ndarray

    @property
    def mae(self) -> float:
        """Mean over the buckets that are not empty of |accuracy - target|, each bucket counting the same."""
        return float(np.nanmean(np.abs(self.accuracy - self.targets)))

    @property
    def weighted_mae(self) -> float:
        """The mean of |accuracy - target| in which each bucket counts by the probabilities that it holds."""
        return float(np.nansum(np.abs(self.accuracy - self.targets) * self.counts) / self.counts.sum())


def reliability_curve(
    probabilities: ArrayLike,
    targets: ArrayLike,
    task: Task = "single_label",
    n_buckets: int = 10,
    decisions: bool = False,
) -> ReliabilityCurve:
    """Return the reliability curve of Lukashevich et al. (2023, doi:10.1145/3616195.3616228).

    It takes in the probability of every class of every file, not only the winners'; with `decisions`, only
    these. An empty bucket has no accuracy and is left out of the mean; this and the edges of the buckets are
    our choice, since the study states neither.
    """
    select = _decisions if decisions else _all_classes
    values, is_true = select(*check_probabilities(probabilities, targets, task), task)
    bucket = _bucket(values, n_buckets)
    counts = np.bincount(bucket, minlength=n_buckets)
    num_true = np.bincount(bucket, weights=is_true, minlength=n_buckets)
    accuracy = np.divide(num_true, counts, out=np.full(n_buckets, np.nan), where=counts > 0)
    return ReliabilityCurve((np.arange(n_buckets) + 0.5) / n_buckets, accuracy, counts)


def reliability_mae(
    probabilities: ArrayLike, targets: ArrayLike, task: Task = "single_label", n_buckets: int = 10
) -> float:
    """Return the study's mean absolute error of reliability, see `reliability_curve`."""
    return reliability_curve(probabilities, targets, task, n_buckets).mae


def weighted_reliability_mae(
    probabilities: ArrayLike, targets: ArrayLike, task: Task = "single_label", n_buckets: int = 10
) -> float:
    """Return the mean absolute error of the decisions' reliability, weighted by how many fall into a bucket.

    The study proposes to weight its buckets by the frequency of winning items and gives no formula. We read
    it as the error of the winners alone: their number in a bucket is its weight, and their share that is
    right its accuracy. Above a probability of 0.5, where only a winner can be, there is no other reading.
    """
    return reliability_curve(probabilities, targets, task, n_buckets, decisions=True).weighted_mae


def expected_calibration_error(
    probabilities: ArrayLike, targets: ArrayLike, task: Task = "single_label", n_bins: int = 15
) -> float:
    """Return the expected calibration error: sum over bins of share of items * |accuracy - mean confidence|.

    The items are the decisions, in bins of equal width: for single-label, as Guo et al. (2017,
    arXiv:1706.04599) have it.
    """
    values, is_true = _decisions(*check_probabilities(probabilities, targets, task), task)
    return _gap(values, is_true, _bucket(values, n_bins))


def adaptive_calibration_error(
    probabilities: ArrayLike, targets: ArrayLike, task: Task = "single_label", n_bins: int = 15
) -> float:
    """Return the expected calibration error over bins that hold equally many decisions.

    It is the Adaptive-ECE of Mukhoti et al. (2020, arXiv:2002.09437); the ACE of Nixon et al. (2019) is
    another, class by class. Equal probabilities share a bin, as far as need be at the cost of equal numbers,
    so that the order of files has no say.
    """
    values, is_true = _decisions(*check_probabilities(probabilities, targets, task), task)
    _check_number(n_bins)
    rank = np.searchsorted(np.sort(values), values)
    return _gap(values, is_true, rank * n_bins // values.size)


def classwise_calibration_error(
    probabilities: ArrayLike, targets: ArrayLike, task: Task = "single_label", n_bins: int = 15
) -> float:
    """Return the mean over classes of the expected calibration error of each class's own probability.

    The bins are of equal width (Kull et al. 2019, arXiv:1910.12656).
    """
    probabilities, targets = check_probabilities(probabilities, targets, task)
    values, is_true = (
        flat.reshape(probabilities.shape) for flat in _all_classes(probabilities, targets, task)
    )
    bins = _bucket(values, n_bins)
    return float(np.mean([_gap(*of_class) for of_class in zip(values.T, is_true.T, bins.T, strict=True)]))


def _all_classes(probabilities: np.ndarray, targets: np.ndarray, task: Task) -> tuple[np.ndarray, np.ndarray]:
    """Return all probabilities, and 1 for those whose class is true, 0 for others, each `(items,)`."""
    is_true = np.eye(probabilities.shape[1])[targets] if task == "single_label" else targets
    return probabilities.ravel(), is_true.ravel()


def _decisions(probabilities: np.ndarray, targets: np.ndarray, task: Task) -> tuple[np.ndarray, np.ndarray]:
    """Return the probabilities of the decisions, and 1 for those that are right, 0 for others."""
    if task == "multi_label":
        return _all_classes(probabilities, targets, task)
    return probabilities.max(axis=1), probabilities.argmax(axis=1) == targets


def _gap(values: np.ndarray, is_true: np.ndarray, bins: np.ndarray) -> float:
    """Return the sum over bins of share of items * |accuracy - mean value|."""
    return float(np.abs(np.bincount(bins, weights=is_true - values)).sum() / values.size)


def _bucket(values: np.ndarray, n: int) -> np.ndarray:
    """Return the index of the bucket (low, high] of each value in [0, 1], of `n` equally wide ones."""
    _check_number(n)
    return np.maximum(np.searchsorted(np.linspace(0, 1, n + 1), values, side="left") - 1, 0)


def _check_number(n: int) -> None:
    if n < 1:
        raise ValueError(f"The number of buckets must be at least 1, got {n}.")
