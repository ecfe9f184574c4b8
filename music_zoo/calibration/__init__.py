"""Calibration: probabilities that mean what they say, and the measures of how far they do.

Fitting and measuring are numpy only; the layers, `CALIBRATORS`, need Keras, which is imported with them.
"""

from typing import TYPE_CHECKING

from music_zoo.calibration.conformal import conformal_threshold, label_sets
from music_zoo.calibration.fit_isotonic import fit_isotonic
from music_zoo.calibration.fit_vector_scaling import fit_vector_scaling
from music_zoo.calibration.fitting import fit_temperature
from music_zoo.calibration.plots import (
    plot_mae_over_temperature,
    plot_reliability,
    plot_risk_coverage,
    write_curves,
)
from music_zoo.calibration.rejection import (
    RejectThreshold,
    RiskCoverageCurve,
    reject_threshold,
    risk_coverage_curve,
)
from music_zoo.calibration.reliability import (
    ReliabilityCurve,
    adaptive_calibration_error,
    classwise_calibration_error,
    expected_calibration_error,
    reliability_curve,
    reliability_mae,
    weighted_reliability_mae,
)
from music_zoo.calibration.sweep import TemperatureSweep, mae_over_temperature

if TYPE_CHECKING:
    from music_zoo.calibration.calibrators import CALIBRATORS, Isotonic, Temperature, VectorScaling

__all__ = [
    "CALIBRATORS",
    "Isotonic",
    "Temperature",
    "VectorScaling",
    "fit_isotonic",
    "fit_temperature",
    "fit_vector_scaling",
    "RejectThreshold",
    "ReliabilityCurve",
    "RiskCoverageCurve",
    "TemperatureSweep",
    "adaptive_calibration_error",
    "classwise_calibration_error",
    "conformal_threshold",
    "expected_calibration_error",
    "label_sets",
    "mae_over_temperature",
    "plot_mae_over_temperature",
    "plot_reliability",
    "plot_risk_coverage",
    "reject_threshold",
    "reliability_curve",
    "reliability_mae",
    "risk_coverage_curve",
    "weighted_reliability_mae",
    "write_curves",
]


def __getattr__(name: str):
    if name not in ("CALIBRATORS", "Isotonic", "Temperature", "VectorScaling"):
        raise AttributeError(f"module 'music_zoo.calibration' has no attribute {name!r}")
    from music_zoo.calibration import calibrators

    return getattr(calibrators, name)
