"""Evaluation: the numbers in the manifest come from here."""

from music_zoo.evaluation.metrics import bootstrap_interval, classification_metrics

__all__ = ["bootstrap_interval", "classification_metrics"]
