"""music_zoo: pretrained music classifiers with calibrated probabilities.

This file is the table of contents. Importing it is cheap: Keras is imported when something first needs it.
"""

from importlib import import_module
from typing import TYPE_CHECKING

from music_zoo.backend import choose_backend, require_backend
from music_zoo.errors import (
    AudioError,
    BackendMissingError,
    DatasetError,
    ManifestError,
    MusicZooError,
    PresetError,
    UnknownPresetError,
)
from music_zoo.zoo import describe, list_models, load

if TYPE_CHECKING:
    from music_zoo.classifier import Classifier
    from music_zoo.ensemble import Ensemble
    from music_zoo.prediction import Prediction

__version__ = "0.1.0"

__all__ = [
    # presets
    "load",
    "list_models",
    "describe",
    # what they are and return
    "Classifier",
    "Ensemble",
    "Prediction",
    # what can go wrong
    "AudioError",
    "BackendMissingError",
    "DatasetError",
    "ManifestError",
    "MusicZooError",
    "PresetError",
    "UnknownPresetError",
]

_LAZY = {
    "Classifier": "music_zoo.classifier",
    "Ensemble": "music_zoo.ensemble",
    "Prediction": "music_zoo.prediction",
}

choose_backend()


def __getattr__(name: str):
    if name not in _LAZY:
        raise AttributeError(f"module 'music_zoo' has no attribute {name!r}")
    require_backend()
    return getattr(import_module(_LAZY[name]), name)
