"""The reliability error over the temperature: Figure 2 of Lukashevich et al. (2023). numpy and scipy only."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from music_zoo.calibration.checks import Task
from music_zoo.calibration.reliability import reliability_mae

#: From twice as sharp to much softer, in steps of 0.05: the range of the study's temperatures and more.
TEMPERATURES = np.arange(10, 51) / 20


@dataclass(frozen=True, eq=False)
class TemperatureSweep:
    """The reliability error at each of several temperatures.

    Attributes:
        temperatures: Ascending, `(temperatures,)`.
        mae: The error at each, see `music_zoo.calibration.reliability_mae`.
        is_fitted: True at the one that was fitted, if any was.
    """

    temperatures: np.ndarray
    mae: np.ndarray
    is_fitted: np.ndarray


def mae_over_temperature(
    logits: np.ndarray | Sequence[ArrayLike],
    targets: ArrayLike,
    task: Task = "single_label",
    temperatures: ArrayLike = TEMPERATURES,
    fitted: float | None = None,
) -> TemperatureSweep:
    """Return the reliability error of the probabilities that logits divided by each temperature give.

    A file's probabilities are the mean over its windows; of an ensemble, over its members' windows: give
    these as further windows, as to `music_zoo.calibration.fit_temperature`.

    Args:
        logits: One file per entry: `(files, classes)`, `(files, windows, classes)`, or a sequence of arrays
            `(windows, classes)`.
        targets: Single-label: class index of each file, `(files,)`. Multi-label: 0 or 1, `(files, classes)`.
        task: `"single_label"` or `"multi_label"`.
        temperatures: Where to measure, above 0.
        fitted: The temperature fitted on other files, which is measured too and marked.

    Raises:
        ValueError: A temperature that is not above 0, shapes that do not fit, logits that are not finite.
    """
    from scipy.special import expit, softmax

    temperatures = np.union1d(temperatures, [] if fitted is None else [fitted])
    if not (np.isfinite(temperatures).all() and (temperatures > 0).all()):
        raise ValueError(f"Temperatures must be finite and above 0, got {temperatures}.")
    files = [np.atleast_2d(np.asarray(file, dtype=np.float64)) for file in logits]
    windows, counts = np.concatenate(files), np.array([len(file) for file in files])
    starts = np.cumsum(counts) - counts

    def mae(temperature: float) -> float:
        scaled = windows / temperature
        posteriors = softmax(scaled, axis=1) if task == "single_label" else expit(scaled)
        return reliability_mae(np.add.reduceat(posteriors, starts) / counts[:, None], targets, task)

    return TemperatureSweep(temperatures, np.array([mae(t) for t in temperatures]), temperatures == fitted)
