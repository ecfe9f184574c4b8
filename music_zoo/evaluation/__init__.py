"""Evaluation: the numbers in the manifest come from here, and what frozen features are worth."""

from music_zoo.evaluation.label_efficiency import (
    LabelEfficiency,
    label_efficiency,
    plot_label_efficiency,
    stratified_fraction,
)
from music_zoo.evaluation.metrics import (
    bootstrap_interval,
    classification_metrics,
    errors_if_calibrated,
    label_metrics,
)
from music_zoo.evaluation.probes import Probe, ProbeResult, fit_probe, probe, probe_metrics

__all__ = [
    "LabelEfficiency",
    "Probe",
    "ProbeResult",
    "bootstrap_interval",
    "classification_metrics",
    "errors_if_calibrated",
    "fit_probe",
    "label_efficiency",
    "label_metrics",
    "plot_label_efficiency",
    "probe",
    "probe_metrics",
    "stratified_fraction",
]
