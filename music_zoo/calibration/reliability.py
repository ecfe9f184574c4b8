"""Reliability: of the decisions made with a probability near p, is a share of p right? numpy only.

All functions take probabilities `(files, classes)` and targets, which are class indices `(files,)` for
`task="single_label"`, and 0 or 1 `(files, classes)` for `task="multi_label"`. Buckets are equally wide, open
below and closed above: (low, high]; a probability of exactly 0 goes into the lowest.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike

from music_zoo.calibration.checks import Task, check_probabilities
from music_zoo.plots import save_figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True, eq=False)
class ReliabilityCurve:
    """How often classes that got about the same probability are true.

    Attributes:
        targets: Middle of each bucket, the share that should be true, `(buckets,)`.
        accuracy: Share that is true, `(buckets,)`, NaN in an empty bucket.
        counts: Number of class probabilities in each bucket, `(buckets,)`.
    """

    targets: np.ndarray
    accuracy: np.ndarray
    counts: np.ndarray

    @property
    def mae(self) -> float:
        """Mean over the buckets that are not empty of |accuracy - target|, each bucket counting the same."""
        return float(np.nanmean(np.abs(self.accuracy - self.targets)))


def reliability_curve(
    probabilities: ArrayLike, targets: ArrayLike, task: Task = "single_label", n_buckets: int = 10
) -> ReliabilityCurve:
    """Return the reliability curve of Lukashevich et al. (2023, doi:10.1145/3616195.3616228).

    It takes in the probability of every class of every file, not only the winners'. An empty bucket has no
    accuracy and is left out of the mean; this and the edges of the buckets are our choice, since the study
    states neither.

    Raises:
        ValueError: Input that `music_zoo.calibration.checks.check_probabilities` refuses.
    """
    probabilities, targets = check_probabilities(probabilities, targets, task)
    is_true = np.eye(probabilities.shape[1])[targets] if task == "single_label" else targets
    bucket = _bucket(probabilities.ravel(), n_buckets)
    counts = np.bincount(bucket, minlength=n_buckets)
    num_true = np.bincount(bucket, weights=is_true.ravel(), minlength=n_buckets)
    accuracy = np.divide(num_true, counts, out=np.full(n_buckets, np.nan), where=counts > 0)
    return ReliabilityCurve((np.arange(n_buckets) + 0.5) / n_buckets, accuracy, counts)


def reliability_mae(
    probabilities: ArrayLike, targets: ArrayLike, task: Task = "single_label", n_buckets: int = 10
) -> float:
    """Return the study's mean absolute error of reliability, see `reliability_curve`."""
    return reliability_curve(probabilities, targets, task, n_buckets).mae


def expected_calibration_error(
    probabilities: ArrayLike, targets: ArrayLike, task: Task = "single_label", n_bins: int = 15
) -> float:
    """Return the expected calibration error: sum over bins of share of items * |accuracy - mean confidence|.

    Single-label: the items are the files, with the probability of the winning class (Guo et al. 2017).
    Multi-label: the probabilities of all files and classes, pooled; accurate means that the class is true.

    Raises:
        ValueError: Input that `music_zoo.calibration.checks.check_probabilities` refuses.
    """
    probabilities, targets = check_probabilities(probabilities, targets, task)
    if task == "single_label":
        confidence, accurate = probabilities.max(axis=1), probabilities.argmax(axis=1) == targets
    else:
        confidence, accurate = probabilities.ravel(), targets.ravel()
    gaps = np.bincount(_bucket(confidence, n_bins), weights=accurate - confidence)  # in items, bin by bin
    return float(np.abs(gaps).sum() / confidence.size)


def plot_reliability(curves: Mapping[str, ReliabilityCurve], path: str | PathLike) -> "Figure":
    """Draw reliability curves over each other, with the number of probabilities per bucket beneath.

    Args:
        curves: By the name that the legend shows, such as `{"before": ..., "after": ...}`.
        path: Where to write the picture; its suffix says the format (`.png`, `.svg`, `.pdf`, ...).

    Returns:
        The figure, as written.

    Raises:
        ValueError: No curves, or a suffix of no known format.
    """
    from matplotlib.figure import Figure  # not pyplot: no window, no global state

    if not curves:
        raise ValueError("plot_reliability needs at least one curve, got none.")
    figure = Figure(figsize=(5, 6.2), layout="constrained")
    reliability, histogram = figure.subplots(2, 1, sharex=True, height_ratios=(4, 1))
    reliability.plot([0, 1], [0, 1], color="0.6", linestyle="--", linewidth=1)
    for name, curve in curves.items():
        filled = curve.counts > 0
        (line,) = reliability.plot(
            curve.targets[filled], curve.accuracy[filled], marker="o", label=f"{name} (MAE {curve.mae:.3f})"
        )
        edges = np.linspace(0, 1, curve.counts.size + 1)
        histogram.stairs(curve.counts, edges, color=line.get_color())
    reliability.set(xlim=(0, 1), ylim=(0, 1), ylabel="share that is true")
    reliability.set_aspect("equal")
    reliability.legend(loc="upper left", frameon=False)
    histogram.set_yscale("symlog", linthresh=1)  # the lowest bucket holds most of the probabilities
    histogram.set(xlabel="probability", ylabel="number", ylim=(0, None))
    save_figure(figure, Path(path))
    return figure


def _bucket(values: np.ndarray, n: int) -> np.ndarray:
    """Return the index of the bucket (low, high] of each value in [0, 1], of `n` equally wide ones."""
    if n < 1:
        raise ValueError(f"The number of buckets must be at least 1, got {n}.")
    return np.maximum(np.searchsorted(np.linspace(0, 1, n + 1), values, side="left") - 1, 0)
