"""The calibrator that reads each class's probability off a monotone table."""

import keras
import numpy as np
from keras import ops

from music_zoo.calibration.base import Calibrator
from music_zoo.calibration.fit_isotonic import KNOTS, fit_isotonic

#: Of the untrained table's ends, so that logarithms stay finite.
EDGE = 1e-6


@keras.saving.register_keras_serializable(package="music_zoo")
class Isotonic(Calibrator):
    """A monotone table per class from posteriors to calibrated ones, linear between its knots.

    Posteriors are those after a shared temperature: of the softmax (single-label), each class against the
    rest, or of the sigmoid (multi-label). Outside of the knots the table is constant. What comes out are
    logits again: single-label the logarithms of what the table says, which the softmax that follows
    normalises; multi-label the log odds.

    Weights: `temperature`, a scalar, and `knots` and `values`, both `(classes, KNOTS)`, rising along the last
    axis; a shorter table repeats its last knot. At first they change next to nothing; they are fitted by
    `music_zoo.calibration.fit_isotonic`.

    Args:
        task: `"single_label"` or `"multi_label"`.
        name: Name of the layer.
        **kwargs: As of `Calibrator`.
    """

    kind = "isotonic"

    def __init__(self, task: str = "single_label", name: str | None = None, **kwargs):
        super().__init__(name=name, **kwargs)
        if task not in ("single_label", "multi_label"):
            raise ValueError(f"`task` must be 'single_label' or 'multi_label', got {task!r}.")
        self.task = task

    def build(self, input_shape):
        """Create the weights."""
        table = (input_shape[-1], KNOTS)
        diagonal = np.broadcast_to(np.linspace(EDGE, 1 - EDGE, KNOTS), table)
        self.temperature = self.add_weight(name="temperature", shape=(), initializer="ones", trainable=False)
        self.knots, self.values = (
            self.add_weight(
                name=name,
                shape=table,
                initializer=lambda shape, dtype=None: ops.convert_to_tensor(diagonal, dtype),
                trainable=False,
            )
            for name in ("knots", "values")
        )

    def call(self, inputs):
        """Look up."""
        scaled = inputs / self.temperature
        posteriors = ops.softmax(scaled) if self.task == "single_label" else ops.sigmoid(scaled)
        # The sum of ramps, one per stretch between two knots, is the interpolation without a search.
        widths = ops.maximum(self.knots[:, 1:] - self.knots[:, :-1], 1e-12)  # 0 between repeated knots
        ramps = ops.clip((posteriors[..., None] - self.knots[:, :-1]) / widths, 0.0, 1.0)
        steps = self.values[:, 1:] - self.values[:, :-1]
        calibrated = self.values[:, 0] + ops.sum(ramps * steps, axis=-1)
        if self.task == "single_label":
            return ops.log(calibrated)
        return ops.log(calibrated) - ops.log(1.0 - calibrated)  # ONNX has no log1p

    def fit(self, logits, targets, task: str) -> None:
        """Set the table, see `music_zoo.calibration.fit_isotonic`.

        Raises:
            ValueError: Another task than the layer's.
        """
        if task != self.task:
            raise ValueError(f"This table is of {self.task} posteriors, it cannot be fitted to {task} ones.")
        self._assign(*fit_isotonic(logits, targets, task))

    def settings(self) -> dict:
        """Return the task."""
        return {"task": self.task}
