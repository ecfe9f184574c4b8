"""How well calibrated a model would be on recordings that its calibrator was not fitted to."""

import warnings

import numpy as np

from music_zoo.audio_model import AudioModel
from music_zoo.evaluation.split_outputs import SplitOutputs


def calibrated_means(model: AudioModel, outputs: SplitOutputs, calibrated: bool = True) -> np.ndarray:
    """Return each recording's probabilities, the mean over its windows, `(recordings, classes)` float64.

    Args:
        model: Whose calibrator to apply.
        outputs: The model's `"logits"`.
        calibrated: False to leave out the calibrator.
    """
    counts = np.array([len(windows) for windows in outputs.windows])
    probabilities = model.probabilities_of(np.concatenate(outputs.windows), calibrated).astype(np.float64)
    return np.add.reduceat(probabilities, np.cumsum(counts) - counts) / counts[:, np.newaxis]


def cross_calibrated(model: AudioModel, outputs: SplitOutputs, folds: int = 5, seed: int = 0) -> np.ndarray:
    """Return probabilities as `calibrated_means`, each by a calibrator fitted to the other folds.

    The calibrator is of the model's kind, and as before afterwards.

    Args:
        model: With a calibrator.
        outputs: The model's `"logits"`.
        folds: Parts of the recordings; single-label, with about as many of each class.
        seed: Of the draw of folds.

    Raises:
        ValueError: Too few recordings, in all or of a class.
    """
    from sklearn.model_selection import KFold, StratifiedKFold

    single = model.task == "single_label"
    if single and (fewest := np.unique(outputs.targets, return_counts=True)[1].min()) < folds:
        raise ValueError(f"{folds} folds need {folds} recordings of each class; of one there are {fewest}.")
    draw = (StratifiedKFold if single else KFold)(folds, shuffle=True, random_state=seed)
    fitted = model.calibrator.get_weights()
    probabilities = np.empty((len(outputs.windows), len(model.labels)))
    try:
        for others, held_out in draw.split(outputs.targets, outputs.targets):
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", UserWarning)  # the fit to all says what there is to say
                windows = [outputs.windows[index] for index in others]
                model.calibrate_logits(windows, outputs.targets[others], model.calibrator.kind)
            part = SplitOutputs("", tuple(outputs.windows[i] for i in held_out), outputs.targets[held_out])
            probabilities[held_out] = calibrated_means(model, part)
    finally:
        model.calibrator.set_weights(fitted)
    return probabilities
