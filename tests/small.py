"""A classifier small enough for tests, with weights that are the same on every backend. Imports Keras."""

import numpy as np

from music_zoo.classifier import Classifier
from music_zoo.layers import STFT, Decibels, FrontEnd, MelFilterBank, MinMaxNormalization
from music_zoo.models import ResNet

SAMPLE_RATE = 8000
#: Arguments for the smallest ResNet that still has every kind of its layers.
SMALL_RESNET = {"n_mels": 16, "stem_width": 4, "widths": (4, 8), "blocks": (1, 1)}


def small_front_end(sample_rate: int = SAMPLE_RATE, method: str = "fft") -> FrontEnd:
    """256-sample frames, every 128 samples, 16 mel bands, 0 to 1."""
    layers = [
        STFT(256, 128, method=method),
        MelFilterBank(sample_rate, 256, 16),
        Decibels(ref="max"),
        MinMaxNormalization(),
    ]
    return FrontEnd(layers, sample_rate)


def small_classifier(
    *, sample_rate: int = SAMPLE_RATE, labels=("a", "b", "c"), seed=0, **settings
) -> Classifier:
    """A classifier for windows of one second; settings are those of `Classifier`."""
    backbone = ResNet(**SMALL_RESNET)
    classifier = Classifier(small_front_end(sample_rate), backbone, labels, **{"window": 1.0} | settings)
    classifier.set_tensors(seeded(classifier.tensors(), seed))
    return classifier


def seeded(tensors: dict[str, np.ndarray], seed: int = 0) -> dict[str, np.ndarray]:
    """Tensors of these names and shapes that keep the size of signals, none of them trivial."""
    rng = np.random.default_rng(seed)
    drawn = {}
    for name, tensor in sorted(tensors.items()):
        noise = rng.standard_normal(tensor.shape)
        if tensor.ndim > 1:  # a kernel: (..., inputs, outputs)
            drawn[name] = noise * np.sqrt(2 / np.prod(tensor.shape[:-1]))
        elif name.endswith(("gamma", "variance", "temperature")):
            drawn[name] = np.exp(0.2 * noise)
        else:
            drawn[name] = 0.2 * noise
    return {name: np.asarray(value, np.float32) for name, value in drawn.items()}


def song(seconds: float, sample_rate: int = SAMPLE_RATE) -> np.ndarray:
    """A sweep over noise: every window differs from the others."""
    t = np.arange(round(seconds * sample_rate)) / sample_rate
    sweep = np.sin(2 * np.pi * (100 + 200 * t) * t)
    return (0.4 * sweep + 0.05 * np.random.default_rng(0).normal(size=len(t))).astype(np.float32)
