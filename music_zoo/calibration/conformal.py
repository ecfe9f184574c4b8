"""Conformal label sets: labels enough to hold the true one as often as is asked for. numpy only."""

from typing import Literal

import numpy as np
from numpy.typing import ArrayLike

from music_zoo.calibration.checks import Task, check_probabilities

Method = Literal["lac", "aps"]


def conformal_threshold(
    probabilities: ArrayLike,
    targets: ArrayLike,
    coverage: float = 0.9,
    method: Method = "lac",
    task: Task = "single_label",
) -> float:
    """Return the threshold with which `label_sets` are right about as often as is asked for.

    Single-label: the set of a new file holds its label with a probability of at least `coverage`, over the
    draw of both the held-out files and the new one (marginal coverage: of some kind of file it may be less).
    Multi-label: of the labels of a new file, its set holds on average at least the share `coverage`; a file
    without labels lacks none. Both hold of any classifier, if held-out and new files are exchangeable and
    neither training nor calibration nor the choice of the model has seen the held-out files.

    Single-label it is split conformal prediction, the quantile of scores at rank ceil((n + 1) * coverage) of
    n files. That is a case of conformal risk control (Angelopoulos et al. 2022, arXiv:2208.02814), of which
    the share of missed labels is another.

    Args:
        probabilities: Of each held-out file, `(files, classes)`.
        targets: Single-label: class index of each file, `(files,)`. Multi-label: 0 or 1, `(files, classes)`.
        coverage: Between 0 and 1.
        method: As in `label_sets`.
        task: `"single_label"` or `"multi_label"`.

    Returns:
        A threshold from 0 to 1; 0, with which sets hold all labels, if the files are too few to leave any
        out: 1 / (files + 1) > 1 - coverage.

    Raises:
        ValueError: `coverage` out of range, a method that there is not or not for the task, no file with a
            label, or input that `music_zoo.calibration.checks.check_probabilities` refuses.
    """
    if not 0 < coverage < 1:
        raise ValueError(f"`coverage` must lie between 0 and 1, got {coverage}.")
    if method == "aps" and task == "multi_label":
        raise ValueError("The method 'aps' is for single-label probabilities; of tags, use 'lac'.")
    probabilities, targets = check_probabilities(probabilities, targets, task)
    is_true = np.eye(probabilities.shape[1])[targets] if task == "single_label" else targets
    if not is_true.any():
        raise ValueError("None of the held-out files has a label; expected some that do.")
    shares = is_true / np.maximum(
        is_true.sum(axis=1, keepdims=True), 1
    )  # what missing a label costs its file
    scores = _scores(probabilities, method)[is_true == 1]
    order = np.argsort(scores)
    costs = shares[is_true == 1][order]
    missed = (
        costs.cumsum() - costs
    )  # files' worth of labels with lower scores; at equal scores the first counts
    # The new file is one more, of which the worst is assumed.
    within = missed + 1 <= (1 - coverage) * (len(shares) + 1) + 1e-9
    return float(scores[order][within].max(initial=0))


def label_sets(probabilities: ArrayLike, threshold: float, method: Method = "lac") -> np.ndarray:
    """Return which labels are in the set of each file, `(files, classes)` of bool.

    Args:
        probabilities: `(files, classes)`.
        threshold: From `conformal_threshold`, of the same method.
        method: `"lac"`: labels whose probability is at least the threshold (Sadinle et al. 2019,
            arXiv:1609.00451): the smallest sets on average, of which some may be empty. `"aps"`: labels until
            the more probable ones hold more than 1 - threshold (Romano et al. 2020, arXiv:2006.02544, without
            their randomisation): never empty, larger where the classifier is unsure, covering more than is
            asked for.

    Raises:
        ValueError: A method that there is not.
    """
    return _scores(np.asarray(probabilities, dtype=np.float64), method) >= threshold


def _scores(probabilities: np.ndarray, method: Method) -> np.ndarray:
    """Return how well each label of each file conforms, `(files, classes)`, from 0 to 1."""
    if method == "lac":
        return probabilities
    if method != "aps":
        raise ValueError(f"`method` must be 'lac' or 'aps', got {method!r}.")
    order = np.argsort(-probabilities, axis=1, kind="stable")
    ordered = np.take_along_axis(probabilities, order, axis=1)
    scores = np.empty_like(probabilities)
    np.put_along_axis(scores, order, np.clip(1 - (ordered.cumsum(axis=1) - ordered), 0, 1), axis=1)
    return scores
