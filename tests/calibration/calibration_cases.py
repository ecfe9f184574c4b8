"""Logits and targets drawn so that the right calibration is known, and probabilities that know nothing."""

import numpy as np
from scipy.special import expit, softmax


def single_label_case(
    files: int, classes: int, seed: int, windows: int | None = None, spread: float = 2.0
) -> tuple[np.ndarray, np.ndarray]:
    """Logits and classes drawn from the probabilities that those logits stand for, averaged over windows."""
    rng = np.random.default_rng(seed)
    logits = spread * rng.normal(size=(files, *([windows] if windows else []), classes))
    probabilities = softmax(logits, axis=-1)
    if windows:
        probabilities = probabilities.mean(axis=1)
    targets = (rng.uniform(size=(files, 1)) > probabilities.cumsum(axis=1)[:, :-1]).sum(axis=1)
    return logits, targets


def multi_label_case(
    files: int, classes: int, seed: int, windows: int | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """The same for tags, rarer from class to class."""
    rng = np.random.default_rng(seed)
    logits = 2 * rng.normal(size=(files, *([windows] if windows else []), classes)) - np.arange(classes) / 2
    probabilities = expit(logits)
    if windows:
        probabilities = probabilities.mean(axis=1)
    return logits, (rng.uniform(size=(files, classes)) < probabilities).astype(int)


def unrelated_case(seed: int, files: int = 200, classes: int = 5) -> tuple[np.ndarray, np.ndarray]:
    """Probabilities, and classes that have nothing to do with them."""
    rng = np.random.default_rng(seed)
    return softmax(2 * rng.normal(size=(files, classes)), axis=1), rng.integers(classes, size=files)
