"""Calibration: probabilities that mean what they say, and the measures of how far they do.

Fitting and measuring are numpy only; the layer `Temperature` needs Keras, which is imported with it.
"""

from typing import TYPE_CHECKING

from music_zoo.calibration.fitting import fit_temperature
from music_zoo.calibration.reliability import (
    ReliabilityCurve,
    expected_calibration_error,
    plot_reliability,
    reliability_curve,
    reliability_mae,
)

if TYPE_CHECKING:
    from music_zoo.calibration.temperature import Temperature

__all__ = [
    "Temperature",
    "fit_temperature",
    "ReliabilityCurve",
    "expected_calibration_error",
    "plot_reliability",
    "reliability_curve",
    "reliability_mae",
]


def __getattr__(name: str):
    if name != "Temperature":
        raise AttributeError(f"module 'music_zoo.calibration' has no attribute {name!r}")
    from music_zoo.calibration.temperature import Temperature

    return Temperature
