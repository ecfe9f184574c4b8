"""The reject option: how sure is sure enough for errors to stay under a target. numpy and scipy only.

A file is accepted if its confidence, the probability of its most probable label, is at least a threshold; of
other files the classifier abstains, as `Prediction.abstains` says. An accepted file is an error if its most
probable label is not true: single-label, not the label of the file; multi-label, not one of its labels.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from music_zoo.calibration.checks import Task, check_probabilities

#: The thresholds that are tried, highest first, and those from which a search starts. They are fixed, which
#: is what the guarantee rests on.
THRESHOLDS = (0.999, 0.998, 0.995, *(step / 100 for step in range(99, -1, -1)))
STARTS = (0.999, 0.99, 0.9, 0.8, 0.7, 0.6, 0.5, 0.4)


@dataclass(frozen=True, eq=False)
class RiskCoverageCurve:
    """The share of errors among accepted files (risk), over the share of files that is accepted (coverage).

    Attributes:
        min_confidence: Confidence of each file, the highest first, `(files,)`.
        coverage: Share of files down to that one, `(files,)`: 1 / files, 2 / files, ..., 1.
        risk: Share of errors among them, `(files,)`. Of files that are equally confident, each counts as the
            mean of them, so that their order does not matter.
    """

    min_confidence: np.ndarray
    coverage: np.ndarray
    risk: np.ndarray

    @property
    def area(self) -> float:
        """Area under the curve (AURC): the mean of the risk over all coverages; the lower, the better."""
        return float(self.risk.mean())

    @property
    def best_area(self) -> float:
        """The area if all errors were less confident than all that is right, with as many of both."""
        files = self.risk.size
        right = files - round(files * self.risk[-1])
        rank = np.arange(1, files + 1)
        return float((np.maximum(rank - right, 0) / rank).mean())


@dataclass(frozen=True)
class RejectThreshold:
    """From which confidence on a classifier may be believed.

    Attributes:
        min_confidence: Accept files of at least this confidence.
        coverage: Share of the held-out files that is accepted.
        error: Share of errors among those.
        max_error: What the share of errors among all files that are accepted does not exceed ...
        delta: ... but for this probability, over the draw of the held-out files.
        files: Number of held-out files.
    """

    min_confidence: float
    coverage: float
    error: float
    max_error: float
    delta: float
    files: int


def risk_coverage_curve(
    probabilities: ArrayLike, targets: ArrayLike, task: Task = "single_label"
) -> RiskCoverageCurve:
    """Return the risk-coverage curve (El-Yaniv & Wiener 2010, JMLR 11; Geifman & El-Yaniv 2017).

    Args:
        probabilities: Of each file, `(files, classes)`.
        targets: Single-label: class index of each file, `(files,)`. Multi-label: 0 or 1, `(files, classes)`.
        task: `"single_label"` or `"multi_label"`.

    Raises:
        ValueError: Input that `music_zoo.calibration.checks.check_probabilities` refuses.
    """
    confidence, wrong = _confidence_and_errors(probabilities, targets, task)
    levels, level, counts = np.unique(-confidence, return_inverse=True, return_counts=True)
    mean_wrong = np.bincount(level, weights=wrong) / counts
    rank = np.arange(1, wrong.size + 1)
    risk = np.repeat(mean_wrong, counts).cumsum() / rank
    return RiskCoverageCurve(np.repeat(-levels, counts), rank / wrong.size, risk)


def reject_threshold(
    probabilities: ArrayLike,
    targets: ArrayLike,
    max_error: float,
    delta: float = 0.05,
    task: Task = "single_label",
) -> RejectThreshold:
    """Return the lowest threshold that keeps errors among accepted files under a target, with a guarantee.

    With a probability of at least 1 - `delta` over the draw of the held-out files, the share of errors among
    all files that the threshold accepts is at most `max_error`. That holds of any classifier, calibrated or
    not, if the held-out files and those to come are drawn independently from one source, and if neither
    training nor calibration nor the choice of the model has seen the held-out files.

    It is selection with guaranteed risk (Geifman & El-Yaniv 2017, arXiv:1705.08500): at a fixed threshold,
    the errors among accepted files are binomial, whose tail is exact (Clopper & Pearson 1934). That many
    thresholds are tried is paid for: each of `STARTS` has an equal part of `delta`, and of `THRESHOLDS`,
    tested from the highest down, one that passes hands what it had on to the next (the fallback procedure of
    Wiens & Dmitrienko 2005; fixed-sequence testing with several starts in Angelopoulos et al. 2021,
    arXiv:2110.01052).

    Args:
        probabilities: Of each held-out file, `(files, classes)`.
        targets: Single-label: class index of each file, `(files,)`. Multi-label: 0 or 1, `(files, classes)`.
        max_error: The target, between 0 and 1.
        delta: Probability that the guarantee does not hold, between 0 and 1.
        task: `"single_label"` or `"multi_label"`.

    Raises:
        ValueError: No threshold can be guaranteed to meet the target; `max_error` or `delta` out of range;
            input that `music_zoo.calibration.checks.check_probabilities` refuses.
    """
    from scipy.stats import binom

    for name, value in {"max_error": max_error, "delta": delta}.items():
        if not 0 < value < 1:
            raise ValueError(f"`{name}` must lie between 0 and 1, got {value}.")
    confidence, wrong = _confidence_and_errors(probabilities, targets, task)
    order = np.argsort(-confidence)
    accepted = np.searchsorted(-confidence[order], -np.array(THRESHOLDS), side="right")
    errors = np.append(0, wrong[order].cumsum())[accepted]
    p_values = binom.cdf(errors, accepted, max_error)
    lowest, level = None, 0.0
    for index, (threshold, p_value) in enumerate(zip(THRESHOLDS, p_values, strict=True)):
        if threshold in STARTS:
            level += delta / len(STARTS)
        if p_value <= level:
            lowest = index
        else:
            level = 0.0
    if lowest is None:
        raise ValueError(
            f"No threshold can be guaranteed to keep errors under {max_error:g} with a probability of "
            f"{1 - delta:g}: of {wrong.size} held-out files, {wrong.mean():.1%} are errors. Raise "
            "`max_error` or `delta`, or give more files."
        )
    n = int(accepted[lowest])
    return RejectThreshold(
        THRESHOLDS[lowest], n / wrong.size, int(errors[lowest]) / n, max_error, delta, wrong.size
    )


def _confidence_and_errors(probabilities, targets, task: Task) -> tuple[np.ndarray, np.ndarray]:
    """Return the confidence of each file, `(files,)`, and whether its most probable label is wrong."""
    probabilities, targets = check_probabilities(probabilities, targets, task)
    label = probabilities.argmax(axis=1)
    wrong = label != targets if task == "single_label" else targets[np.arange(len(label)), label] == 0
    return probabilities.max(axis=1), wrong
